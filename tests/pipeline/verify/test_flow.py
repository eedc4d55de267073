"""Flow that is not what its card says."""

from __future__ import annotations

from pipeline.verify.flow import Difference


def test_other_parameters_than_the_card_says(copy, verified) -> None:
    copy.claim("flow/f", params={"lambda": 0.002, "num_scales": 1, "num_warps": 1})
    report = verified(copy, "flow/f")
    assert report.verdict == "FAILED"
    assert all(fault.endswith("it was not computed as the card says") for fault in report.faults)
    assert " px off in the median and " in report.faults[0]
    assert report.comparisons[0].worst > 0.5


def test_another_bound_than_the_card_says(copy, verified) -> None:
    copy.claim("flow/f", bound=10.0)
    faults = verified(copy, "flow/f", num_clips=1).faults
    assert [fault.partition(": ")[2] for fault in faults] == ["its bound_px is 20.0, and its video gives 10.0"]


def test_a_small_difference_that_nothing_explains_is_noted(copy, verified) -> None:
    copy.claim("flow/f", params={"lambda": 0.145, "num_scales": 2, "num_warps": 2})
    report = verified(copy, "flow/f")
    assert (report.verdict, report.faults) == ("ok", [])
    assert report.comparisons[0].worst > 0
    assert [note.partition(" within")[0].split(" ", 1)[1] for note in report.notes] == ["clips differ"]


def test_what_explains_a_difference() -> None:
    def problem(*, median_px: float = 0.0, p99_px: float = 0.0, motion_px: float = 2.0, level_px: float = 0.0) -> bool:
        found = Difference(median_px, p99_px, 5.0, motion_px, level_px)
        return found.problem is not None

    assert not problem(median_px=0.02, p99_px=0.3)
    assert problem(p99_px=0.31)
    assert not problem(p99_px=1.0, motion_px=9.0)  # of long motion
    assert not problem(p99_px=0.6, level_px=0.15)  # of pictures
    assert problem(median_px=0.03)
    assert not problem(median_px=0.15, level_px=0.15)
    assert problem(median_px=float("nan"))
