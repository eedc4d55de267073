"""Videos that changed or can't be read any more."""

from __future__ import annotations

import pytest

from pipeline.verify.videos import require_alike, said
from schemas.errors import ReelmillError


def test_a_video_that_is_another_file_by_now(copy, verified, tmp_path) -> None:
    copy.move_videos(str(tmp_path))
    for index in range(2):
        (tmp_path / f"{index}.mp4").write_bytes(b"no video")
    report = verified(copy, "clips/c", num_clips=1)
    assert (report.verdict, report.faults) == ("not all checked", [])
    assert ".mp4 is another file by now: 8 bytes, and " in report.unchecked[0]
    assert report.unchecked[0].endswith(" in manifest.parquet")


def test_a_video_that_can_not_be_read(copy, verified, tmp_path) -> None:
    copy.move_videos(str(tmp_path))
    for index, row in enumerate(copy.manifest.to_pylist()):
        (tmp_path / f"{index}.mp4").write_bytes(bytes(row["bytes"]))
    report = verified(copy, "flow/f", num_clips=1)
    assert (report.verdict, report.faults) == ("not all checked", [])
    assert f"{tmp_path}/" in report.unchecked[0]
    assert "can't be read here: " in report.unchecked[0]


def test_facts() -> None:
    require_alike({"a": 1, "b": [2]}, {"a": 1, "b": [2], "c": 3}, ["a", "b"])
    with pytest.raises(ReelmillError, match="its a is 1, and its video gives 2"):
        require_alike({"a": 1}, {"a": 2}, ["a"])
    with pytest.raises(ReelmillError, match="its json is missing or damaged"):
        said({"npy": b""})
    with pytest.raises(ReelmillError, match="its json is missing or damaged"):
        said({"json": b"{"})
