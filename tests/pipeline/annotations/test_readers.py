"""No file, whatever its bytes, ends a reader in anything but an answer or a sentence for the user."""

import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.annotations import activitynet, ava, dense_labels, thumos14, tube_json, ucf101_24
from schemas.errors import UsageError

ACTIONS = ava.ActionList(("dance",), (3,))
READERS: dict[str, tuple[str, Callable[[str], object]]] = {
    "activitynet truth": ("a.json", activitynet.read_truth),
    "activitynet predictions": ("a.json", activitynet.read_predictions),
    "thumos14 json": ("a.json", thumos14.read_truth),
    "thumos14 csv": ("a.csv", thumos14.read_truth),
    "thumos14 predictions": ("a.txt", partial(thumos14.read_predictions, unknown="drop")),
    "charades": ("a.csv", dense_labels.read_charades),
    "charades classes": ("a.txt", dense_labels.read_classes),
    "ava labels": ("a.csv", lambda path: ava.read_labels([path])),
    "ava predictions": ("a.csv", partial(ava.read_predictions, actions=ACTIONS)),
    "ava proposals": ("a.csv", ava.read_proposals),
    "ava exclusions": ("a.csv", lambda path: ava.read_exclusions([path])),
    "ava actions": ("a.pbtxt", ava.read_actions),
    "tubes": ("a.json", tube_json.read_truth),
    "tube predictions": ("a.json", tube_json.read_predictions),
    "ucf101_24": ("v_Diving_g01_c01.xgtf", ucf101_24.read_truth),
}
THUMOS_HEADER = "video-name,t-init,t-end,video-duration,label-idx\n"
CELLS = st.sampled_from(["", " ", "v", "3", "-1", "0.5", "nan", "1e999", "c001", "c001 1 2;", '"', "é", "\x00", "\x85"])
LINES = st.lists(st.lists(CELLS, max_size=9), max_size=5)
PLAIN = st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.sampled_from(["", "v", "run"])
WRAPPERS = ["database", "results", "videos", "tubes"]
KEYS = st.sampled_from(
    [*WRAPPERS, "video", "subset", "annotations", "segment", "label", "score", "duration", "end_frame"]
)
VALUES = st.recursive(PLAIN, lambda v: st.lists(v, max_size=4) | st.dictionaries(KEYS, v, max_size=6), max_leaves=30)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Bytes, lines of cells or json: what a reader takes for its own for a while."""
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return draw(st.binary(max_size=60))
    if kind == 1:
        value: Any = draw(VALUES)
        return json.dumps(draw(st.sampled_from([value, {"database": value}, {"results": value}]))).encode()
    separator = draw(st.sampled_from([",", " "]))
    header = draw(st.sampled_from(["", THUMOS_HEADER, "id,actions,length\n", "\ufeff"]))
    return (header + "".join(separator.join(cells) + "\n" for cells in draw(LINES))).encode()


@pytest.mark.parametrize("name", READERS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(data=files())
def test_any_bytes(tmp_path, name, data) -> None:
    file, read = READERS[name]
    path = tmp_path / file
    path.write_bytes(data)
    with suppress(UsageError):
        read(str(path))


@st.composite
def databases(draw: st.DrawFn) -> Any:
    segment = st.lists(PLAIN, max_size=3) | PLAIN
    annotation = st.fixed_dictionaries(
        {}, optional={"label": PLAIN, "class": PLAIN, "segment": segment, "score": PLAIN}
    )
    found = st.lists(annotation | PLAIN, max_size=3) | PLAIN
    entry = st.fixed_dictionaries({}, optional={"subset": PLAIN, "annotations": found, "duration": PLAIN})
    return draw(
        st.dictionaries(st.sampled_from(["a", "b", "\ud800"]), draw(st.sampled_from([entry, found])), max_size=3)
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80, deadline=None)
@given(database=databases())
def test_any_entries(tmp_path, database) -> None:
    path = tmp_path / "a.json"
    for key, read in (("database", activitynet.read_truth), ("results", activitynet.read_predictions)):
        path.write_text(json.dumps({key: database}))
        with suppress(UsageError):
            table = read(str(path))
            " ".join([*table.videos, *table.labels]).encode()


@st.composite
def tube_files(draw: st.DrawFn) -> Any:
    boxes = st.lists(st.lists(PLAIN, max_size=5) | PLAIN, max_size=3) | PLAIN
    frames = {"start_frame": PLAIN, "end_frame": PLAIN, "boxes_xywh": boxes}
    tube = st.fixed_dictionaries({}, optional={"label": PLAIN, **frames, "score": PLAIN, "box_scores": boxes})
    video = {
        "video": PLAIN,
        "num_frames": PLAIN,
        "fps": PLAIN,
        "width": PLAIN,
        "tubes": st.lists(tube | PLAIN, max_size=3),
    }
    return draw(st.lists(st.fixed_dictionaries({}, optional=video) | PLAIN, max_size=3))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80, deadline=None)
@given(videos=tube_files())
def test_any_tubes(tmp_path, videos) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"videos": videos}))
    for read in (tube_json.read_truth, tube_json.read_predictions):
        read(str(path))
