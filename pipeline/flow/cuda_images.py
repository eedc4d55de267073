"""Triton kernels around the TV-L1 iterations: resize, gradients, warp and median.

Each repeats, operation by operation, the float32 arithmetic of the OpenCV 5.0 function that `DualTVL1OpticalFlow`
calls, so that results agree bit for bit: TV-L1 multiplies the smallest difference warp by warp. Every fused
multiply-add that OpenCV (or the IPP inside it) performs is written as `fma`; all others must stay unfused, so
launch these kernels with `enable_fp_fusion=False`.

Arrays are contiguous float32; a plane is one image of `height` × `width` pixels. Programs: (blocks of a plane, planes).
"""

# mypy: allow-untyped-defs
import triton
import triton.language as tl

BLOCK = tl.constexpr(512)  # pixels a program


@triton.jit(do_not_specialize=["width", "src_width", "src_pixels", "dst_pixels"])
def resize(src, dst, x_index, x_fraction, y_index, y_fraction, width, src_width, src_pixels, dst_pixels):
    """Bilinear `cv2.resize` of float32 planes.

    The tables hold, per column (row) of `dst`, the two source columns (rows) and the float32 fraction between them.
    """
    plane = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < dst_pixels
    y = i // width
    x = i - y * width
    left, right = tl.load(x_index + 2 * x, inside, 0), tl.load(x_index + 2 * x + 1, inside, 0)
    top, bottom = tl.load(y_index + 2 * y, inside, 0), tl.load(y_index + 2 * y + 1, inside, 0)
    across, down = tl.load(x_fraction + x, inside, 0.0), tl.load(y_fraction + y, inside, 0.0)
    rows = src + plane * src_pixels
    a = tl.load(rows + top * src_width + left, inside, 0.0)
    b = tl.load(rows + top * src_width + right, inside, 0.0)
    c = tl.load(rows + bottom * src_width + left, inside, 0.0)
    d = tl.load(rows + bottom * src_width + right, inside, 0.0)
    upper = tl.fma(b - a, across, a)
    lower = tl.fma(d - c, across, c)
    tl.store(dst + plane * dst_pixels + i, tl.fma(lower - upper, down, upper), inside)


@triton.jit(do_not_specialize=["height", "width"])
def gradients(image, grad_x, grad_y, height, width):
    """Half the difference of the two neighbours; a neighbour beyond the edge is the pixel itself."""
    plane = tl.program_id(1).to(tl.int64) * height * width
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < height * width
    y = i // width
    x = i - y * width
    row = image + plane + y * width
    right = tl.load(row + tl.minimum(x + 1, width - 1), inside, 0.0)
    left = tl.load(row + tl.maximum(x - 1, 0), inside, 0.0)
    column = image + plane + x
    below = tl.load(column + tl.minimum(y + 1, height - 1) * width, inside, 0.0)
    above = tl.load(column + tl.maximum(y - 1, 0) * width, inside, 0.0)
    tl.store(grad_x + plane + i, 0.5 * (right - left), inside)
    tl.store(grad_y + plane + i, 0.5 * (below - above), inside)


@triton.jit
def _cubic_weights(x):
    """The four weights of bicubic interpolation (a = -0.75) at the fraction x, in OpenCV 5's order of operations."""
    y = 1.0 - x
    w0 = y * y * x * -0.75
    w1 = tl.fma(tl.fma(x, 1.25, -2.25), x * x, 1.0)
    w3 = x * x * y * -0.75
    return w0, w1, 1.0 - w0 - w1 - w3, w3


@triton.jit
def _cubic_row(plane, x, y, height, width, inside, w0, w1, w2, w3):
    """One row of the 4 × 4 window whose left column is x; pixels outside the plane are 0."""
    row = plane + y * width
    inside &= (y >= 0) & (y < height)
    total = tl.load(row + x, inside & (x >= 0) & (x < width), 0.0) * w0
    total = tl.fma(tl.load(row + x + 1, inside & (x >= -1) & (x < width - 1), 0.0), w1, total)
    total = tl.fma(tl.load(row + x + 2, inside & (x >= -2) & (x < width - 2), 0.0), w2, total)
    return tl.fma(tl.load(row + x + 3, inside & (x >= -3) & (x < width - 3), 0.0), w3, total)


