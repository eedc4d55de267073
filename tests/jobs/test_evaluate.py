"""`reelmill evaluate` says what metrics.json says."""

import json
import math
from pathlib import Path

import pytest
import yaml

from jobs.evaluate import main, show
from jobs.prepare import plan_config
from jobs.train import main as train
from jobs.train import train_heads
from pipeline.config import load_config
from pipeline.store import Store
from pipeline.units import read_manifest
from schemas.errors import ReelmillError, UsageError


def test_it_gives_the_numbers_of_training(reelmill, head_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load_config(head_config)
    store = Store(loaded.dataset)
    trained = train_heads(plan_config(loaded, store), store)
    done = reelmill("evaluate", head_config, "--split", "val", "--json")
    assert done.returncode == 0, done.stderr
    for result in json.loads(done.stdout):
        models = trained[result["product"]]["models"]
        assert result["split"] == "val"
        assert result["models"] == {name: model["splits"]["val"] for name, model in models.items()}
    capsys.readouterr()
    main(head_config, head=["actions"])
    shown = capsys.readouterr().out
    top1 = trained["heads/actions"]["top1"]
    for text in ("heads/actions", "lstm", "linear", "test", f"{100 * top1:.1f}", "class by class", "class 2"):
        assert text in shown
    assert "heads/probe" not in shown


def test_heads_of_other_tasks_are_shown_as_well(head_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Several labels a video, and classes of each clip."""
    config = yaml.safe_load(head_config.read_text())
    ids = read_manifest(Store(config["dataset"]))["video_id"].to_pylist()
    segments = [{"segment": [0, 1], "label": "begins"}, {"segment": [0, 9], "label": "goes on"}]
    truth = head_config.parent / "truth.json"
    truth.write_text(json.dumps({"database": {name: {"subset": "", "annotations": segments} for name in ids}}))
    shared = {"features": ["c3d"], "epochs": 2}
    dense = {"labels": "dense", "output": "many-to-many", "annotations": {"kind": "activitynet", "json": str(truth)}}
    config["heads"] = {
        "tags": {"kind": "linear", "labels": "multi", **shared},
        "when": {"kind": "lstm", "hidden": 4, **dense, **shared},
    }
    head_config.write_text(yaml.safe_dump(config))
    train(head_config)
    shown = capsys.readouterr().out
    metrics = {
        name: json.loads((head_config.parent / f"data/heads/{name}/metrics.json").read_text())
        for name in ("tags", "when")
    }
    for name, found in metrics.items():
        coverage = f"{found['num_videos']['test']} of {found['num_videos']['test']} videos"
        for text in (f"heads/{name}", f"mAP {100 * found['map']:.1f} %", f"coverage {coverage}"):
            assert text in shown
    assert "mAP of the linear probe" in shown
    main(head_config)
    shown = capsys.readouterr().out
    for name, found in metrics.items():
        assert f"mAP {100 * found['map']:.1f} %" in shown
        assert f"heads/{name} class by class, in %" in shown
    (row,) = (line.split() for line in shown.splitlines() if "goes on" in line)
    of_class = metrics["when"]["models"]["lstm"]["splits"]["test"]["per_class"][1]
    assert {str(of_class["clips"]), f"{100 * of_class['ap']:.1f}"} < set(row)


def test_classes_of_parts_and_of_several_thresholds(capsys: pytest.CaptureFixture[str]) -> None:
    show(
        [
            {
                "product": "heads/who",
                "split": "test",
                "headline": {"frame-mAP@0.5": 0.25, "coverage": "3 of 4 keyframes"},
                "coverage": {"covered": 3},
                "per_class": [{"label": "run", "boxes": 7, "ap": None}, {"label": "jump", "boxes": 2, "ap": 0.125}],
                "tubes": {"per_class": [{"label": "run", "tubes": 3, "frame_ap": math.nan, "video_ap": {"0.5": 0.75}}]},
            }
        ]
    )
    shown = capsys.readouterr().out
    for text in (
        "frame-mAP@0.5 25.0 %, coverage 3 of 4 keyframes",
        "heads/who class by class, in %",
        "heads/who tubes class by class, in %",
        "video ap@0.5",
    ):
        assert text in shown
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines()]
    for row in (["run", "7", "–"], ["jump", "2", "12.5"], ["run", "3", "–", "75.0"]):
        assert row in cells


def test_mistakes_are_one_sentence(head_config: Path) -> None:
    with pytest.raises(ReelmillError) as error:
        main(head_config)
    assert str(error.value) == "heads/actions is not trained yet; run `reelmill train` first"
    with pytest.raises(UsageError) as usage:
        main(head_config, split="dev")
    assert str(usage.value) == "--split dev: give train, val, test"
