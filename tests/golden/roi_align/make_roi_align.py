"""Writes roi_align.npz: what torchvision's compiled roi_align (aligned=True, float64, CPU) gives, and its gradients.

    pip install torchvision==0.28.0     # beside the torch that it was built for
    python tests/golden/roi_align/make_roi_align.py

NAME/maps (N, C, H, W), NAME/rois (R, 5) index x1 y1 x2 y2, NAME/settings (size, sampling_ratio, spatial_scale),
NAME/out (R, C, size, size), NAME/gradient: of sum(out · cos(0, 1, 2 …)) in the maps.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torchvision.ops import roi_align

HERE = Path(__file__).resolve().parent
BORDERS = (  # in cells of a map of 9 rows and 11 columns
    (0, 0, 11, 9),  # the whole map
    (-3, -2, 4, 5),
    (8, 6, 14, 12),
    (-1.5, -1.5, 12.5, 10.5),
    (-40, -30, 50, 45),  # mostly far outside
    (12, 10, 15, 14),  # wholly outside
    (-9, 1, -2, 5),
    (11, 9, 12, 10),  # touches the corner
    (-1, -1, 0, 0),
    (10.5, 0.5, 11.5, 9.5),
)
SIZES = (
    (5, 4, 5, 4),  # a point
    (5, 4, 5, 7),  # a line
    (3.2, 4.1, 3.2001, 4.1001),
    (5.5, 4.5, 6.5, 5.5),  # one cell
    (0.5, 0.5, 10.5, 8.5),  # from the first centre to the last
    (2, 2, 9, 9),  # a bin a cell
    (2, 1, 9.001, 8),  # one more part across than down
    (-500, -300, 700, 400),
    (0, 0, 1e-7, 9),
)


def main() -> None:
    generator = np.random.default_rng(5)
    arrays: dict[str, np.ndarray] = {}
    for kind, boxes in (("random", None), ("borders", BORDERS), ("sizes", SIZES)):
        for size, ratio, scale in ((7, 0, 1.0), (7, 2, 1.0), (3, 1, 1 / 16), (1, 0, 0.25)):
            maps = generator.standard_normal((3, 2, 9, 11))
            if boxes is None:
                corners = generator.uniform(-3, 14, size=(24, 2, 2))
                cells = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
            else:
                cells = np.asarray(boxes, dtype=np.float64)
            rois = np.concatenate([generator.integers(0, 3, size=(len(cells), 1)), cells / scale], axis=1)
            name = f"{kind}_{size}_{ratio}_{round(1 / scale)}"
            arrays |= {f"{name}/{key}": value for key, value in _published(maps, rois, size, ratio, scale).items()}
    np.savez_compressed(HERE / "roi_align.npz", **arrays)


def _published(maps: np.ndarray, rois: np.ndarray, size: int, ratio: int, scale: float) -> dict[str, np.ndarray]:
    leaf = torch.from_numpy(maps).requires_grad_()
    out = roi_align(leaf, torch.from_numpy(rois), size, spatial_scale=scale, sampling_ratio=ratio or -1, aligned=True)
    (out * torch.arange(out.numel(), dtype=out.dtype).cos().reshape(out.shape)).sum().backward()
    settings = np.asarray([size, ratio, scale])
    gradient = leaf.grad.numpy() if leaf.grad is not None else np.zeros_like(maps)
    return {"maps": maps, "rois": rois, "settings": settings, "out": out.detach().numpy(), "gradient": gradient}


if __name__ == "__main__":
    main()
