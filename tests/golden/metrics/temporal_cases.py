"""Segments and predictions on which the official temporal metrics were run: by seed, and by hand. numpy only.

A case is a dict of rows: truth (N, 4) and predictions (M, 5) float64: video, label, start_s, end_s and, of predictions,
score. Label -1 is Ambiguous. `names` says what the videos and classes are called.
"""

from __future__ import annotations

import numpy as np

Case = dict[str, np.ndarray]


def names(num: int, what: str) -> list[str]:
    """Names whose order is not that of their numbers, as the order of names decides ties in one of the metrics."""
    return [f"{what}_{(7 * index + 3) % 101:03d}" for index in range(num)]


def random_case(
    seed: int,
    *,
    videos: int = 12,
    classes: int = 4,
    truths: int = 60,
    predictions: int = 400,
    decimals: int | None = None,
    score_decimals: int | None = None,
    ambiguous: int = 0,
    length_s: float = 60.0,
) -> Case:
    """Half of the predictions are truths moved a little. A number of decimals makes ties."""
    rng = np.random.default_rng(seed)

    def segments(num: int) -> np.ndarray:
        start = rng.uniform(0, length_s, num)
        return np.stack([start, start + rng.exponential(length_s / 8, num)], axis=1)

    truth = np.column_stack([rng.integers(0, videos, truths), rng.integers(0, classes, truths), segments(truths)])
    truth[:classes, 1] = np.arange(classes)
    near = truth[rng.integers(0, truths, predictions // 2)]
    moved = near[:, 2:] + rng.normal(0, 0.25, (len(near), 2)) * (near[:, 3:] - near[:, 2:3])
    far = predictions - len(near)
    anywhere = np.column_stack([rng.integers(0, videos + 2, far), rng.integers(0, classes, far), segments(far)])
    found = np.concatenate([np.column_stack([near[:, :2], moved]), anywhere])
    found = np.column_stack([found, rng.uniform(0, 1, predictions)])[rng.permutation(predictions)]
    vague = np.column_stack([rng.integers(0, videos, ambiguous), np.full(ambiguous, -1), segments(ambiguous)])
    truth = np.concatenate([truth, vague])
    if decimals is not None:
        truth[:, 2:], found[:, 2:4] = truth[:, 2:].round(decimals), found[:, 2:4].round(decimals)
    if score_decimals is not None:
        found[:, 4] = found[:, 4].round(score_decimals)
    return {"truth": truth, "predictions": found}


def random_cases(*, ambiguous: int = 0) -> dict[str, Case]:
    """Cases with and without ties of scores and of overlaps, crowded and sparse."""
    vague = {"ambiguous": ambiguous}
    return {
        "plain": random_case(1, **vague),
        "whole_seconds": random_case(2, decimals=0, **vague),
        "two_decimals_of_score": random_case(3, score_decimals=2, **vague),
        "ten_scores": random_case(4, score_decimals=1, decimals=1, **vague),
        "one_score": random_case(5, score_decimals=-1, **vague),
        "few_ties": random_case(6, videos=9, truths=14, predictions=40, score_decimals=1, decimals=0, **vague),
        "crowded": random_case(7, videos=2, classes=2, truths=60, predictions=500, **vague),
        "crowded_ties": random_case(8, videos=2, classes=2, truths=80, score_decimals=1, decimals=0, **vague),
        "sparse": random_case(9, videos=60, truths=60, predictions=80, **vague),
        "fewer_predictions": random_case(10, truths=90, predictions=30, score_decimals=1, **vague),
        "short_videos": random_case(11, length_s=4.0, decimals=0, score_decimals=2, **vague),
    }


def hand_made() -> dict[str, Case]:
    """Two classes, three videos; each case is named after its point."""
    truth = [[0, 0, 10, 20], [0, 0, 30, 40], [1, 0, 5, 15], [1, 1, 0, 8], [2, 1, 50, 60]]
    exact = [[*row, 0.9 - 0.1 * index] for index, row in enumerate(truth)]
    cases = {
        "all_right": (truth, exact),
        "duplicate_predictions": (truth, [*exact, *exact]),
        "duplicate_truth": ([*truth, *truth], exact),
        "no_prediction_of_a_class": (truth, exact[:3]),
        "no_hit": (truth, [[0, 0, 21, 29, 0.5], [2, 1, 0, 8, 0.4]]),
        "unknown_video": (truth, [[3, 0, 10, 20, 0.95], *exact]),
        "other_video_of_the_class": (truth, [[2, 0, 50, 60, 0.95], *exact]),
        "touching_ends": (truth, [[0, 0, 20, 30, 0.9], [1, 0, 15, 25, 0.8], [1, 1, 8, 16, 0.7]]),
        "no_length": ([*truth, [2, 0, 7, 7]], [[2, 0, 7, 7, 0.9], [0, 0, 12, 12, 0.8], [2, 1, 7, 7, 0.7]]),
        "no_length_beside_length": ([*truth, [0, 0, 12, 12]], [[0, 0, 12, 12, 0.9], [0, 0, 12, 12, 0.8], *exact]),
        "inverted": ([*truth, [2, 0, 9, 3]], [[2, 0, 9, 3, 0.9], [2, 0, 3, 9, 0.8], [0, 0, 20, 10, 0.7], *exact]),
        "at_the_threshold": (truth, [[0, 0, 10, 15, 0.9], [1, 0, 5, 12, 0.8], [1, 1, 0, 4, 0.7], [2, 1, 53, 60, 0.6]]),
        "second_choice": (
            [[0, 0, 0, 10], [0, 0, 2, 12], [0, 1, 0, 1]],
            [[0, 0, 1, 11, 0.9], [0, 0, 1, 11, 0.8], [0, 0, 0, 10, 0.7], [0, 0, 2, 12, 0.6], [0, 1, 0, 1, 0.5]],
        ),
        "negative_scores": (truth, [[*row[:4], row[4] - 2] for row in exact]),
        "one_prediction": (truth, exact[3:4]),
    }
    return {name: {"truth": np.array(t, float), "predictions": np.array(p, float)} for name, (t, p) in cases.items()}
