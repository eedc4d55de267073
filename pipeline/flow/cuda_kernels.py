"""The Triton kernel of TV-L1's inner iteration, with the stopping rule decided on the device.

A launch does one iteration of every live pair of a group. A program owns a tile: it computes u on the whole tile,
whose last row and column belong to its neighbours (they compute the same bits), waits for itself, and then does the
dual step on the rest from its own u. So u and p are read once and written once, 60 bytes a pixel, into the other half
of ping-pong buffers.

What limits it: a pixel takes about 90 float operations, but 5 of them are divisions and 2 are float64 roots, all
correctly rounded as OpenCV's are: about 350 instructions for sm_90. Against 60 bytes of traffic, arithmetic and memory
come out near balance on a Hopper GPU (reckoned, not measured); so nothing is gained by several iterations a launch,
which would recompute tile borders to save traffic, and a group need not fit the cache.

The order of operations is that of opencv_contrib's tvl1flow.cpp, unfused: launch with `enable_fp_fusion=False`.
"""

# mypy: allow-untyped-defs
import triton
import triton.language as tl

TILE_Y = tl.constexpr(32)
TILE_X = tl.constexpr(32)
SUM_BLOCK = tl.constexpr(1024)


@triton.jit
def _hypot(x, y):
    wide_x, wide_y = x.to(tl.float64), y.to(tl.float64)
    return tl.sqrt(wide_x * wide_x + wide_y * wide_y).to(tl.float32)


@triton.jit
def _squared_update(old, new, stride, i, mask):
    """|Δu|² of the pixels i, as OpenCV's error sum takes it."""
    # .cg: other programs, on other multiprocessors, have just written most of it.
    new1 = tl.load(new + i, mask, 0.0, cache_modifier=".cg")
    new2 = tl.load(new + stride + i, mask, 0.0, cache_modifier=".cg")
    d1, d2 = new1 - tl.load(old + i, mask, 0.0), new2 - tl.load(old + stride + i, mask, 0.0)
    return d1 * d1 + d2 * d2


@triton.jit
def sequential_sum(old, new, stride, pixels):
    """Σ|Δu|² accumulated in float32, pixel after pixel, as OpenCV does: to the bit, but a block at a time.

    While the running sum stays in one binade, its grid is fixed, and adding a term adds the term rounded to that grid:
    these whole numbers may be added in any order. Where a block leaves the binade, or holds a term halfway between two
    grid points (its rounding depends on the sum so far), it is added term by term.
    """
    total = tl.full((), 0.0, tl.float32)
    start = 0
    while start < pixels:  # not range(): Triton's interpreter can't count to a kernel's argument with NumPy 2.4
        i = start + tl.arange(0, SUM_BLOCK)
        terms = _squared_update(old, new, stride, i, i < pixels)
        bits = total.to(tl.int32, bitcast=True)
        exponent = bits >> 23
        per_grid_step = ((277 - tl.minimum(tl.maximum(exponent, 24), 253)) << 23).to(tl.float32, bitcast=True)
        steps = terms * per_grid_step  # exact: a power of two
        regular = (exponent >= 24) & (exponent <= 253) & (tl.max(steps, 0) < 8388608.0)
        whole = tl.where(regular, steps, 0.0).to(tl.int32)
        part = steps - whole.to(tl.float32)
        regular = regular & (tl.max((part == 0.5).to(tl.int32), 0) == 0)
        grown = (bits & 0x7FFFFF) + tl.sum((whole + (part > 0.5).to(tl.int32)).to(tl.int64), 0)
        if regular & (grown < 8388608):
            total = ((exponent << 23) | grown.to(tl.int32)).to(tl.float32, bitcast=True)
        else:
            j = start
            while j < tl.minimum(start + SUM_BLOCK, pixels):
                total += _squared_update(old, new, stride, j, j < pixels)
                j += 1
        start += SUM_BLOCK
    return total


@triton.jit
def _is_done(old, new, stride, pixels, errors, tiles, limits):
    """Whether OpenCV's float32 error is at most limits[0]; only between limits[1] and limits[2] must it be made."""
    total = tl.zeros((256,), tl.float64)
    start = 0
    while start < tiles:
        i = start + tl.arange(0, 256)
        total += tl.load(errors + i, i < tiles, 0.0, cache_modifier=".cg").to(tl.float64)
        start += 256
    error = tl.sum(total, 0)
    done = error <= tl.load(limits + 1)
    if (error > tl.load(limits + 1)) & (error <= tl.load(limits + 2)):
        done = sequential_sum(old, new, stride, pixels).to(tl.float64) <= tl.load(limits)
    return done


