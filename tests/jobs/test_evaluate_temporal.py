"""`reelmill evaluate temporal` on files, as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jobs.evaluate_temporal import main, parse_tious
from schemas.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / ".." / "shared/data"


def program(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.evaluate_temporal", *map(str, words)]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300, env=environment)


def segment(start: float, end: float, label: str | None = None, score: float | None = None) -> dict:
    known = {"label": label, "score": score, "segment": [start, end]}
    return {name: value for name, value in known.items() if value is not None}


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """Three videos of validation, one of them with an Ambiguous segment, and one of training."""
    database = {
        "a": {"subset": "validation", "annotations": [segment(0, 10, "run"), segment(20, 30, "jump")]},
        "b": {"subset": "validation", "annotations": [segment(0, 10, "run"), segment(40, 60, "Ambiguous")]},
        "c": {"subset": "validation", "annotations": []},
        "d": {"subset": "training", "annotations": [segment(0, 10, "run")]},
    }
    return write(tmp_path / "truth.json", {"database": database})


@pytest.fixture
def found(tmp_path: Path) -> Path:
    results = {
        "a": [segment(0, 10, "run", 0.9), segment(20, 26, "jump", 0.8)],
        "b": [segment(41, 50, "run", 0.95), segment(0, 10, "run", 0.5)],
        "d": [segment(0, 10, "jump", 0.1), segment(0, 10, "sit", 0.1)],
    }
    return write(tmp_path / "found.json", {"results": results})


def write(path: Path, root: object) -> Path:
    path.write_text(json.dumps(root))
    return path


def as_json(capsys: pytest.CaptureFixture[str], **options: object) -> dict:
    capsys.readouterr()
    main(as_json=True, **{name: str(v) if isinstance(v, Path) else v for name, v in options.items()})
    return json.loads(capsys.readouterr().out)


def test_activitynet(truth: Path, found: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"groundtruth": truth, "predictions": found, "subset": "validation"}
    told = as_json(capsys, protocol="activitynet", **files, tiou="0.5,0.75")
    # run: mistake, hit, hit, so 2/3 of precision for both; jump: tIoU 0.6, then a mistake
    assert told["tious"] == [0.5, 0.75]
    assert told["map"] == pytest.approx([(2 / 3 + 1) / 2, 1 / 3])
    assert told["average_map"] == pytest.approx(np.mean(told["map"]))
    assert told["classes"][1] == {"label": "jump", "ap": [1.0, 0.0], "truth": 1, "predictions": 2}
    assert told["predictions_without_class"] == 1
    assert told["coverage"] == {
        "videos": 3,
        "videos_with_predictions": 2,
        "missing": ["c"],
        "predictions": 6,
        "predictions_elsewhere": 2,
        "videos_elsewhere": ["d"],
    }


def test_thumos_has_another_rule(truth: Path, found: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"groundtruth": truth, "predictions": found, "subset": "validation"}
    told = as_json(capsys, protocol="thumos", **files, tiou="0.5")
    assert told["map"] == [1.0]  # the mistake touches the Ambiguous segment
    assert len(as_json(capsys, protocol="thumos", **files)["map"]) == 5


def test_text_of_the_thumos_kit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "annotation"
    folder.mkdir()
    (folder / "Diving_test.txt").write_text("video_test_0000004 1.0 2.0\n")
    (folder / "Ambiguous_test.txt").write_text("video_test_0000004 5.0 6.0\n")
    found = tmp_path / "found.txt"
    found.write_text("video_test_0000004.mp4 1.0 2.0 26 0.5\nvideo_test_0000004 5.0 5.5 26 0.9\nx 1 2 7 0.5\n")
    told = as_json(capsys, protocol="thumos", groundtruth=folder, predictions=found)
    assert told["map"] == [1.0] * 5
    assert told["problems"]["predictions"]["unknown_class"]["count"] == 1


def test_proposals(truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = write(
        tmp_path / "p.json", {"results": {"a": [segment(0, 10, score=0.9)], "b": [segment(0, 10, score=0.9)]}}
    )
    files = {"groundtruth": truth, "predictions": found, "subset": "validation"}
    told = as_json(capsys, protocol="activitynet", **files, proposals=True)
    assert told["ar_at"]["100"] == pytest.approx(2 / 3)
    assert (len(told["recall"]), len(told["recall"][0]), told["proposals_per_video"][-1]) == (10, 100, 100)
    main("activitynet", str(truth), str(found), subset="validation", proposals=True)
    shown = capsys.readouterr().out
    assert "recall of 3 segments" in shown
    assert "66.67" in shown


def test_what_is_printed(truth: Path, found: Path) -> None:
    files = ("--groundtruth", truth, "--predictions", found, "--subset", "validation")
    done = program("--protocol", "activitynet", *files, "--tiou", "0.3:0.7:0.1")
    assert done.returncode == 0, done.stderr
    for text in ("mAP over 2 classes", "0.3", "0.7", "83.33", "average", "2 of 3 videos", "without: c"):
        assert text in done.stdout
    assert "2 of them in 1 videos that the truth does not have: d" in done.stdout
    assert "left out: 1 prediction of classes without truth" in done.stdout
    assert "ties" not in done.stdout


def test_ties_that_matter_are_named(truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 20 equal scores introsort, reversed, has the second of the file third; the last comes first else."""
    tied = [segment(100 + index, 101 + index, "run", 0.5) for index in range(20)]
    tied[1]["segment"] = [0, 10]
    found = write(tmp_path / "tied.json", {"results": {"a": tied}})
    files = {"groundtruth": truth, "predictions": found, "subset": "validation"}
    told = as_json(capsys, protocol="activitynet", **files)
    assert told["tied_predictions"] == 20
    assert told["classes"][0]["ap"][0] == pytest.approx(1 / 19 / 2)
    assert told["average_map_with_other_ties"]["introsort"] == pytest.approx(1 / 3 / 2 / 2)
    for order in ("introsort", "installed"):
        other = as_json(capsys, protocol="activitynet", **files, ties=order)["average_map"]
        assert told["average_map_with_other_ties"][order] == other
    main("activitynet", str(truth), str(found), subset="validation")
    assert "20 predictions share their score" in capsys.readouterr().out


