"""Strides and offsets: where each reader puts a row by its own formula, stated in one line, it was seen."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.export.grid import Grid, configured_grid, stored_grid
from pipeline.video.sample import exact
from schemas.errors import UsageError


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    frames=st.integers(1, 64),
    fps=st.sampled_from([1, 5, 6.25, 8, 23.976, 25, 29.97, 30]),
    stride_s=st.none() | st.integers(40, 9000).map(lambda ms: ms / 1000),
    seconds=st.integers(1, 200_000).map(lambda ms: ms / 1000),
    begin_s=st.sampled_from([0.0, 0.04, 1.001, 12345.678901]),
    rule=st.sampled_from(["valid", "padded"]),
)
# a whole window that reaches beyond the end, and tails that say where that is
@example(frames=2, fps=1, stride_s=0.04, seconds=1.001, begin_s=0.0, rule="padded")
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
            data.export(out, target="opentad", length=rule)
        return
    data.export(out, target="opentad", length=rule)
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
        assert count == padded == math.ceil(exact(seconds) * exact(fps) / step)
        assert step != int(step) or count == math.ceil(num_frames / step)
    elif step == int(step):
        assert count == (num_frames - frames) // step + 1


def test_half_frames_make_a_finer_clock(stored, tmp_path) -> None:
    data = stored([10.0], clips={"frames": 15, "fps": 5, "stride_s": 1.1})
    report = data.export(tmp_path / "out")
    assert (report.clock.feature_stride, report.clock.snippet_frames, report.clock.offset_frames) == (11, 30, 15)
    assert "frames are counted 10 times a second, the clips' own come 5 times" in report.lines()[2]


@pytest.mark.parametrize("windows", [{"windows": "uniform", "num_clips": 3}, {"windows": "random", "num_clips": 3}])
def test_windows_without_a_step(stored, tmp_path, windows) -> None:
    data = stored([30.0], clips={"frames": 16, "fps": 5, **windows})
    sentence = f"--product features/a: clips/c has windows: {windows['windows']}, and readers of features place row t"
    with pytest.raises(UsageError, match=sentence):
        data.export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_grid_of_windows_inside_clips(stored) -> None:
    data = stored([10.0], clips={"frames": 64, "fps": 25})
    product = data.products[0]
    assert configured_grid(data.plan, product) == Grid(Fraction(64, 25), Fraction(64, 25), Fraction(25))
    window = {"window": {"frames": 16, "stride": 4}}
    inside = replace(product, settings={**product.settings, **window})
    assert configured_grid(data.plan, inside) == Grid(Fraction(4, 25), Fraction(16, 25), Fraction(25))
    clips, flow = data.plan.product("clips/c"), data.plan.product("flow/f")
    plan = replace(data.plan, products=(clips, replace(flow, settings={**flow.settings, "fps": 12.5})))
    of_flow = replace(product, settings={"from": "flow/f", **window})
    assert configured_grid(plan, of_flow) == Grid(Fraction(8, 25), Fraction(32, 25), Fraction(25, 2))


def test_what_is_stored_decides_and_settings_make_it_exact() -> None:
    configured = Grid(Fraction(16, 5), Fraction(16, 5), Fraction(5))
    times = np.array([7.1, 10.3, 13.5])
    assert stored_grid(configured, times, times + 3.2) == configured
    times = np.array([7.1, 7.9, 8.7])
    assert stored_grid(configured, times, times + 1.6) == Grid(Fraction(4, 5), Fraction(8, 5), Fraction(5))
