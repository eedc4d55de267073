"""The jsons beside the features: seconds from the first window, labels by number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def read(path: Path) -> Any:
    return json.loads(path.read_text())


SEGMENTS = [
    {"split": "train", "segment_start_s": [2.5, 4.0], "segment_end_s": [6.0, 9.25], "segment_label_ids": [3, 1]},
    {"split": "val", "segment_start_s": [1.5], "segment_end_s": [3.0], "segment_label_ids": [1]},
    {"segment_start_s": [], "segment_end_s": [], "segment_label_ids": []},
    {"split": "test", "segment_start_s": [1.0], "segment_end_s": [2.0], "segment_label_ids": [4]},
]
LABELS = ("nothing", "jump", "nobody", "run far", "swim")


def test_segments_count_from_the_first_window(stored, tmp_path) -> None:
    data = stored([11.5, 8.0, 8.0, None], begin_s=1.5, columns=SEGMENTS, labels=LABELS)
    report = data.export(tmp_path / "out", target="actionformer")
    database = read(tmp_path / "out/annotations.json")["database"]
    assert database["v0"] == {
        "subset": "training",
        "duration": 10,
        "frame": 50,
        "fps": 5,
        "annotations": [
            {"segment": [1, 4.5], "label": "run far", "label_id": 1},
            {"segment": [2.5, 7.75], "label": "jump", "label_id": 0},
        ],
    }
    assert (database["v1"]["subset"], database["v2"]["subset"], database["v2"]["annotations"]) == (
        "validation",
        "unsplit",
        [],
    )
    assert (tmp_path / "out/category_idx.txt").read_text().splitlines() == ["jump", "run far", "swim"]
    assert "v3" not in database
    lines = report.lines()
    assert "3 segments of 2 labels" in lines
    assert any(line.startswith("1 of 3 labels have no segment in an exported video") for line in lines)
    assert read(tmp_path / "out/info.json")["videos"]["v0"]["start_s"] == 1.5


def test_mmaction2_has_a_json_a_split(stored, tmp_path) -> None:
    data = stored([11.5, 8.0, 8.0, None], begin_s=1.5, columns=SEGMENTS, labels=LABELS)
    report = data.export(tmp_path / "out", target="mmaction2")
    names = {"csv", "train.json", "val.json", "unsplit.json", "info.json", "_export.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    entry = read(tmp_path / "out/train.json")["v_v0"]  # its metric cuts off v_
    assert entry["annotations"][0]["segment"] == [1, 4.5]
    assert (entry["duration_second"], entry["duration_frame"], entry["feature_frame"]) == (10, 16 * 50, 16 * 50)
    assert (entry["fps"], entry["rfps"]) == (80, 80)
    lines = (tmp_path / "out/csv/v_v0.csv").read_text().splitlines()
    assert lines[0] == "f0,f1,f2,f3"
    assert len(lines) == 101
    data.export(tmp_path / "npy", length="100")
    read_back = np.loadtxt(tmp_path / "out/csv/v_v0.csv", dtype=np.float32, delimiter=",", skiprows=1)
    np.testing.assert_array_equal(read_back, np.load(tmp_path / "npy/features/v0.npy"))
    assert "temporal_dim=100, feat_dim=4" in report.lines()[-1]


def test_a_source_without_segments(stored, tmp_path) -> None:
    data = stored([10.0])
    report = data.export(tmp_path / "out", target="opentad")
    assert read(tmp_path / "out/annotations.json")["database"]["v0"]["annotations"] == []
    assert any(line.startswith("no segments: the annotations hold durations only") for line in report.lines())
