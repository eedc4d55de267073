import csv
import io
import json

import pytest

from pipeline.synth import SynthSpec
from pipeline.synth.annotations import annotation_files, video_path
from pipeline.synth.plan import plan_videos
from pipeline.synth.scene import Scene
from pipeline.synth.tubes import tubes_json

SPEC = SynthSpec(num_classes=10, videos_per_class=5, num_untrimmed=3, width_px=64, height_px=48, fps=10, duration_s=3.5)


@pytest.fixture(scope="module")
def plans():
    return plan_videos(SPEC)


@pytest.fixture(scope="module")
def tubes(plans):
    return {p.video_id: tubes_json(Scene(SPEC, p), video="v.mp4") for p in plans if p.kind == "untrimmed"}


@pytest.fixture(scope="module")
def files(plans, tubes):
    return annotation_files(SPEC, plans, tubes)


def test_kinetics_rows_name_the_files(files, plans):
    rows = list(csv.DictReader(io.StringIO(files["trimmed/kinetics.csv"])))
    assert list(rows[0]) == ["label", "youtube_id", "time_start", "time_end", "split", "is_cc"]
    trimmed = [plan for plan in plans if plan.kind == "trimmed"]
    assert len(rows) == len(trimmed) == 50
    for row, plan in zip(rows, trimmed, strict=True):
        name = f"{row['youtube_id']}_{int(row['time_start']):06d}_{int(row['time_end']):06d}.mp4"
        assert video_path(SPEC, plan) == f"videos/{row['label']}/{name}"
        assert row["split"] == plan.split
    assert rows[0]["time_end"] == "4"  # whole seconds, as in Kinetics


def test_lists_of_paths_are_0_based_and_split(files):
    train = files["trimmed/train.txt"].splitlines()
    assert len(train) == 30
    for line in train:
        path, label = line.split(" ")
        assert path.split("/")[1] == SPEC.classes[int(label)]
    assert len(files["trimmed/val.txt"].splitlines()) == len(files["trimmed/test.txt"].splitlines()) == 10


def test_ucf101_lists_are_1_based_and_the_test_list_has_no_labels(files):
    assert files["trimmed/ucf101/classInd.txt"].splitlines()[0] == "1 move_right"
    path, label = files["trimmed/ucf101/trainlist01.txt"].splitlines()[-1].split(" ")
    assert (path.split("/")[0], label) == ("still", "10")
    test = files["trimmed/ucf101/testlist01.txt"].splitlines()
    assert len(test) == 20
    assert not any(" " in line for line in test)


def test_activitynet_segments_are_those_of_the_plan_in_seconds(files, plans):
    database = json.loads(files["untrimmed/activitynet.json"])["database"]
    untrimmed = [plan for plan in plans if plan.kind == "untrimmed"]
    assert list(database) == [plan.video_id for plan in untrimmed]
    assert [entry["subset"] for entry in database.values()] == ["training", "training", "testing"]
    for plan in untrimmed:
        entry = database[plan.video_id]
        assert entry["duration"] == 30.0
        assert [(a["label"], *a["segment"]) for a in entry["annotations"]] == [
            (s.label, s.start_frame / 10, s.end_frame / 10) for s in plan.stretches
        ]


def test_ava_rows_are_the_boxes_of_the_frame_on_display_at_each_second(files, plans, tubes):
    rows = [row for split in ("train", "test") for row in csv.reader(io.StringIO(files[f"untrimmed/ava/{split}.csv"]))]
    wanted = 0
    for plan in plans:
        for tube in tubes[plan.video_id]["tubes"] if plan.kind == "untrimmed" else ():
            wanted += sum(tube["start_frame"] <= second * 10 < tube["end_frame"] for second in range(30))
    assert len(rows) == wanted > 20
    for video, second, x1, y1, x2, y2, action, person in rows:
        assert 0 <= float(x1) < float(x2) <= 1
        assert 0 <= float(y1) < float(y2) <= 1
        assert len(second) == 4
        label = SPEC.classes[int(action) - 1]
        assert any(
            t["label"] == label
            and t["person_id"] == int(person)
            and t["start_frame"] <= int(second) * 10 < t["end_frame"]
            for t in tubes[video]["tubes"]
        )


def test_the_action_list_is_a_pbtxt_with_ids_from_1(files):
    text = files["untrimmed/ava/action_list.pbtxt"]
    assert text.startswith('item {\n  name: "move_right"\n  id: 1\n}\nitem {\n')
    assert text.count("item {") == 10


def test_no_file_is_written_for_videos_that_are_not_there():
    spec = SynthSpec(videos_per_class=1, num_classes=2, split=(1, 0, 0))
    assert set(annotation_files(spec, plan_videos(spec), {})) == {
        "classes.txt",
        "trimmed/kinetics.csv",
        "trimmed/train.txt",
        "trimmed/ucf101/classInd.txt",
        "trimmed/ucf101/trainlist01.txt",
        "trimmed/ucf101/testlist01.txt",
    }
