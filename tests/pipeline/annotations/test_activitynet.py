import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.annotations import tube_json
from pipeline.annotations.activitynet import (
    order_by_score,
    read_predictions,
    read_proposals,
    read_truth,
    write_predictions,
)
from pipeline.annotations.keyframes import segments_of
from pipeline.annotations.report import Report
from schemas.annotation import AMBIGUOUS, SegmentTable
from schemas.errors import UsageError


def entry(subset: str, *annotations: tuple[object, object], **more: object) -> dict[str, object]:
    return {"subset": subset, "annotations": [{"segment": s, "label": label} for s, label in annotations], **more}


@pytest.fixture
def database(write) -> Callable[..., str]:
    return lambda **videos: write("a.json", json.dumps({"database": videos}))


def spans(table: SegmentTable) -> list[tuple[str, float, float, str]]:
    return [
        (table.videos[v], float(s), float(e), table.labels[k] if k >= 0 else "?")
        for v, s, e, k in zip(table.video, table.start_s, table.end_s, table.label, strict=True)
    ]


def test_truth_is_read_in_the_order_of_the_file(database) -> None:
    path = database(
        b=entry("training", ([5, 9.5], "run"), ([1.5, 3], "jump"), duration=12),
        a=entry("validation", ([0, 1], "arc")),
        c=entry("testing"),
    )
    table = read_truth(path)
    assert spans(table) == [("b", 5, 9.5, "run"), ("b", 1.5, 3, "jump"), ("a", 0, 1, "arc")]
    assert table.videos == ("b", "a", "c")
    assert table.labels == ("arc", "jump", "run")
    assert table.subset == ("training", "validation", "testing")
    np.testing.assert_array_equal(table.duration_s, [12, np.nan, np.nan])
    assert table.score is None


def test_a_subset_keeps_the_labels_of_all(database) -> None:
    path = database(a=entry("validation", ([0, 1], "arc")), b=entry("training", ([0, 1], "run")))
    for subset in ("validation", "val", "Validation"):
        table = read_truth(path, subset=subset)
        assert (table.videos, table.labels) == (("a",), ("arc", "run"))
    with pytest.raises(UsageError, match="no video is of the subset 'test'; it has training, validation"):
        read_truth(path, subset="test")
    with pytest.raises(UsageError, match="no video is in it"):
        read_truth(database())


def test_other_names_of_the_same_things(write) -> None:
    annotation = {"class": "Ambiguous", "label": 0, "segment": [1, 2]}
    path = write("b.json", json.dumps({"v": {"subset": "test", "duration_second": 3.5, "annotations": [annotation]}}))
    table = read_truth(path, ambiguous="Ambiguous")
    assert table.label.tolist() == [AMBIGUOUS]
    assert (table.labels, table.duration_s.tolist()) == ((), [3.5])


@pytest.mark.parametrize("segment", ["[1]", '["a", 2]', "null", "[NaN, 2]", "[1, 1e999]", f"[1, 1{'0' * 400}]", "{}"])
def test_a_segment_that_is_no_pair_of_times_is_dropped(write, segment) -> None:
    annotations = f'[{{"segment": {segment}, "label": "run"}}, {{"segment": [2, 1], "label": "jump"}}]'
    report = Report()
    path = write("a.json", f'{{"database": {{"v": {{"subset": "training", "annotations": {annotations}}}}}}}')
    table = read_truth(path, report=report)
    assert spans(table) == [("v", 2, 1, "jump")], "what the numbers mean is not the reader's business"
    assert table.labels == ("jump", "run")
    assert report.counts == {"bad_segment": 1}


@pytest.mark.parametrize(
    "bad", [{}, [], {"subset": 3}, {"subset": "training", "annotations": 3}, entry("training", ([0, 1], 3))]
)
def test_a_malformed_video_is_dropped(database, bad) -> None:
    report = Report()
    assert read_truth(database(bad=bad, good=entry("training", ([0, 1], "run"))), report=report).videos == ("good",)
    assert report.counts == {"malformed_row": 1}


def test_the_first_of_two_entries_is_kept(write) -> None:
    first, second = (json.dumps(entry("training", ([0, end], "run"))) for end in (1, 2))
    report = Report()
    table = read_truth(write("a.json", f'{{"database": {{"v": {first}, "v": {second}}}}}'), report=report)
    assert table.end_s.tolist() == [1]
    assert report.lines() == [
        "1 × duplicate row (dropped): v: the json names this video twice; the first entry is kept"
    ]


@pytest.mark.parametrize("text", ["", "[]", "3", '{"database": []}', "{", "{}", '{"a": {}}', "\udcff", "[" * 10000])
@pytest.mark.parametrize("read", [read_truth, read_predictions])
def test_another_file_is_refused(write, text, read) -> None:
    with pytest.raises(UsageError, match=r"a\.json: not "):
        read(write("a.json", text))