@triton.jit
def _cubic(plane, x, y, height, width, inside, wx, wy):
    """`cv2.remap` with INTER_CUBIC and a constant border of 0; (x, y) is the window's first pixel."""
    total = _cubic_row(plane, x, y, height, width, inside, wx[0], wx[1], wx[2], wx[3]) * wy[0]
    total = tl.fma(_cubic_row(plane, x, y + 1, height, width, inside, wx[0], wx[1], wx[2], wx[3]), wy[1], total)
    total = tl.fma(_cubic_row(plane, x, y + 2, height, width, inside, wx[0], wx[1], wx[2], wx[3]), wy[2], total)
    return tl.fma(_cubic_row(plane, x, y + 3, height, width, inside, wx[0], wx[1], wx[2], wx[3]), wy[3], total)


@triton.jit
def _floor(x):
    """Without tl.floor, which takes a denormal below 0 for 0."""
    whole = x.to(tl.int32).to(tl.float32)
    return tl.where(whole > x, whole - 1.0, whole)


@triton.jit(do_not_specialize=["height", "width", "pairs"])
def warp(images, grad_x, grad_y, first, second, u, parity, warped, height, width, pairs):
    """Samples frame 1 and its gradients at x + u, and linearises the brightness difference there.

    images, grad_x, grad_y: (frames, H·W); first, second: (pairs,) int32 frame numbers; u: (2 parities, 2, pairs, H·W).
    Writes warped: (3, pairs, H·W): I1x, I1y and rho_c = I1 - I1x·u1 - I1y·u2 - I0.
    """
    pair = tl.program_id(1)
    pixels = height * width
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < pixels
    stride = pairs.to(tl.int64) * pixels
    place = pair.to(tl.int64) * pixels
    flow = u + tl.load(parity + pair) * 2 * stride + place
    u1, u2 = tl.load(flow + i, inside, 0.0), tl.load(flow + stride + i, inside, 0.0)
    y = i // width
    x = i - y * width
    # Clipping changes nothing: the whole window is outside either way, and the integers stay in range.
    at_x = tl.minimum(tl.maximum(x.to(tl.float32) + u1, -8.0), width + 8.0)
    at_y = tl.minimum(tl.maximum(y.to(tl.float32) + u2, -8.0), height + 8.0)
    floor_x, floor_y = _floor(at_x), _floor(at_y)
    wx, wy = _cubic_weights(at_x - floor_x), _cubic_weights(at_y - floor_y)
    left, top = floor_x.to(tl.int32) - 1, floor_y.to(tl.int32) - 1
    frame = tl.load(second + pair).to(tl.int64) * pixels
    i1 = _cubic(images + frame, left, top, height, width, inside, wx, wy)
    i1x = _cubic(grad_x + frame, left, top, height, width, inside, wx, wy)
    i1y = _cubic(grad_y + frame, left, top, height, width, inside, wx, wy)
    i0 = tl.load(images + tl.load(first + pair).to(tl.int64) * pixels + i, inside, 0.0)
    out = warped + place + i
    tl.store(out, i1x, inside)
    tl.store(out + stride, i1y, inside)
    tl.store(out + 2 * stride, i1 - i1x * u1 - i1y * u2 - i0, inside)


@triton.jit
def _order(a, b):
    return tl.minimum(a, b), tl.maximum(a, b)


@triton.jit
def _sort3(a, b, c):
    a, b = _order(a, b)
    b, c = _order(b, c)
    a, b = _order(a, b)
    return a, b, c


@triton.jit
def _sort5(a, b, c, d, e):
    a, b = _order(a, b)
    d, e = _order(d, e)
    c, e = _order(c, e)
    c, d = _order(c, d)
    a, d = _order(a, d)
    a, c = _order(a, c)
    b, e = _order(b, e)
    b, d = _order(b, d)
    b, c = _order(b, c)
    return a, b, c, d, e


@triton.jit
def _columns(x, width):
    return tl.maximum(x - 2, 0), tl.maximum(x - 1, 0), tl.minimum(x + 1, width - 1), tl.minimum(x + 2, width - 1)


@triton.jit
def _row3(plane, columns, x, y, height, width, inside):
    row = plane + tl.minimum(tl.maximum(y, 0), height - 1) * width
    before, after = tl.load(row + columns[1], inside, 0.0), tl.load(row + columns[2], inside, 0.0)
    return before, tl.load(row + x, inside, 0.0), after


