from math import isnan, nan

from pipeline.verify.report import Comparison, ProductReport, numbers


def test_a_fault_outweighs_what_was_not_checked() -> None:
    report = ProductReport("clips/c", notes=["one"])
    assert report.verdict == "ok"
    report.unchecked.append("two")
    assert report.verdict == "not all checked"
    report.faults.append("three")
    assert report.verdict == "FAILED"


def test_the_worst_cosine_is_the_least() -> None:
    values = (0.5, 1.0, 0.9)
    assert Comparison("videos", "rows", "cosine", values).worst == 0.5
    assert Comparison("videos", "clips", "levels", values).worst == 1.0
    assert Comparison("videos", "clips", "px", values).median == 0.9
    assert isnan(Comparison("videos", "rows", "cosine", (0.5, nan, 0.4)).worst)


def test_many_units_are_counted() -> None:
    assert numbers([7]) == "000007"
    assert numbers(list(range(7))) == "000000, 000001, 000002, 000003, 000004 and 2 more"
