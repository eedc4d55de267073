"""The iteration's kernel, interpreted on the CPU, against the same operations in numpy; and what it is compiled to."""

import re

import numpy as np
import pytest

F32 = np.float32
L_T, THETA, TAUT = F32(0.045), F32(0.3), F32(0.25 / 0.3)


def _state(height, width, pairs=2, seed=0):
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((2, 2, pairs, height, width)).astype(F32)
    p = (rng.standard_normal((2, 4, pairs, height, width)) / 3).astype(F32)
    warped = (rng.standard_normal((3, pairs, height, width)) * 20).astype(F32)
    warped[:, :, 3:6, 4:20] = 0  # no gradient: nothing to divide by
    warped[:2, :, 7, 7] = 2e-4
    return u, p, warped


def _iteration(u, p, warped):
    """tvl1flow.cpp's estimateV, divergence, estimateU and estimateDualVariables of one pair: (u, p, |Δu|²)."""
    (u1, u2), (p11, p12, p21, p22), (ix, iy, rho_c) = u, p, warped
    rho, grad = rho_c + (ix * u1 + iy * u2), ix * ix + iy * iy
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(grad > np.finfo(F32).eps, -rho / grad, F32(0))
    factor = np.where(rho < -L_T * grad, L_T, np.where(rho > L_T * grad, -L_T, factor))
    new = []
    for old, gradient, px, py in ((u1, ix, p11, p12), (u2, iy, p21, p22)):
        along = np.diff(px, axis=1, prepend=F32(0)) + np.diff(py, axis=0, prepend=F32(0))
        along[:, 0] = (px[:, 0] + py[:, 0]) - np.concatenate([[F32(0)], py[:-1, 0]])
        new.append((old + factor * gradient) + THETA * along)
    dual = []
    for flow, px, py in ((new[0], p11, p12), (new[1], p21, p22)):
        dx, dy = np.diff(flow, axis=1, append=flow[:, -1:]), np.diff(flow, axis=0, append=flow[-1:])
        norm = F32(1) + TAUT * np.sqrt(np.float64(dx) ** 2 + np.float64(dy) ** 2).astype(F32)
        dual += [(px + TAUT * dx) / norm, (py + TAUT * dy) / norm]
    return np.stack(new), np.stack(dual), (new[0] - u1) ** 2 + (new[1] - u2) ** 2


def step_in_kernel(u, smoothed, p, warped, parity, live, limits):
    import torch
    import triton

    from pipeline.flow import cuda_kernels

    _, _, pairs, height, width = u.shape
    tensors = [torch.from_numpy(array) for array in (u, p, warped)]
    source = torch.from_numpy(u[0].copy() if smoothed is None else smoothed)
    tiles = triton.cdiv(height - 1, cuda_kernels.TILE_Y.value - 1) * triton.cdiv(
        width - 1, cuda_kernels.TILE_X.value - 1
    )
    numbers = {"arrived": [0] * pairs, "parity": parity, "live": live, "iterations": [5] * pairs, "pending": [pairs]}
    state = {name: torch.tensor(values, dtype=torch.int32) for name, values in numbers.items()}
    cuda_kernels.step[(tiles, pairs)](
        tensors[0], source, tensors[1], tensors[2],
        torch.empty(pairs, tiles), *state.values(), torch.tensor(limits, dtype=torch.float64),
        height, width, pairs, float(L_T), float(THETA), float(TAUT), use_smoothed=smoothed is not None,
    )  # fmt: skip
    return tensors[0].numpy(), tensors[1].numpy(), {name: tensor.tolist() for name, tensor in state.items()}


@pytest.mark.parametrize("size", [(17, 24), (32, 32), (40, 65)])  # less than a tile, one tile, tiles with remainders
def test_step_has_the_bits_of_the_reference_in_both_halves(interpreted, size):
    u, p, warped = _state(*size)
    new_u, new_p, state = interpreted(step_in_kernel, u, None, p, warped, [0, 1], [1, 1], (0.0, 0.0, 0.0))
    for pair, half in enumerate([0, 1]):
        expected_u, expected_p, _ = _iteration(u[half, :, pair], p[half, :, pair], warped[:, pair])
        np.testing.assert_array_equal(new_u[1 - half, :, pair], expected_u)
        np.testing.assert_array_equal(new_p[1 - half, :, pair], expected_p)
        np.testing.assert_array_equal(new_u[half, :, pair], u[half, :, pair])
        np.testing.assert_array_equal(new_p[half, :, pair], p[half, :, pair])
    assert state == {"arrived": [0, 0], "parity": [1, 0], "live": [1, 1], "iterations": [6, 6], "pending": [2]}