@triton.jit
def _row5(plane, columns, x, y, height, width, inside):
    row = plane + tl.minimum(tl.maximum(y, 0), height - 1) * width
    first, last = tl.load(row + columns[0], inside, 0.0), tl.load(row + columns[3], inside, 0.0)
    before, after = tl.load(row + columns[1], inside, 0.0), tl.load(row + columns[2], inside, 0.0)
    return first, before, tl.load(row + x, inside, 0.0), after, last


@triton.jit
def _median3(plane, columns, x, y, height, width, inside):
    a0, a1, a2 = _row3(plane, columns, x, y - 1, height, width, inside)
    b0, b1, b2 = _row3(plane, columns, x, y, height, width, inside)
    c0, c1, c2 = _row3(plane, columns, x, y + 1, height, width, inside)
    a0, b0, c0 = _sort3(a0, b0, c0)
    a1, b1, c1 = _sort3(a1, b1, c1)
    a2, b2, c2 = _sort3(a2, b2, c2)
    low = tl.maximum(tl.maximum(a0, a1), a2)
    high = tl.minimum(tl.minimum(c0, c1), c2)
    b0, b1, b2 = _sort3(b0, b1, b2)
    low, middle, high = _sort3(low, b1, high)
    return middle


@triton.jit
def _median5(plane, columns, x, y, height, width, inside):
    """Columns sorted, then rows: of what is left, the median is the middle one of three (by the 0-1 principle)."""
    a0, a1, a2, a3, a4 = _row5(plane, columns, x, y - 2, height, width, inside)
    b0, b1, b2, b3, b4 = _row5(plane, columns, x, y - 1, height, width, inside)
    c0, c1, c2, c3, c4 = _row5(plane, columns, x, y, height, width, inside)
    d0, d1, d2, d3, d4 = _row5(plane, columns, x, y + 1, height, width, inside)
    e0, e1, e2, e3, e4 = _row5(plane, columns, x, y + 2, height, width, inside)
    a0, b0, c0, d0, e0 = _sort5(a0, b0, c0, d0, e0)
    a1, b1, c1, d1, e1 = _sort5(a1, b1, c1, d1, e1)
    a2, b2, c2, d2, e2 = _sort5(a2, b2, c2, d2, e2)
    a3, b3, c3, d3, e3 = _sort5(a3, b3, c3, d3, e3)
    a4, b4, c4, d4, e4 = _sort5(a4, b4, c4, d4, e4)
    a0, a1, a2, a3, a4 = _sort5(a0, a1, a2, a3, a4)
    b0, b1, b2, b3, b4 = _sort5(b0, b1, b2, b3, b4)
    c0, c1, c2, c3, c4 = _sort5(c0, c1, c2, c3, c4)
    d0, d1, d2, d3, d4 = _sort5(d0, d1, d2, d3, d4)
    e0, e1, e2, e3, e4 = _sort5(e0, e1, e2, e3, e4)
    low = tl.maximum(tl.maximum(a3, b2), tl.maximum(c1, d0))
    high = tl.minimum(tl.minimum(b4, c3), tl.minimum(d2, e1))
    a4, b3, c2, d1, e0 = _sort5(a4, b3, c2, d1, e0)
    low, middle, high = _sort3(low, c2, high)
    return middle


@triton.jit(do_not_specialize=["height", "width", "pairs"])
def median(u, parity, live, out, height, width, pairs, side: tl.constexpr):
    """`cv2.medianBlur` with side 3 or 5 of the live pairs: u (2 parities, 2, pairs, H·W) -> out (2, pairs, H·W)."""
    plane = tl.program_id(1)
    pair = plane % pairs
    if tl.load(live + pair) == 0:
        return
    pixels = height * width
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < pixels
    y = i // width
    x = i - y * width
    place = plane.to(tl.int64) * pixels
    src = u + tl.load(parity + pair) * 2 * pairs.to(tl.int64) * pixels + place
    columns = _columns(x, width)
    if side == 5:
        middle = _median5(src, columns, x, y, height, width, inside)
    else:
        middle = _median3(src, columns, x, y, height, width, inside)
    tl.store(out + place + i, middle, inside)
