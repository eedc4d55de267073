"""`reelmill train`, and heads under Ray Train."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.prepare import plan_config
from jobs.train import fit, main, train_heads
from pipeline import receipts, runner
from pipeline.config import load_config
from pipeline.graph import Plan
from pipeline.store import Store
from pipeline.threads import num_cores
from pipeline.training.head import train_head
from pipeline.training.loop import EpochReport
from schemas.errors import ReelmillError, UsageError


def planned(config: Path) -> tuple[Plan, Store]:
    loaded = load_config(config)
    store = Store(loaded.dataset)
    return plan_config(loaded, store), store


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def train(config: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.train", str(config), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_json_is_what_metrics_json_says(head_config: Path) -> None:
    done = train(head_config, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == ["heads/actions", "heads/probe"]
    _, store = planned(head_config)
    assert found == {path: json.loads(store.read(f"{path}/metrics.json")) for path in found}
    assert "heads/actions lstm: epoch 1/4, " in done.stderr
    assert "local mode" not in done.stderr


def test_one_head_may_be_named(head_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(head_config, head=["probe"])
    shown = capsys.readouterr()
    assert "heads/probe" in shown.out
    assert "33.3" in shown.out  # chance
    assert "epoch 1/4" in shown.err
    _, store = planned(head_config)
    assert receipts.load(store, "heads/actions", 0) is None
    main(head_config, head=["probe"])
    again = capsys.readouterr()
    assert again.out == shown.out
    assert "epoch" not in again.err  # it stands


def test_mistakes_are_one_sentence(head_config: Path) -> None:
    with pytest.raises(UsageError) as usage:
        main(head_config, head=["nothing"])
    assert str(usage.value) == "--head nothing: this config has actions, probe"
    _, store = planned(head_config)
    receipts.retract(store, "features/c3d", 0)
    with pytest.raises(ReelmillError) as error:
        main(head_config)
    assert str(error.value) == "features/c3d unit 000000 is not made yet: run the whole config, upstream first"


def test_in_process_it_is_the_plain_loop(head_config: Path) -> None:
    plan, store = planned(head_config)
    product = plan.product("heads/actions")
    train_head(product, plan.whole, store, feature_units=plan.units, threads=num_cores())
    folder = Path(store.path("heads/actions"))
    plain = tree(folder)
    shutil.rmtree(folder)
    news: list[EpochReport] = []
    fit(product, plan.whole, store, feature_units=plan.units, report=news.append)
    assert tree(folder) == plain
    assert [line.model for line in news] == ["lstm"] * 4 + ["linear"] * 4
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == [
        "_ledger",
        "_receipts",
        "checkpoints",
        "probe",
    ]


def _curve(store: Store) -> list[list[float]]:
    lines = store.read("heads/actions/curves.csv").decode().splitlines()[1:]
    return [[float(cell) for cell in line.split(",")] for line in lines]


@pytest.mark.cluster
def test_two_workers_train_what_one_does(head_config: Path) -> None:
    """Gradients are those of the whole batch, up to the order of a sum; dropout drops the same activations."""
    plan, store = planned(head_config)
    product = plan.product("heads/actions")
    train_heads(plan, store, names=["actions"])
    alone, metrics = _curve(store), json.loads(store.read("heads/actions/metrics.json"))
    folder = Path(store.path("heads/actions"))
    files = sorted(tree(folder))
    shutil.rmtree(folder)
    news: list[EpochReport] = []
    with runner.cluster(workers=2):
        receipt = fit(product, plan.whole, store, feature_units=plan.units, workers=2, report=news.append)
        assert receipt == receipts.standing(store, product, plan.whole)
        assert len(news) == 8  # each epoch of both models, once
        assert sorted(tree(folder)) == files
        for one, two in zip(alone, _curve(store), strict=True):
            assert one == pytest.approx(two, abs=1e-4)
        found: dict[str, Any] = json.loads(store.read("heads/actions/metrics.json"))
        assert found["num_videos"] == metrics["num_videos"]
        assert found["models"]["lstm"]["best_epoch"] == metrics["models"]["lstm"]["best_epoch"]
        # an error is the same sentence as in process
        receipts.retract(store, "features/c3d", 0)
        receipts.retract(store, product.path, 0)
        with pytest.raises(ReelmillError) as error:
            fit(product, plan.whole, store, feature_units=plan.units, workers=2)
    assert str(error.value) == "features/c3d unit 000000 is not made yet: run the whole config, upstream first"
