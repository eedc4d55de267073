"""Clips that are not what their card says."""

from __future__ import annotations

import numpy as np

from pipeline.verify.clips import Difference, difference
from pipeline.video.encode import encode_clip
from schemas.config import Clips


def test_another_filter_than_the_card_says(copy, verified) -> None:
    copy.claim("clips/c", filter="area")
    report = verified(copy, "clips/c")
    assert report.verdict == "FAILED"
    assert len(report.faults) == 4
    assert " levels off on average, " in report.faults[0]
    assert report.faults[0].endswith("it was not made as the card says (resize, filter, crop, encoding)")
    assert report.comparisons[0].worst > 1


def test_another_resize_than_the_card_says(copy, verified) -> None:
    copy.claim("clips/c", short_side=None, resize=[72, 100])
    report = verified(copy, "clips/c", num_clips=1)
    assert len(report.faults) == 1
    assert report.faults[0].endswith(": its width_px is 96, and its video gives 100")


def test_other_windows_than_the_card_says(copy, verified) -> None:
    copy.claim("clips/c", stride_s=0.7)
    faults = verified(copy, "clips/c").faults
    assert any(fault.endswith("gives no such clip with the settings of the card") for fault in faults)


def test_a_difference_is_in_levels() -> None:
    spec = Clips(frames=2, fps=5, encoding="npy")
    dark = [np.full((8, 8, 3), 10, np.uint8)] * 2
    light = [dark[0], np.full((8, 8, 3), 16, np.uint8)]
    stored, again = encode_clip(dark, spec), encode_clip(light, spec)
    assert difference(stored, again, spec) == Difference(3.0, 6)
    assert difference({**stored, "json": b"{}", "cls": b"1"}, stored, spec) == Difference(0.0, 0)
