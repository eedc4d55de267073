"""Normalisation against numpy's own formulas; fitted on training rows only."""

import numpy as np
import pytest

from pipeline.training import normalise
from pipeline.training.normalise import fit_normaliser


@pytest.fixture
def matrix() -> np.ndarray:
    return np.random.default_rng(0).normal(3, 2, size=(50, 6)).astype(np.float32)


def test_standard_uses_the_training_rows_only(matrix: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalise, "ROWS_AT_A_TIME", 7)
    train = np.arange(50) % 3 == 0
    matrix[:, 5] = 4  # constant: centred, not divided by zero
    expected = (matrix - matrix[train].mean(axis=0)) / np.where(np.arange(6) == 5, 1, matrix[train].std(axis=0))
    other = matrix.copy()
    other[~train] *= 100
    fitted = fit_normaliser("standard", matrix, train)
    np.testing.assert_array_equal(fitted.mean, fit_normaliser("standard", other, train).mean)
    np.testing.assert_array_equal(fitted.std, fit_normaliser("standard", other, train).std)
    fitted.apply_(matrix, (6,))
    np.testing.assert_allclose(matrix, expected, rtol=1e-4, atol=1e-5)


def test_l2_makes_each_product_a_unit_vector(matrix: np.ndarray) -> None:
    matrix[7] = 0
    before = matrix.copy()
    fit_normaliser("l2", matrix, np.ones(50, dtype=bool)).apply_(matrix, (4, 2))
    for part in (slice(0, 4), slice(4, 6)):
        norms = np.linalg.norm(matrix[:, part], axis=1)
        np.testing.assert_allclose(np.delete(norms, 7), 1, rtol=1e-5)
        cosines = (matrix[:, part] * before[:, part]).sum(axis=1) / np.linalg.norm(before[:, part], axis=1).clip(1e-9)
        np.testing.assert_allclose(np.delete(cosines, 7), 1, rtol=1e-5)
    assert (matrix[7] == 0).all()


def test_none_leaves_everything(matrix: np.ndarray) -> None:
    before = matrix.copy()
    fit_normaliser("none", matrix, np.ones(50, dtype=bool)).apply_(matrix, (6,))
    np.testing.assert_array_equal(matrix, before)
