"""`reelmill evaluate tubes` gives the official code's numbers from files."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.evaluate_tubes import main
from schemas.errors import UsageError

GOLDEN = json.loads((Path(__file__).resolve().parents[1] / "golden/metrics/tubes.json").read_text())
LEFT = [0.0, 0.0, 10.0, 10.0]  # x1 y1 x2 y2


def tubes_json(case: dict[str, Any], side: str) -> str:
    videos: dict[str, list[Any]] = {name: [] for name in case["videos"]}
    for video, label, start, boxes, *scores in case[side]:
        tube = {"label": case["labels"][label], "start_frame": start, "end_frame": start + len(boxes)}
        tube["boxes_xywh"] = [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in boxes]
        tube.update(
            {name: value for name, value in zip(("score", "box_scores"), scores, strict=False) if value is not None}
        )
        videos[case["videos"][video]].append(tube)
    return json.dumps({"videos": [{"video": name, "num_frames": 999, "tubes": of} for name, of in videos.items()]})


@pytest.fixture
def files(tmp_path: Path) -> Any:
    def write(case: dict[str, Any]) -> dict[str, str]:
        for side in ("truth", "predictions"):
            (tmp_path / f"{side}.json").write_text(tubes_json(case, side))
        return {"groundtruth": str(tmp_path / "truth.json"), "predictions": str(tmp_path / "predictions.json")}

    return write


def simple(truth: list[Any], predictions: list[Any], videos: tuple[str, ...] = ("a", "b")) -> dict[str, Any]:
    return {"videos": videos, "labels": ("run", "jump"), "truth": truth, "predictions": predictions}


@pytest.mark.parametrize("name", [name for name, case in GOLDEN.items() if case["truth"]])
def test_files_give_the_official_numbers(files: Any, capsys: pytest.CaptureFixture[str], name: str) -> None:
    case = GOLDEN[name]
    main(**files(case), iou=[case["iou"]], as_json=True)
    found = json.loads(capsys.readouterr().out)["thresholds"][0]
    named = sorted({case["labels"][row[1]] for row in case["truth"]})  # a json of tubes names no other class
    for metric in ("frame", "video"):
        want = dict(zip(case["labels"], case[metric], strict=True))
        got = {row["label"]: row["ap"] for row in found[f"{metric}_map"]["classes"]}
        assert got == pytest.approx({label: want[label] for label in named}, abs=1e-7)


def test_table_and_coverage(files: Any, capsys: pytest.CaptureFixture[str]) -> None:
    truth = [(0, 0, 0, [LEFT] * 4), (1, 1, 0, [LEFT] * 4)]
    far = [[50.0, 50.0, 60.0, 60.0]]
    predictions = [(0, 0, 0, [LEFT] * 4, 0.9), (0, 0, 0, [LEFT] * 4, 0.8), (0, 1, 9, far * 2, 0.7)]
    main(**files(simple(truth, predictions)), iou=[0.5, 0.2])
    shown = capsys.readouterr().out
    rows = [line.replace("│", " ").split() for line in shown.splitlines()]
    assert ["run", "100.00", "100.00", "100.00", "100.00", "1"] in rows
    assert ["mean", "over", "2", "classes", *["50.00"] * 4, "2"] in rows
    assert "frame@0.5" in shown
    assert "coverage: 4 of 8 frames with truth (50.0%) and 1 of 2 videos with truth (50.0%) have predictions" in shown
    assert "predicted boxes: 10 counted, 2 of these in frames without truth (mistakes)" in shown
    assert "predicted tubes: 2 counted, 1 dropped for a better one that they overlap" in shown


def test_unknown_classes_and_videos_are_said(files: Any, capsys: pytest.CaptureFixture[str]) -> None:
    predictions = [(0, 1, 0, [LEFT], 0.9), (1, 0, 0, [LEFT], 0.9)]
    paths = files(simple([(0, 0, 0, [LEFT])], predictions))
    only_a = json.loads(Path(paths["groundtruth"]).read_text())
    Path(paths["groundtruth"]).write_text(json.dumps({"videos": only_a["videos"][:1]}))
    main(**paths)
    shown = capsys.readouterr()
    assert "predicted tubes: 0 counted, 1 in videos that the truth does not have (ignored)" in shown.out
    assert "predictions: 1 × unknown class (dropped)" in shown.err


def test_a_class_name_is_shown_as_it_is(files: Any, capsys: pytest.CaptureFixture[str]) -> None:
    main(**files({**simple([(0, 0, 0, [LEFT])], []), "labels": ["run [fast]"]}))
    assert "run [fast]" in capsys.readouterr().out


def test_pixels_and_suppression_are_options(files: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    paths = files(
        simple([(0, 0, 0, [[0, 0, 4, 10]])], [(0, 0, 0, [[0, 0, 8, 10]], 0.9), (0, 0, 0, [[0, 0, 8, 10]], 0.8)])
    )
    for options in ({}, {"half_open": True}, {"nms_iou": 1.0}):
        main(**paths, iou=[0.51], as_json=True, **options)
        found.append(json.loads(capsys.readouterr().out)["thresholds"][0])
    assert [one["frame_map"]["map"] for one in found] == [1, 0, 1]
    assert [one["video_map"]["coverage"]["suppressed"] for one in found] == [1, 1, 0]


def test_mistakes_are_one_sentence(files: Any) -> None:
    paths = files(simple([], []))
    with pytest.raises(UsageError, match=r"truth\.json: no tube in this truth"):
        main(**paths)
    with pytest.raises(UsageError, match="--iou 0: give a threshold above 0 and up to 1"):
        main(**paths, iou=[0.0])
    with pytest.raises(UsageError, match="nowhere"):
        main(groundtruth="nowhere.json", predictions="nowhere.json")
    truth = files(simple([(0, 0, 0, [LEFT])], []))["groundtruth"]
    with pytest.raises(UsageError, match="none of its 1 predictions can be used; bad score: a: a tube of 'run' has no"):
        main(groundtruth=truth, predictions=truth)