def test_blocked_videos(truth: Path, found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = write(tmp_path / "blocked.json", ["b"])
    files = {"groundtruth": truth, "predictions": found, "subset": "validation", "blocked": blocked}
    told = as_json(capsys, protocol="activitynet", **files, tiou="0.5")
    assert told["map"] == [1.0]
    assert told["coverage"]["missing"] == ["c"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5", [0.5]),
        ("0.5,0.75", [0.5, 0.75]),
        ("0.3:0.7:0.1", np.linspace(0.3, 0.7, 5).tolist()),
        ("0.5:0.95:0.05", np.linspace(0.5, 0.95, 10).tolist()),
        ("0.5:0.5:0.1", [0.5]),
    ],
)
def test_thresholds(text: str, expected: list[float]) -> None:
    assert parse_tious(text).tolist() == expected


@pytest.mark.parametrize("text", ["", "half", "0", "1.5", "0.3:0.7", "0.3:0.7:0.3", "0.7:0.3:0.1", "0.3:0.7:0", "nan"])
def test_bad_thresholds(text: str) -> None:
    with pytest.raises(UsageError, match="want thresholds in"):
        parse_tious(text)


def test_mistakes_are_one_sentence(reelmill, truth: Path, found: Path, tmp_path: Path) -> None:
    files = ("activitynet", str(truth), str(found))
    with pytest.raises(UsageError, match="several subsets; say which with --subset: training, validation"):
        main(*files)
    with pytest.raises(UsageError, match="--ties goes with --protocol activitynet"):
        main("thumos", *files[1:], subset="validation", ties="last")
    unscored = write(tmp_path / "unscored.json", {"results": {"a": [{"segment": [0, 1], "label": "run"}]}})
    with pytest.raises(UsageError, match="none of its 1 predictions can be used; bad score: a: run: score None is not"):
        main("activitynet", str(truth), str(unscored), subset="validation")
    nothing = write(tmp_path / "blocked.json", ["a", "b"])
    with pytest.raises(UsageError, match="no segment with a class is left"):
        main(*files, subset="validation", blocked=str(nothing))
    with pytest.raises(UsageError, match="want a list of videos"):
        main(*files, subset="validation", blocked=str(write(nothing, {"a": 1})))
    words = ("--protocol", "thumos14", "--groundtruth", truth, "--predictions", found)
    assert reelmill("evaluate", "temporal", *words).returncode == 2


@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data")
def test_the_official_sample(capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        "groundtruth": DATA / "activitynet/groundtruth_v1-3_rebuilt.json",
        "predictions": DATA / "activitynet/sample_detection_prediction.json",
    }
    told = as_json(capsys, protocol="activitynet", **files, subset="validation")
    assert told["average_map"] == pytest.approx(0.9719758051, abs=1e-9)
    assert told["coverage"]["videos"] == told["coverage"]["videos_with_predictions"] == 4728
