"""Flow that is not what its card says."""

from __future__ import annotations


def test_other_parameters_than_the_card_says(copy, verified) -> None:
    copy.claim("flow/f", params={"lambda": 0.002, "num_scales": 1, "num_warps": 1})
    report = verified(copy, "flow/f")
    assert report.verdict == "FAILED"
    assert all(fault.endswith("it was not computed as the card says") for fault in report.faults)
    assert " px off in the median and " in report.faults[0]
    assert report.comparisons[0].worst > 1.3


def test_another_bound_than_the_card_says(copy, verified) -> None:
    copy.claim("flow/f", bound=10.0)
    faults = verified(copy, "flow/f", num_clips=1).faults
    assert [fault.partition(": ")[2] for fault in faults] == ["its bound_px is 20.0, and its video gives 10.0"]
