"""RoIAlign against torchvision's op, and against the rule written out reading by reading."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.heads.roi_align import roi_align

GOLDEN = Path(__file__).resolve().parents[2] / "golden/roi_align/roi_align.npz"
with np.load(GOLDEN) as _file:
    ARRAYS = {key: _file[key] for key in _file.files}
CASES = sorted({key.partition("/")[0] for key in ARRAYS})


def published(case: str) -> dict[str, Tensor]:
    return {key.partition("/")[2]: torch.from_numpy(ARRAYS[key]) for key in ARRAYS if key.startswith(f"{case}/")}


@pytest.mark.parametrize("case", CASES)
def test_it_gives_what_the_published_op_gives_and_so_does_its_gradient(case: str) -> None:
    golden = published(case)
    size, ratio, scale = golden["settings"].tolist()
    maps, rois = golden["maps"].requires_grad_(), golden["rois"]
    out = roi_align(
        maps, rois[:, 1:], rois[:, 0].long(), size=int(size), spatial_scale=scale, sampling_ratio=int(ratio)
    )
    torch.testing.assert_close(out, golden["out"], rtol=0, atol=1e-12)
    (out * torch.arange(out.numel(), dtype=out.dtype).cos().reshape(out.shape)).sum().backward()
    assert maps.grad is not None
    torch.testing.assert_close(maps.grad, golden["gradient"], rtol=0, atol=1e-11)


def test_the_goldens_hold_what_they_should() -> None:
    assert len(CASES) == 12
    for case in CASES:
        out = published(case)["out"]
        assert out.abs().max() > 0.1, f"{case} reads nothing"


def test_a_box_of_whole_cells_reads_them() -> None:
    maps = torch.arange(12.0).reshape(1, 1, 3, 4)
    out = roi_align(maps, torch.tensor([[1.0, 1.0, 3.0, 3.0]]), torch.tensor([0]), size=2)
    assert out.tolist() == [[[[5, 6], [9, 10]]]]


def test_float32_and_no_boxes() -> None:
    golden = published("random_7_0_1")
    maps, rois = golden["maps"].float(), golden["rois"].float()
    out = roi_align(maps, rois[:, 1:], rois[:, 0].long(), size=7)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, golden["out"].float(), rtol=0, atol=1e-4)
    maps.requires_grad_()
    none = roi_align(maps, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), size=7)
    assert none.shape == (0, 2, 7, 7)
    none.sum().backward()  # workers average gradients: those without boxes have some too
    assert maps.grad is not None
    assert not maps.grad.any()
