"""The kernels around the iterations, interpreted on the CPU, against the OpenCV functions whose bits they must have."""

import re

import cv2
import numpy as np
import pytest

SIZES = [(48, 40), (31, 77), (17, 16), (33, 97)]


def _image(size, seed=0):
    return ((np.random.default_rng(seed).random(size) - 0.3) * 255).astype(np.float32)


def resize_in_kernel(image, size, scale, extrapolate):
    import torch

    from pipeline.flow.cuda_solve import resize

    planes = torch.from_numpy(np.stack([image, 2 * image]))
    return resize(planes, size, scale=scale, extrapolate=extrapolate).numpy()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("step", [0.8, 0.7])
def test_resize_down_and_up_has_opencvs_bits(interpreted, size, step):
    image = _image(size)
    small = cv2.resize(image, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
    found = interpreted(resize_in_kernel, image, small.shape, (1 / step, 1 / step), True)
    np.testing.assert_array_equal(found[0], small)
    np.testing.assert_array_equal(found[1], 2 * small)

    large = cv2.resize(small, size[::-1], interpolation=cv2.INTER_LINEAR)
    scale = small.shape[0] / size[0], small.shape[1] / size[1]
    np.testing.assert_array_equal(interpreted(resize_in_kernel, small, size, scale, False)[0], large)


def gradients_in_kernel(images):
    import torch

    from pipeline.flow.cuda_solve import gradients

    return [grad.numpy() for grad in gradients(torch.from_numpy(images))]


def test_gradients_are_half_differences_with_repeated_edges(interpreted):
    images = np.stack([_image((19, 37)), _image((19, 37), 1)])
    wide = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge")
    grad_x, grad_y = interpreted(gradients_in_kernel, images)
    np.testing.assert_array_equal(grad_x, np.float32(0.5) * (wide[:, 1:-1, 2:] - wide[:, 1:-1, :-2]))
    np.testing.assert_array_equal(grad_y, np.float32(0.5) * (wide[:, 2:, 1:-1] - wide[:, :-2, 1:-1]))


def warp_in_kernel(images, u, parity):
    import torch

    from pipeline.flow import cuda_images
    from pipeline.flow.cuda_solve import EXACT, _blocks, gradients

    frames, flow = torch.from_numpy(images), torch.from_numpy(u)
    _, height, width = images.shape
    count = len(parity)
    first, second = torch.arange(count, dtype=torch.int32), torch.arange(1, count + 1, dtype=torch.int32)
    warped = torch.full((3, count, height, width), float("nan"))
    cuda_images.warp[_blocks(height * width, count)](
        frames, *gradients(frames), first, second, flow, torch.tensor(parity, dtype=torch.int32), warped,
        height, width, count, **EXACT,
    )  # fmt: skip
    return warped.numpy()


@pytest.mark.parametrize("spread_px", [0.4, 3, 40])
def test_warp_has_the_bits_of_remap_inside_at_borders_and_outside(interpreted, spread_px):
    height, width = 24, 37
    images = np.stack([_image((height, width), seed) for seed in range(3)])
    u = (np.random.default_rng(9).standard_normal((2, 2, 2, height, width)) * spread_px).astype(np.float32)
    u[..., 0, 0], u[..., 0, 1], u[..., 0, 2] = 0, -1e-40, 1e9
    warped = interpreted(warp_in_kernel, images, u, [0, 1])
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    wide = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge")
    grad_x = np.float32(0.5) * (wide[:, 1:-1, 2:] - wide[:, 1:-1, :-2])
    grad_y = np.float32(0.5) * (wide[:, 2:, 1:-1] - wide[:, :-2, 1:-1])
    for pair, half in enumerate([0, 1]):
        u1, u2 = u[half, :, pair]
        i1, i1x, i1y = (
            cv2.remap(plane[pair + 1], x + u1, y + u2, cv2.INTER_CUBIC) for plane in (images, grad_x, grad_y)
        )
        np.testing.assert_array_equal(warped[0, pair], i1x)
        np.testing.assert_array_equal(warped[1, pair], i1y)
        np.testing.assert_array_equal(warped[2, pair], i1 - i1x * u1 - i1y * u2 - images[pair])


def median_in_kernel(u, parity, live, side):
    import torch

    from pipeline.flow import cuda_images
    from pipeline.flow.cuda_solve import EXACT, _blocks

    flow = torch.from_numpy(u)
    _, _, count, height, width = u.shape
    out = torch.full(u.shape[1:], -1.0)
    numbers = [torch.tensor(values, dtype=torch.int32) for values in (parity, live)]
    cuda_images.median[_blocks(height * width, 2 * count)](
        flow, *numbers, out, height, width, count, side=side, **EXACT
    )
    return out.numpy()


@pytest.mark.parametrize("side", [3, 5])
def test_median_is_opencvs_and_skips_pairs_that_have_stopped(interpreted, side):
    u = np.random.default_rng(4).standard_normal((2, 2, 3, 21, 30)).astype(np.float32)
    u[:, :, 1] = np.round(u[:, :, 1])  # many equal values
    found = interpreted(median_in_kernel, u, [0, 1, 0], [1, 1, 0], side)
    for component in range(2):
        for pair, half in ((0, 0), (1, 1)):
            np.testing.assert_array_equal(found[component, pair], cv2.medianBlur(u[half, component, pair], side))
        assert (found[component, 2] == -1).all()


def test_compiled_warp_fuses_only_what_is_written_so(tmp_path, monkeypatch):
    """Needs no GPU: 3 planes of 16 taps, 15 fused each, and 2 weights of 2; nothing is flushed or approximate."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from pipeline.flow import cuda_images

    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))
    kinds = ["*fp32"] * 3 + ["*i32"] * 2 + ["*fp32", "*i32", "*fp32"] + ["i32"] * 3
    source = ASTSource(cuda_images.warp, dict(zip(cuda_images.warp.arg_names, kinds, strict=True)))
    options = {"enable_fp_fusion": False, "num_warps": 4}
    code = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
    pixels_a_thread = cuda_images.BLOCK.value // (4 * 32)
    assert len(re.findall(r"fma\.rn\.f32", code)) == (3 * 15 + 2 * 2) * pixels_a_thread
    assert not re.findall(r"\.ftz|\.approx|mad\.f32", code)
