"""Median filters of the flow, 16 pixels at a time, as `cv2.medianBlur` gives them (the border is replicated).

A median picks one of its inputs, so any correct network gives OpenCV's bits. For 5×5, each column of five is sorted
once for the five windows it belongs to, then the rows of a window are sorted (row k: the k-th smallest of its
columns). In such a matrix the median is the middle one of three: the largest element of the diagonal below the
anti-diagonal, the median of the anti-diagonal, the smallest of the diagonal above it;
`tests/pipeline/flow/test_cpu_median.py` tries all 252 cases. LLVM drops the comparisons whose results are not used.
"""

from numba import njit

from pipeline.flow.compiled import kernel
from pipeline.flow.simd import LANES, load, maximum, minimum, store


@njit(inline="always")
def _ordered(a, b):
    return minimum(a, b), maximum(a, b)


@njit(inline="always")
def _sort3(a, b, c):
    a, b = _ordered(a, b)
    b, c = _ordered(b, c)
    a, b = _ordered(a, b)
    return a, b, c


@njit(inline="always")
def _sort5(a, b, c, d, e):
    a, b = _ordered(a, b)
    d, e = _ordered(d, e)
    c, e = _ordered(c, e)
    c, d = _ordered(c, d)
    a, d = _ordered(a, d)
    a, c = _ordered(a, c)
    b, e = _ordered(b, e)
    b, d = _ordered(b, d)
    b, c = _ordered(b, c)
    return a, b, c, d, e


@njit(inline="always")
def _row5(sorted_columns, k, x):
    """The k-th smallest of the five columns around x … x + 15, sorted over the columns."""
    return _sort5(
        load(sorted_columns, k, x - 2),
        load(sorted_columns, k, x - 1),
        load(sorted_columns, k, x),
        load(sorted_columns, k, x + 1),
        load(sorted_columns, k, x + 2),
    )


@njit(inline="always")
def _median5x5(sorted_columns, x):
    _, _, _, a3, a4 = _row5(sorted_columns, 0, x)
    _, _, b2, b3, b4 = _row5(sorted_columns, 1, x)
    _, c1, c2, c3, _ = _row5(sorted_columns, 2, x)
    d0, d1, d2, _, _ = _row5(sorted_columns, 3, x)
    e0, e1, _, _, _ = _row5(sorted_columns, 4, x)
    below = maximum(maximum(a3, b2), maximum(c1, d0))
    _, _, middle, _, _ = _sort5(a4, b3, c2, d1, e0)
    above = minimum(minimum(b4, c3), minimum(d2, e1))
    _, result, _ = _sort3(below, middle, above)
    return result


@njit(inline="always")
def _median3x3(sorted_columns, x):
    _, _, low = _sort3(load(sorted_columns, 0, x - 1), load(sorted_columns, 0, x), load(sorted_columns, 0, x + 1))
    _, middle, _ = _sort3(load(sorted_columns, 1, x - 1), load(sorted_columns, 1, x), load(sorted_columns, 1, x + 1))
    high, _, _ = _sort3(load(sorted_columns, 2, x - 1), load(sorted_columns, 2, x), load(sorted_columns, 2, x + 1))
    _, result, _ = _sort3(low, middle, high)
    return result


@kernel
def median_filter(grid, plane, num_planes, height, width, left, side, scratch):
    """Filter one plane of `grid` in place (see pipeline/flow/cpu_grid.py for its layout).

    side: 3 or 5 px. scratch: float32 (8, columns of grid): rows 0–4 hold the sorted columns of the current row, rows
    5–7 the results of the last three rows, which replace their originals once no window needs these any more.
    """
    reach = side // 2
    end = left + width
    for y in range(height + reach):
        if y < height:
            for x in range(left, end, LANES):
                _sort_columns(grid, plane, num_planes, height, y, x, side, scratch)
            for k in range(side):  # replicate the border
                for d in range(1, reach + 1):
                    scratch[k, left - d] = scratch[k, left]
                    scratch[k, end - 1 + d] = scratch[k, end - 1]
            for x in range(left, end, LANES):
                if side == 5:
                    store(scratch, 5 + y % 3, x, _median5x5(scratch, x))
                else:
                    store(scratch, 5 + y % 3, x, _median3x3(scratch, x))
        done = y - reach
        if done >= 0:
            for x in range(left, end, LANES):
                store(grid, (done + 1) * num_planes + plane, x, load(scratch, 5 + done % 3, x))


@njit(inline="always")
def _sort_columns(grid, plane, num_planes, height, y, x, side, scratch):
    last = height - 1
    up = (max(y - 1, 0) + 1) * num_planes + plane
    here = (y + 1) * num_planes + plane
    down = (min(y + 1, last) + 1) * num_planes + plane
    if side == 5:
        up2 = (max(y - 2, 0) + 1) * num_planes + plane
        down2 = (min(y + 2, last) + 1) * num_planes + plane
        a, b, c, d, e = _sort5(
            load(grid, up2, x), load(grid, up, x), load(grid, here, x), load(grid, down, x), load(grid, down2, x)
        )
        store(scratch, 3, x, d)
        store(scratch, 4, x, e)
    else:
        a, b, c = _sort3(load(grid, up, x), load(grid, here, x), load(grid, down, x))
    store(scratch, 0, x, a)
    store(scratch, 1, x, b)
    store(scratch, 2, x, c)
