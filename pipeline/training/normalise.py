"""Normalisation of features: fitted on the training videos only, kept in the checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Kind = Literal["none", "l2", "standard"]
ROWS_AT_A_TIME = 4096
SMALLEST_STD = 1e-6  # a dimension below this is constant: it is centred, not blown up


@dataclass(frozen=True)
class Normaliser:
    """What is done to each clip's features. `mean` and `std` (D,) are 0 and 1 unless the kind is standard."""

    kind: Kind
    mean: NDArray[np.float32]  # (D,)
    std: NDArray[np.float32]  # (D,)

    @classmethod
    def from_tensors(cls, kind: Kind, tensors: Mapping[str, Tensor]) -> Normaliser:
        """What `tensors` gave, read back from a checkpoint."""
        mean, std = (tensors[f"normaliser.{name}"].numpy().astype(np.float32) for name in ("mean", "std"))
        return cls(kind, mean, std)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it."""
        return {"normaliser.mean": torch.from_numpy(self.mean), "normaliser.std": torch.from_numpy(self.std)}

    def apply_(self, matrix: NDArray[np.float32], blocks: Sequence[int]) -> None:
        """Normalise (clips, D) in place. l2 makes each feature product's part (`blocks`: its D) a unit vector."""
        if self.kind == "none":
            return
        for start in range(0, len(matrix), ROWS_AT_A_TIME):
            rows = matrix[start : start + ROWS_AT_A_TIME]
            if self.kind == "standard":
                rows -= self.mean
                rows /= self.std
                continue
            for stop, dim in zip(np.cumsum(blocks), blocks, strict=True):
                part = rows[:, stop - dim : stop]
                part /= np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)


def fit_normaliser(kind: Kind, matrix: NDArray[np.float32], train_rows: NDArray[np.bool_]) -> Normaliser:
    """Fit on the rows of matrix (clips, D) where train_rows (clips,) is True, in double precision."""
    dim = matrix.shape[1]
    mean, std = np.zeros(dim), np.ones(dim)
    if kind == "standard":
        rows = np.flatnonzero(train_rows)
        mean = sum(chunk.sum(axis=0) for chunk in _chunks(matrix, rows)) / len(rows)
        variance = sum(np.square(chunk - mean).sum(axis=0) for chunk in _chunks(matrix, rows)) / len(rows)
        std = np.sqrt(variance)
        std[std < SMALLEST_STD] = 1.0
    return Normaliser(kind, mean.astype(np.float32), std.astype(np.float32))


def _chunks(matrix: NDArray[np.float32], rows: NDArray[np.int64]) -> Iterator[NDArray[np.float64]]:
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        yield matrix[rows[start : start + ROWS_AT_A_TIME]].astype(np.float64)
