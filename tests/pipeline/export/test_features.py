"""Stored features as the files of other tools. Each reader's own formula is stated here in one line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.export.features import export_features
from pipeline.graph import Product
from pipeline.video.sample import exact
from schemas.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]


def export(data, out: Path, *, target: str = "npy", products: list[Product] | None = None, **options: Any):
    return export_features(data.store, data.plan, products or data.products, out=str(out), target=target, **options)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def starts(out: Path, video_id: str) -> list[float]:
    """Column 0 of a file: the second, on the source's clock, at which each row's window starts."""
    return np.load(out / f"features/{video_id}.npy")[:, 0].tolist()


# ---------------------------------------------------------------- files and seconds


def test_a_file_a_video(stored, tmp_path) -> None:
    data = stored([10.0, None, 7.3])
    report = export(data, tmp_path / "out", target="npy")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"features", "info.json", "_export.json"}
    for video_id, count in (("v0", 4), ("v2", 3)):
        array = np.load(tmp_path / f"out/features/{video_id}.npy", allow_pickle=False)
        assert (array.dtype, array.shape, array.flags.c_contiguous) == (np.float32, (count, 4), True)
        np.testing.assert_array_equal(array, [row["embedding"] for row in data.written["a"][video_id]])
    info = read(tmp_path / "out/info.json")
    assert (info["feature_stride"], info["offset_frames"], info["snippet_frames"], info["fps"]) == (16, 8, 16, 5)
    assert info["columns"] == [{"product": "features/a", "first": 0, "stop": 4}]
    assert info["videos"]["v2"] == {"num_features": 3, "duration": 7.4, "frame": 37, "start_s": 0, "num_repeated": 0}
    assert set(info["videos"]) == {"v0", "v2"}
    assert (report.num_files, report.num_rows, report.num_without, report.num_repeated) == (2, 7, 1, 0)
    lines = report.lines()
    assert lines[0] == f"2 videos in {tmp_path}/out/features, 7 rows of 4 columns (features/a 4)"
    assert "length padded: row t is centred on (t * 16 + 8) / 5 s" in lines[1]
    assert "1 video without rows in the product" in lines[2]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    frames=st.integers(1, 64),
    fps=st.sampled_from([1, 5, 6.25, 8, 23.976, 25, 29.97, 30]),
    stride_s=st.none() | st.integers(40, 9000).map(lambda ms: ms / 1000),
    seconds=st.integers(1, 200_000).map(lambda ms: ms / 1000),
    begin_s=st.sampled_from([0.0, 0.04, 1.001, 12345.678901]),
    rule=st.sampled_from(["valid", "padded"]),
)
def test_readers_place_each_row_where_it_was_seen(
    stored, tmp_path_factory, frames, fps, stride_s, seconds, begin_s, rule
) -> None:
    data = stored(
        [round(begin_s + seconds, 6)], clips={"frames": frames, "fps": fps, "stride_s": stride_s}, begin_s=begin_s
    )
    out = tmp_path_factory.mktemp("placed") / "out"
    rows = data.written["a"]["v0"]
    num_whole = sum(row["end_s"] - row["start_s"] > (frames - 0.5) / fps for row in rows)
    if rule == "valid" and not num_whole:
        with pytest.raises(UsageError, match="v0: it is shorter than one window"):
            export(data, out, target="opentad", length=rule)
        return
    export(data, out, target="opentad", length=rule)
    info, video = read(out / "info.json"), read(out / "annotations.json")["database"]["v0"]
    stride, offset, start_s = info["feature_stride"], info["offset_frames"], info["videos"]["v0"]["start_s"]
    assert isinstance(stride, int)
    assert isinstance(offset, int)  # OpenTAD: int(offset_frames), int(feature_stride * sample_stride)
    assert abs(start_s - begin_s) <= 1e-9
    count = info["videos"]["v0"]["num_features"]
    features = np.load(out / "features/v0.npy")
    assert len(features) == count
    for t, row in enumerate(rows[:count]):
        centre_s = row["start_s"] + frames / (2 * fps) - start_s
        assert abs((t * stride + offset) / info["fps"] - centre_s) <= 1e-9  # AnetPaddingDataset(fps=…)
        # ThumosPaddingDataset
        assert abs((t * stride + offset) / (video["frame"] / video["duration"]) - centre_s) <= 1e-9
        # ActionFormer's postprocessing
        assert abs((t * stride + 0.5 * info["snippet_frames"]) / video["fps"] - centre_s) <= 1e-9
        np.testing.assert_array_equal(features[t], np.float32(row["embedding"]))
    for repeated in features[len(rows) :]:
        np.testing.assert_array_equal(repeated, features[len(rows) - 1])
    # SlidingWindowDataset counts its snippets so, from frames and from seconds
    padded = len(np.arange(0, video["frame"], stride))
    assert padded == len(np.arange(0, int(video["duration"] * info["fps"]), stride))
    num_frames = math.ceil(exact(seconds) * exact(fps))  # grid times in the video
    step = frames if stride_s is None else exact(stride_s) * exact(fps)
    if rule == "padded":
        assert (
            count == padded == math.ceil(num_frames / step if step == int(step) else exact(seconds) * exact(fps) / step)
        )
    elif step == int(step):
        assert count == (num_frames - frames) // step + 1
