from __future__ import annotations

import numpy as np

from pipeline.metrics.coverage import coverage


def test_by_names_not_numbers(table_of):
    truth = table_of([[0, 0, 0, 1], [1, 0, 0, 1]], videos=("a", "b", "c"))
    rows = [[0, 0, 0, 1, 0.5], [1, 0, 0, 1, 0.5], [1, 0, 0, 1, 0.5], [3, 0, 0, 1, 0.5]]
    found = coverage(truth, table_of(rows, videos=("b", "x", "a", "y")))
    assert (found.videos, found.missing, found.elsewhere) == (3, ("a", "c"), ("x", "y"))
    assert (found.num_predictions, found.num_elsewhere) == (4, 3)
    assert found.lines() == [
        "coverage: 1 of 3 videos of the truth (33.3%) have predictions; without: a, c",
        "predictions: 4, 3 of them in 2 videos that the truth does not have: x, y",
    ]


def test_all_covered_and_none(table_of):
    names = [str(index) for index in range(8)]
    truth = table_of([[index, 0, 0, 1] for index in range(8)], videos=names)
    found = table_of([[index, 0, 0, 1, 0.5] for index in range(8)], videos=names)
    assert coverage(truth, found).lines() == [
        "coverage: 8 of 8 videos of the truth (100.0%) have predictions",
        "predictions: 8, all in videos of the truth",
    ]
    nothing = coverage(truth, table_of(np.zeros((0, 5)), videos=names)).lines()
    assert nothing == [
        "coverage: 0 of 8 videos of the truth (0.0%) have predictions; without: 0, 1, 2, 3, 4 and 3 more",
        "predictions: 0",
    ]
    elsewhere = coverage(truth, table_of([[0, 0, 0, 1, 0.5]], videos=("x",))).lines()[1]
    assert elsewhere == "predictions: 1, all in 1 videos that the truth does not have: x"
