"""Which rows make up a video: several products, several views, windows inside clips, and holes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.errors import UsageError


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_products_stand_side_by_side_with_flow_last(stored, tmp_path) -> None:
    data = stored([10.0, 5.0], dims={"flow": 3, "rgb": 4}, of_flow=["flow"])
    report = data.export(tmp_path / "out", target="actionformer")
    assert report.columns == {"features/rgb": 4, "features/flow": 3}
    array = np.load(tmp_path / "out/features/v1.npy")
    for name, columns in (("rgb", slice(0, 4)), ("flow", slice(4, 7))):
        np.testing.assert_array_equal(array[:, columns], [row["embedding"] for row in data.written[name]["v1"]])
    assert read(tmp_path / "out/info.json")["columns"] == [
        {"product": "features/rgb", "first": 0, "stop": 4},
        {"product": "features/flow", "first": 4, "stop": 7},
    ]
    assert "of 7 columns (features/rgb 4 | features/flow 3)" in report.lines()[0]


def test_a_video_must_have_the_same_windows_in_all_products(stored, tmp_path) -> None:
    def edit(name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if name == "b" and rows[0]["video_id"] == "v0":
            return [{**row, "start_s": row["start_s"] + 0.1, "end_s": row["end_s"] + 0.1} for row in rows]
        if name == "b" and rows[0]["video_id"] == "v1":
            return []
        if name == "b" and rows[0]["video_id"] == "v2":
            return rows[:-1]  # a tail that holds one frame has no field of flow
        return rows[:-2] if name == "b" and rows[0]["video_id"] == "v3" else rows

    data = stored([10.0, 10.0, 10.0, 10.0, 10.0], dims={"a": 4, "b": 2}, edit=edit, clips={"frames": 16, "fps": 5})
    report = data.export(tmp_path / "out", length="padded")
    assert report.left_out == {
        "v0": "its windows in features/a are not those in features/b",
        "v3": "it has 3 whole windows in one product and 2 in another",
    }
    assert (report.num_without, report.num_files, report.num_repeated) == (1, 2, 1)
    assert data.starts(tmp_path / "out", "v2") == pytest.approx([0, 3.2, 6.4, 6.4])
    assert "1 video without rows in all products" in report.lines()[2]


def test_views_are_averaged(stored, tmp_path) -> None:
    data = stored([10.0], views=("center", "center_flip", "top_left"))
    report = data.export(tmp_path / "out")
    rows = np.array([row["embedding"] for row in data.written["a"]["v0"]], np.float32).reshape(4, 3, 4)
    np.testing.assert_allclose(np.load(tmp_path / "out/features/v0.npy"), rows.mean(axis=1), rtol=1e-6)
    assert "each row is the mean of 3 views: center, center_flip, top_left" in report.lines()


def test_a_window_that_lacks_a_view(stored, tmp_path) -> None:
    data = stored(
        [10.0, 10.0],
        views=("center", "center_flip"),
        edit=lambda name, rows: rows[:-1] if rows[0]["video_id"] == "v1" else rows,
    )
    report = data.export(tmp_path / "out")
    assert report.left_out == {"v1": "in features/a some of its windows lack a view of center, center_flip"}


def slide(rows: list[dict[str, Any]], *, frames: int, stride: int, of: int, fps: float) -> list[dict[str, Any]]:
    """As the features stage slides windows of `frames` inside clips of `of` frames."""
    inside = []
    for row in rows:
        for first in range(0, of - frames + 1, stride):
            start_s = row["start_s"] + first / fps
            if start_s < row["end_s"]:
                end_s = min(start_s + frames / fps, row["end_s"])
                embedding = [start_s, *row["embedding"][1:]]
                times = {"start_s": start_s, "center_s": (start_s + end_s) / 2, "end_s": end_s}
                inside.append({**row, **times, "embedding": embedding})
    return inside


@pytest.mark.parametrize("stride_s", [29.6, 28.8])  # the windows of the next clip go on, or the last one comes twice
def test_windows_that_slide_inside_clips(stored, tmp_path, stride_s) -> None:
    data = stored(
        [100.0],
        clips={"frames": 160, "fps": 5, "stride_s": stride_s},
        edit=lambda name, rows: slide(rows, frames=16, stride=4, of=160, fps=5),
    )
    report = data.export(tmp_path / "out", length="valid")
    assert (report.clock.feature_stride, report.clock.offset_frames, report.clock.snippet_frames) == (4, 8, 16)
    assert data.starts(tmp_path / "out", "v0") == pytest.approx([0.8 * t for t in range((500 - 16) // 4 + 1)])
    data.export(tmp_path / "padded")
    assert len(data.starts(tmp_path / "padded", "v0")) == 125  # ceil(500 / 4)


def test_windows_inside_clips_that_leave_holes_between_them(stored, tmp_path) -> None:
    data = stored(
        [100.0],
        clips={"frames": 160, "fps": 5},
        edit=lambda name, rows: slide(rows, frames=16, stride=4, of=160, fps=5),
    )
    with pytest.raises(
        UsageError,
        match=r"none of its videos can be exported; v0: in features/a a window starts at 28.8 s and the next at 32 s, "
        r"where a regular run has one every 0.8 s",
    ):
        data.export(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []  # free for the export that goes well


def test_a_hole_leaves_a_video_out(stored, tmp_path) -> None:
    data = stored(
        [30.0, 10.0, 30.0], edit=lambda name, rows: rows[:3] + rows[5:] if rows[0]["video_id"] == "v0" else rows
    )
    report = data.export(tmp_path / "out", target="opentad")
    assert report.left_out == {
        "v0": "in features/a a window starts at 6.4 s and the next at 16 s, where a regular run has one every 3.2 s"
    }
    assert set(read(tmp_path / "out/annotations.json")["database"]) == {"v1", "v2"}


def test_a_video_decoded_in_part_ends_early(stored, tmp_path) -> None:
    data = stored([10.0, 10.0], partial=["v1"], edit=lambda name, rows: rows)
    report = data.export(tmp_path / "out")
    assert (report.num_files, report.num_partial) == (2, 1)
    assert "1 video decoded in part: their rows end where the frames did" in report.lines()
