"""Multi-label metrics: against the benchmarks' own code (tests/golden/metrics/make_multilabel.py), and by hand."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.metrics.multilabel import (
    MultiLabelResult,
    Protocol,
    active_at,
    average_precision,
    charades_instants_s,
    hit_at_k,
    mean_average_precision,
)

GOLDEN = Path(__file__).resolve().parents[2] / "golden/metrics"
ANSWERS: dict[str, Any] = json.loads((GOLDEN / "multilabel.json").read_text())
INPUTS: dict[str, NDArray[Any]] = dict(np.load(GOLDEN / "multilabel.npz"))
CHARADES = [name for name in ANSWERS if name.startswith("charades")]
MATRICES = [name for name in ANSWERS if name not in CHARADES]


def matrix(name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    return INPUTS[f"{name}/scores"], INPUTS[f"{name}/targets"]


def same(ours: NDArray[np.float64] | float, theirs: Any, tolerance: float = 1e-12) -> None:
    """Equal to rounding; null is nan."""
    np.testing.assert_allclose(ours, np.array(theirs, dtype=np.float64), rtol=0, atol=tolerance)


# ---------------------------------------------------------------- against others' code


@pytest.mark.parametrize("name", MATRICES)
def test_mmaction2(name: str) -> None:
    same(mean_average_precision(*matrix(name), protocol="mmaction2").mean_ap, ANSWERS[name]["mmaction2"])


@pytest.mark.parametrize("name", MATRICES)
def test_scikit_learn(name: str) -> None:
    ours, theirs = mean_average_precision(*matrix(name), protocol="sklearn"), ANSWERS[name]["sklearn"]
    same(ours.per_class, theirs["per_class"])
    same(ours.mean_ap, theirs["mean"])
    if name != "nothing":  # scikit-learn says 0 where there is no row to weigh a class with
        same(ours.weighted_ap, theirs["weighted"])


@pytest.mark.parametrize("name", MATRICES)
def test_the_meter_that_multithumos_is_measured_with(name: str) -> None:
    ours = mean_average_precision(*matrix(name), protocol="multithumos")
    same(ours.per_class, ANSWERS[name]["multithumos"], tolerance=1e-6)  # theirs is of single precision
    same(ours.mean_ap, np.mean(ANSWERS[name]["multithumos"]), tolerance=1e-6)


@pytest.mark.parametrize("protocol", ["charades_classify", "charades_localize"])
def test_the_python_version_of_charades_where_no_scores_are_equal(protocol: Protocol) -> None:
    names = [name for name in MATRICES if "gsig" in ANSWERS[name]]
    assert {"random", "unlabelled_rows"} <= set(names)
    for name in names:
        ours = mean_average_precision(*matrix(name), protocol=protocol)
        same(ours.per_class, ANSWERS[name]["gsig"][protocol.removeprefix("charades_")])


@pytest.mark.parametrize("name", CHARADES)
def test_the_official_scripts_of_charades(name: str) -> None:
    ours, theirs = of_charades(name), ANSWERS[name]
    same(ours.per_class, theirs["per_class"])
    same(ours.mean_ap, theirs["mean"])
    same(ours.weighted_ap, theirs["weighted"], tolerance=5.1e-7)  # which they print with six decimals


def of_charades(name: str) -> MultiLabelResult:
    """Our number for the same files."""
    values = {key.removeprefix(f"{name}/"): value for key, value in INPUTS.items() if key.startswith(f"{name}/")}
    scores = np.where(values["predicted"][:, None], values["twentieths"] / 20, -np.inf)
    targets = []
    for index, length_s in enumerate(values["length_s"]):
        mine = values["video"] == index
        if "localize" in name:
            segments = {key: values[key][mine] for key in ("start_s", "end_s", "label")}
            targets.append(active_at(charades_instants_s(length_s), **segments, num_classes=157))
        else:
            targets.append(np.isin(np.arange(157), values["label"][mine])[None])
    protocol: Protocol = "charades_localize" if "localize" in name else "charades_classify"
    return mean_average_precision(scores, np.concatenate(targets), protocol=protocol)


# ---------------------------------------------------------------- by hand


def test_average_precision_is_the_mean_precision_at_the_true_rows() -> None:
    scores = np.array([0.1, 0.9, 0.5, 0.3])
    truth = np.array([True, True, False, True])
    for ties in ("in_order", "at_once"):
        assert average_precision(scores, truth, ties=ties) == pytest.approx((1 / 1 + 2 / 3 + 3 / 4) / 3)


def test_equal_scores_in_the_rows_order_or_at_once() -> None:
    scores, truth = np.array([0.5, 0.5, 0.9, 0.5]), np.array([True, False, False, True])
    assert average_precision(scores, truth, ties="in_order") == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert average_precision(scores[::-1], truth[::-1], ties="in_order") == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert average_precision(scores, truth, ties="at_once") == pytest.approx((2 / 4 + 2 / 4) / 2)
    assert average_precision(scores[[1, 0, 2, 3]], truth[[1, 0, 2, 3]], ties="in_order") == pytest.approx(
        (1 / 3 + 2 / 4) / 2
    )


def test_without_equal_scores_all_protocols_agree_on_the_classes_that_rows_have() -> None:
    scores, targets = matrix("random")
    protocols: tuple[Protocol, ...] = ("charades_classify", "charades_localize", "multithumos", "mmaction2", "sklearn")
    rows = targets.any(axis=1)
    first, *others = (mean_average_precision(scores[rows], targets[rows], protocol=p) for p in protocols)
    for other in others:
        np.testing.assert_allclose(other.per_class, first.per_class, rtol=0, atol=1e-15)


def test_a_class_without_rows() -> None:
    scores = np.array([[0.9, 0.3], [0.2, 0.6]])
    targets = np.array([[1, 0], [0, 0]])
    results = {
        protocol: mean_average_precision(scores, targets, protocol=protocol)
        for protocol in ("charades_localize", "multithumos", "mmaction2", "sklearn")
    }
    assert math.isnan(results["charades_localize"].mean_ap)
    assert math.isnan(results["charades_localize"].weighted_ap)
    assert results["multithumos"].mean_ap == results["sklearn"].mean_ap == 0.5
    assert results["mmaction2"].mean_ap == 1.0
    assert math.isnan(results["mmaction2"].per_class[1])
    assert results["mmaction2"].weighted_ap == results["sklearn"].weighted_ap == 1.0
    assert results["sklearn"].num_rows.tolist() == [1, 0]


def test_charades_classify_does_not_hold_a_video_without_actions_against_anyone() -> None:
    scores, targets = np.array([[0.9], [0.5]]), np.array([[0], [1]])
    assert mean_average_precision(scores, targets, protocol="charades_classify").mean_ap == 1.0
    assert mean_average_precision(scores, targets, protocol="charades_localize").mean_ap == 0.5


def test_no_rows() -> None:
    none = np.zeros((0, 3))
    assert math.isnan(mean_average_precision(none, none, protocol="mmaction2").mean_ap)
    assert math.isnan(hit_at_k(none, none, 1))


def test_hits() -> None:
    scores = np.array([[0.9, 0.5, 0.1], [0.5, 0.5, 0.4], [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]])
    targets = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert hit_at_k(scores, targets, 1) == 0.25  # of equal scores the first class is the best
    assert hit_at_k(scores, targets, 2) == 0.5
    assert hit_at_k(scores, targets, 3) == hit_at_k(scores, targets, 9) == 0.75  # a row without labels is no hit
    assert hit_at_k(scores, targets.astype(bool), 1) == 0.25


def test_charades_instants_and_segments() -> None:
    instants_s = charades_instants_s(50.0)
    assert instants_s.tolist() == pytest.approx([2.0 * j for j in range(25)])
    segments = {
        "start_s": np.array([4.0, 40.1, 3.0]),
        "end_s": np.array([6.0, 60.0, 3.5]),
        "label": np.array([2, 0, 1]),
    }
    active = active_at(instants_s, **segments, num_classes=4)
    assert np.flatnonzero(active[:, 2]).tolist() == [2, 3]  # both ends belong to it
    assert np.flatnonzero(active[:, 0]).tolist() == [21, 22, 23, 24]
    assert not active[:, [1, 3]].any()  # one falls between two instants


def test_bad_values_are_refused() -> None:
    scores, targets = np.array([[0.5, 0.1], [0.2, 0.9]]), np.array([[1, 0], [0, 1]])
    with pytest.raises(ValueError, match=r"scores and targets are \(N, K\) alike, got \(2, 2\) and \(2, 1\)"):
        mean_average_precision(scores, targets[:, :1], protocol="sklearn")
    with pytest.raises(ValueError, match="targets are 0 or 1, got 2"):
        mean_average_precision(scores, 2 * targets, protocol="sklearn")
    with pytest.raises(ValueError, match="scores hold nan in 1 of 2 rows"):
        mean_average_precision(np.array([[0.5, np.nan], [0.2, 0.9]]), targets, protocol="charades_localize")
    missing = np.array([[-np.inf, -np.inf], [0.2, 0.9]])
    with pytest.raises(ValueError, match="scores hold -inf in 1 of 2 rows"):
        mean_average_precision(missing, targets, protocol="mmaction2")
    assert mean_average_precision(missing, targets, protocol="charades_localize").mean_ap == 0.75
    with pytest.raises(ValueError, match="k is at least 1, got 0"):
        hit_at_k(scores, targets, 0)