def test_predictions_are_numbered_as_the_truth(database, write) -> None:
    truth = read_truth(database(a=entry("x", ([0, 1], "run")), b=entry("x", ([0, 1], "jump"))))
    found = {"z": [detection("run", 0.5)], "b": [detection("jump", 1), detection("run", 0.25)]}
    table = read_predictions(write("p.json", json.dumps({"results": found})), truth=truth)
    assert (table.videos, table.labels) == (("a", "b", "z"), ("jump", "run"))
    assert table.video.tolist() == [2, 1, 1]
    assert table.score.tolist() == [0.5, 1, 0.25]
    assert order_by_score(table).score.tolist() == [1, 0.25, 0.5]


def detection(label: object, score: object, segment: object = (0, 1)) -> dict[str, object]:
    return {"label": label, "score": score, "segment": segment}


def test_an_unknown_class_is_refused_or_dropped(database, write) -> None:
    truth = read_truth(database(a=entry("x", ([0, 1], "run"))))
    path = write("p.json", json.dumps({"results": {"a": [detection("fly", 1), detection("run", 1)]}}))
    with pytest.raises(UsageError, match="a has a detection of 'fly', a class that the truth does not know"):
        read_predictions(path, truth=truth)
    report = Report()
    assert len(read_predictions(path, truth=truth, unknown="drop", report=report)) == 1
    assert report.counts == {"unknown_class": 1}


def test_bad_detections_are_dropped(write) -> None:
    bad = [3, {}, detection("run", None), detection("run", float("nan")), detection("run", 1, [1]), detection("run", 1)]
    report = Report()
    path = write("p.json", json.dumps({"results": {"a": bad, "b": None}}))
    assert spans(read_predictions(path, report=report)) == [("a", 0, 1, "run")]
    assert report.counts == {"malformed_row": 3, "bad_score": 2, "bad_segment": 1}


def test_proposals_need_no_class(write) -> None:
    found = [{"score": 0.5, "segment": [1, 2]}, detection("run", 0.25), {"segment": [1, 2]}, 3]
    report = Report()
    table = read_proposals(write("p.json", json.dumps({"results": {"a": found, "b": []}})), report=report)
    assert (table.videos, len(table.labels), table.score.tolist()) == (("a", "b"), 1, [0.5, 0.25])
    assert report.counts == {"bad_score": 1, "malformed_row": 1}


def test_what_cannot_be_written() -> None:
    empty = np.zeros(0)
    none = np.zeros(0, np.int64)
    with pytest.raises(ValueError, match="want detections"):
        write_predictions(SegmentTable(none, empty, empty, none, None, (), ()))


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)


@st.composite
def detections(draw: st.DrawFn) -> SegmentTable:
    videos = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    labels = sorted(draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)))
    row = st.tuples(st.sampled_from(range(len(videos))), st.sampled_from(range(len(labels))), NUMBERS, NUMBERS, NUMBERS)
    rows = sorted(draw(st.lists(row, max_size=8)), key=lambda row: row[0])
    columns: list[Any] = [np.array([r[i] for r in rows], np.int64 if i < 2 else np.float64) for i in range(5)]
    return SegmentTable(columns[0], columns[2], columns[3], columns[1], columns[4], tuple(videos), tuple(labels))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(table=detections())
def test_written_detections_are_read_back(tmp_path, table) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(write_predictions(table))
    back = read_predictions(str(path), truth=table)
    for name in ("video", "start_s", "end_s", "label", "score"):
        np.testing.assert_array_equal(getattr(back, name), getattr(table, name))
    assert (back.videos, back.labels) == (table.videos, table.labels)
    assert write_predictions(back) == path.read_bytes()


def test_the_published_files(real) -> None:
    report = Report()
    truth = read_truth(real("activitynet/groundtruth_v1-3_rebuilt.json"), subset="validation", report=report)
    assert (len(truth.videos), len(truth.labels), len(truth)) == (4728, 200, 7293)
    predictions = read_predictions(real("activitynet/sample_detection_prediction.json"), truth=truth, report=report)
    stored = json.loads(Path(real("activitynet/sample_detection_prediction.json")).read_text())["results"]
    assert len(predictions) == sum(len(found) for found in stored.values())
    assert len(predictions.videos) == len(set(truth.videos) | set(stored))
    assert not report.counts
    written = json.loads(write_predictions(predictions, videos=tuple(stored)))
    assert {name: found for name, found in written["results"].items() if found} == stored


def test_the_json_of_synth(synth_root) -> None:
    report = Report()
    table = read_truth(str(synth_root / "untrimmed" / "activitynet.json"), report=report)
    tubes = segments_of(tube_json.read_truth(str(synth_root / "untrimmed" / "tubes")))
    assert len(table.videos) == 5
    assert set(table.subset) == {"training", "validation", "testing"}
    inside = {
        (tubes.videos[v].removesuffix(".mp4"), tubes.labels[k]) for v, k in zip(tubes.video, tubes.label, strict=True)
    }
    assert {(table.videos[v], table.labels[k]) for v, k in zip(table.video, table.label, strict=True)} == inside
    assert (table.end_s <= table.duration_s[table.video]).all()
    assert not report.counts
