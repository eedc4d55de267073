"""How many rows, and at which seconds each reader puts them; its own formula is stated in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.export.grid import SAME_S
from schemas.errors import UsageError


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seconds=st.integers(1, 90_000).map(lambda ms: ms / 1000),
    num_rows=st.integers(1, 300),
    fps=st.sampled_from([5, 25, 29.97]),
    target=st.sampled_from(["opentad", "mmaction2"]),
)
def test_a_fixed_number_of_rows_lies_at_even_seconds(stored, tmp_path_factory, seconds, num_rows, fps, target) -> None:
    data = stored([seconds + 2], clips={"frames": 16, "fps": fps, "stride_s": 0.5}, begin_s=2.0)
    out = tmp_path_factory.mktemp("fixed") / "out"
    data.export(out, target=target, length=str(num_rows))
    rows = data.written["a"]["v0"]
    if target == "opentad":
        entry, features = read(out / "annotations.json")["database"]["v0"], np.load(out / "features/v0.npy")
        duration_s = entry["duration"]
        # ActionFormer, case of fixed lengths: feat_stride = duration * fps / seq_len, num_frames = feat_stride
        stride = entry["duration"] * entry["fps"] / num_rows
        centre_s = (np.arange(num_rows) * stride + 0.5 * stride) / entry["fps"]
    else:
        entry = read(out / "unsplit.json")["v_v0"]
        features = np.loadtxt(out / "csv/v_v0.csv", dtype=np.float32, delimiter=",", skiprows=1, ndmin=2)
        # BMN's post_processing: frames rounded down to its feature_extraction_interval
        frames = entry["duration_frame"]
        duration_s = frames // 16 * 16 / frames * entry["duration_second"]
        # GenerateLocalizationLabels
        assert duration_s == entry["feature_frame"] / entry["duration_frame"] * entry["duration_second"]
        centre_s = (np.arange(num_rows) + 0.5) / num_rows * duration_s
    assert features.shape == (num_rows, 4)
    assert -SAME_S <= duration_s - seconds <= 1 / fps + 1e-9 or rows[-1]["end_s"] - 2 > seconds
    seen_s = np.array([row["center_s"] for row in rows]) - 2
    inside = (centre_s >= seen_s[0] + duration_s / num_rows) & (centre_s <= seen_s[-1] - duration_s / num_rows)
    if len(rows) > 2 and (np.diff(seen_s) == seen_s[1] - seen_s[0]).all():
        # column 0 is start_s, a straight line of the second: so the row at a second must have that line's value
        expected = centre_s - seen_s[0] + rows[0]["start_s"]
        np.testing.assert_allclose(features[inside, 0], expected[inside], atol=2e-5)


def test_a_fixed_number_of_rows_is_a_mean_where_several_fall_to_one(stored, tmp_path) -> None:
    data = stored([25.6])  # 8 rows
    data.export(tmp_path / "out", length="2")
    stored_rows = np.array([row["embedding"] for row in data.written["a"]["v0"]])
    np.testing.assert_allclose(
        np.load(tmp_path / "out/features/v0.npy"), stored_rows.reshape(2, 4, 4).mean(1), rtol=1e-5
    )
    data.export(tmp_path / "same", length="8")
    np.testing.assert_array_equal(np.load(tmp_path / "same/features/v0.npy"), stored_rows.astype(np.float32))
    info = read(tmp_path / "out/info.json")
    assert info["videos"]["v0"] | {"start_s": 0} == {
        "num_features": 2,
        "duration": 25.6,
        "frame": 128,
        "start_s": 0,
        "feature_stride": 64,
        "snippet_frames": 64,
        "offset_frames": 32,
    }
    assert info["center_s"] == "(t + 0.5) * duration / 2"


def test_valid_leaves_out_what_reaches_beyond_the_end(stored, tmp_path) -> None:
    data = stored([10.0, 2.0, 3.2])
    report = data.export(tmp_path / "out", length="valid")
    assert data.starts(tmp_path / "out", "v0") == pytest.approx([0, 3.2, 6.4])
    assert data.starts(tmp_path / "out", "v2") == [0]
    assert report.left_out == {"v1": "it is shorter than one window; --length padded takes it"}
    assert "1 video left out: v1 (it is shorter than one window" in report.lines()[2]
    assert read(tmp_path / "out/info.json")["videos"]["v1"] == {"left_out": report.left_out["v1"]}
    assert not (tmp_path / "out/features/v1.npy").exists()


def test_padded_repeats_the_tail(stored, tmp_path) -> None:
    """20 s at 5 fps are 100 frames: floor((100 - 16) / 4) + 1 = 22 whole windows, ceil(100 / 4) = 25 starts."""
    data = stored([20.0], clips={"frames": 16, "fps": 5, "stride_s": 0.8})
    report = data.export(tmp_path / "out")
    assert (report.num_rows, report.num_repeated) == (25, 2)
    assert "2 rows at the ends repeat their video's last window" in report.lines()[1]
    assert data.starts(tmp_path / "out", "v0") == pytest.approx([0.8 * min(t, 22) for t in range(25)])
    data.export(tmp_path / "valid", length="valid")
    assert data.starts(tmp_path / "valid", "v0") == pytest.approx([0.8 * t for t in range(22)])


def test_clips_without_tails_have_valid_windows_only(stored, tmp_path) -> None:
    data = stored([10.0], clips={"frames": 16, "fps": 5, "tail": "drop"})
    assert data.export(tmp_path / "out").length.rule == "valid"
    assert data.starts(tmp_path / "out", "v0") == pytest.approx([0, 3.2, 6.4])
    with pytest.raises(UsageError, match=r"--length padded: the clips of features/a leave out .* give valid"):
        data.export(tmp_path / "padded", length="padded")