@triton.jit(do_not_specialize=["height", "width", "pairs"])
def step(
    u, smoothed, p, warped, errors, arrived, parity, live, iterations, pending, limits,
    height, width, pairs, l_t, theta, taut, use_smoothed: tl.constexpr,
):  # fmt: skip
    """One inner iteration. Programs: (tiles of a pair, pairs).

    u: (2 parities, 2, pairs, H·W); p: (2 parities, 4, pairs, H·W); warped: (3, pairs, H·W): I1x, I1y, rho_c;
    smoothed: (2, pairs, H·W): u after the median filter, read instead of u if use_smoothed. Per pair: parity says which
    half is current, live is 0 once the pair has stopped, arrived counts programs, iterations counts launches that did
    something; errors: (pairs, tiles); pending: how many pairs of the group are live; limits: see `_is_done`.
    """
    pair = tl.program_id(1)
    if tl.load(live + pair) == 0:
        return
    tiles_x = tl.cdiv(width - 1, TILE_X - 1)
    tile_y = tl.program_id(0) // tiles_x
    tile_x = tl.program_id(0) - tile_y * tiles_x
    local_y = tl.arange(0, TILE_Y)[:, None]
    local_x = tl.arange(0, TILE_X)[None, :]
    y = tile_y * (TILE_Y - 1) + local_y
    x = tile_x * (TILE_X - 1) + local_x
    inside = (y < height) & (x < width)
    # The last row and column of a tile are the next tile's, except at the image's own edge.
    own = inside & ((local_y < TILE_Y - 1) | (y == height - 1)) & ((local_x < TILE_X - 1) | (x == width - 1))
    i = y * width + x

    pixels = height * width
    stride = pairs.to(tl.int64) * pixels
    place = pair.to(tl.int64) * pixels
    half = tl.load(parity + pair)
    old = u + half * 2 * stride + place
    if use_smoothed:
        old = smoothed + place
    new = u + (1 - half) * 2 * stride + place
    dual = p + half * 4 * stride + place
    dual_new = p + (1 - half) * 4 * stride + place

    # Threshold step.
    u1, u2 = tl.load(old + i, inside, 0.0), tl.load(old + stride + i, inside, 0.0)
    i1x = tl.load(warped + place + i, inside, 0.0)
    i1y = tl.load(warped + place + stride + i, inside, 0.0)
    rho = tl.load(warped + place + 2 * stride + i, inside, 0.0) + (i1x * u1 + i1y * u2)
    grad = i1x * i1x + i1y * i1y
    bound = l_t * grad
    solved = tl.where(grad > 1.1920928955078125e-07, tl.div_rn(-rho, tl.where(grad > 0.0, grad, 1.0)), 0.0)
    factor = tl.where(rho < -bound, l_t, tl.where(rho > bound, -l_t, solved))
    # u += theta · div p. A missing neighbour counts as 0; in the first column OpenCV associates the other way.
    has_left, has_above = inside & (x > 0), inside & (y > 0)
    p11, p12 = tl.load(dual + i, inside, 0.0), tl.load(dual + stride + i, inside, 0.0)
    p21, p22 = tl.load(dual + 2 * stride + i, inside, 0.0), tl.load(dual + 3 * stride + i, inside, 0.0)
    p11_left, p12_above = tl.load(dual + i - 1, has_left, 0.0), tl.load(dual + stride + i - width, has_above, 0.0)
    p21_left = tl.load(dual + 2 * stride + i - 1, has_left, 0.0)
    p22_above = tl.load(dual + 3 * stride + i - width, has_above, 0.0)
    div1 = tl.where(x > 0, (p11 - p11_left) + (p12 - p12_above), (p11 + p12) - p12_above)
    div2 = tl.where(x > 0, (p21 - p21_left) + (p22 - p22_above), (p21 + p22) - p22_above)
    new1 = (u1 + factor * i1x) + theta * div1
    new2 = (u2 + factor * i1y) + theta * div2
    tl.store(new + i, new1, inside)
    tl.store(new + stride + i, new2, inside)
    d1, d2 = new1 - u1, new2 - u2
    error = tl.sum(tl.sum(tl.where(own, d1 * d1 + d2 * d2, 0.0), 1), 0)

    # Dual step, from the u that this very program has just written.
    tl.debug_barrier()
    to_right, to_below = own & (x < width - 1), own & (y < height - 1)
    right1, right2 = tl.load(new + i + 1, to_right, 0.0), tl.load(new + stride + i + 1, to_right, 0.0)
    below1, below2 = tl.load(new + i + width, to_below, 0.0), tl.load(new + stride + i + width, to_below, 0.0)
    u1x, u1y = tl.where(to_right, right1 - new1, 0.0), tl.where(to_below, below1 - new1, 0.0)
    u2x, u2y = tl.where(to_right, right2 - new2, 0.0), tl.where(to_below, below2 - new2, 0.0)
    norm1 = 1.0 + taut * _hypot(u1x, u1y)
    norm2 = 1.0 + taut * _hypot(u2x, u2y)
    tl.store(dual_new + i, tl.div_rn(p11 + taut * u1x, norm1), own)
    tl.store(dual_new + stride + i, tl.div_rn(p12 + taut * u1y, norm1), own)
    tl.store(dual_new + 2 * stride + i, tl.div_rn(p21 + taut * u2x, norm2), own)
    tl.store(dual_new + 3 * stride + i, tl.div_rn(p22 + taut * u2y, norm2), own)

    # The last program of a pair to get here decides for the pair; the order in which they arrive changes nothing.
    tiles = tl.num_programs(0)
    tl.store(errors + pair * tiles + tl.program_id(0), error)
    tl.debug_barrier()
    if tl.atomic_add(arrived + pair, 1) == tiles - 1:
        tl.store(arrived + pair, 0)
        tl.store(parity + pair, 1 - half)
        tl.store(iterations + pair, tl.load(iterations + pair) + 1)
        if _is_done(old, new, stride, pixels, errors + pair * tiles, tiles, limits):
            tl.store(live + pair, 0)
            tl.atomic_add(pending, -1)