def test_step_reads_the_smoothed_flow_and_skips_a_pair_that_has_stopped(interpreted):
    u, p, warped = _state(20, 40)
    smoothed = _state(20, 40, seed=1)[0][0]
    new_u, new_p, state = interpreted(step_in_kernel, u, smoothed, p, warped, [0, 1], [1, 0], (0.0, 0.0, 0.0))
    expected_u, expected_p, _ = _iteration(smoothed[:, 0], p[0, :, 0], warped[:, 0])
    np.testing.assert_array_equal(new_u[1, :, 0], expected_u)
    np.testing.assert_array_equal(new_p[1, :, 0], expected_p)
    np.testing.assert_array_equal(new_u[:, :, 1], u[:, :, 1])
    np.testing.assert_array_equal(new_p[:, :, 1], p[:, :, 1])
    assert state["parity"] == [1, 1]
    assert state["iterations"] == [6, 5]


@pytest.mark.parametrize("ulps", [-1, 0, 1])
def test_a_pair_stops_once_the_float32_sum_is_at_most_the_threshold(interpreted, ulps):
    """Thresholds one float32 apart, around the sum that OpenCV would make: only the sequential sum tells them apart."""
    u, p, warped = _state(40, 40, pairs=1)
    error = np.cumsum(_iteration(u[0, :, 0], p[0, :, 0], warped[:, 0])[2].ravel(), dtype=F32)[-1]
    threshold = float(error + ulps * np.spacing(error))
    limits = threshold, threshold * 0.999, threshold * 1.001
    state = interpreted(step_in_kernel, u, None, p, warped, [0], [1], limits)[2]
    stopped = ulps >= 0
    assert (state["live"], state["pending"]) == ([int(not stopped)], [int(not stopped)])


@pytest.mark.parametrize(("limits", "live"), [((0.0, 1e9, 1e9), 0), ((1e9, 0.0, 0.0), 1)])
def test_outside_the_doubtful_range_the_float64_sum_decides(interpreted, limits, live):
    u, p, warped = _state(17, 24, pairs=1)
    assert interpreted(step_in_kernel, u, None, p, warped, [0], [1], limits)[2]["live"] == [live]


def sum_in_kernel(terms):
    """Σ terms, given as the squares of the first component's change."""
    import torch
    import triton
    import triton.language as tl

    from pipeline.flow import cuda_kernels

    namespace = {"tl": tl, "sequential_sum": cuda_kernels.sequential_sum}
    old, new = torch.zeros(2, len(terms)), torch.zeros(2, len(terms))
    new[0] = torch.from_numpy(terms)
    out = torch.zeros(1)
    run_sum.__globals__.update(namespace)
    triton.jit(run_sum)[(1,)](old, new, out, len(terms))
    return out.numpy()[0]


def run_sum(old, new, out, pixels):
    tl.store(out, sequential_sum(old, new, pixels, pixels))  # noqa: F821


@pytest.mark.parametrize("kind", ["even", "heavy-tailed", "ties", "nothing", "tiny"])
def test_sequential_sum_has_the_bits_of_adding_one_by_one(interpreted, kind):
    rng = np.random.default_rng(2)
    changes = {
        "even": rng.random(2500),
        "heavy-tailed": rng.standard_cauchy(2500) * 1e-3,
        "ties": np.where(rng.random(2500) < 0.02, 2.0**-12, 2.0**-5),  # 2^-24 beside a sum in [1, 2): halfway
        "nothing": np.zeros(1500),
        "tiny": rng.random(1500) * 1e-21,
    }[kind].astype(F32)
    terms = changes * changes + F32(0)
    assert interpreted(sum_in_kernel, changes) == np.cumsum(terms, dtype=F32)[-1]


def test_compiled_code_fuses_nothing_and_rounds_correctly(tmp_path, monkeypatch):
    """Needs no GPU: the instructions that Triton makes for Hopper, without contraction, flushing or approximation."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from pipeline.flow import cuda_kernels

    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))
    kinds = ["*fp32"] * 5 + ["*i32"] * 5 + ["*fp64"] + ["i32"] * 3 + ["fp32"] * 3 + ["constexpr"]
    signature = dict(zip(cuda_kernels.step.arg_names, kinds, strict=True))
    source = ASTSource(cuda_kernels.step, signature, constexprs={(len(kinds) - 1,): True})
    compiled = triton.compile(
        source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False, "num_warps": 8}
    )
    code = compiled.asm["ptx"]
    assert not re.findall(r"fma\.\w+\.f32|mad\.f32|\.ftz|\.approx|div\.full", code)
    assert "div.rn.f32" in code
    assert "sqrt.rn.f64" in code
