"""`reelmill train`, and heads under Ray Train."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from jobs import train as module
from jobs.prepare import plan_config
from jobs.train import fit, main, train_heads
from pipeline import receipts, runner
from pipeline.config import load_config
from pipeline.graph import Plan
from pipeline.runner.requests import ROLE_LABEL, Facts, Node, Request
from pipeline.store import Store
from pipeline.synth import SynthSpec, make_dataset
from pipeline.threads import num_cores
from pipeline.training import loop
from pipeline.training.clips.task import ClipTask
from pipeline.training.head import train_head
from pipeline.training.loop import EpochReport
from schemas.errors import ReelmillError, UsageError
from schemas.pools import Pools

TWO = Request(num_cpus=1, num_gpus=0, labels={}, workers=2, holds=True)


def planned(config: Path) -> tuple[Plan, Store]:
    loaded = load_config(config)
    store = Store(loaded.dataset)
    return plan_config(loaded, store), store


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_json_is_what_metrics_json_says(reelmill, head_config: Path) -> None:
    done = reelmill("train", head_config, "--json")
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
    news: list[Any] = []
    fit(product, plan.whole, store, feature_units=plan.units, report=news.append)
    assert tree(folder) == plain
    epochs = [line.model for line in news if isinstance(line, EpochReport)]  # a busy machine tells of steps, too
    assert epochs == ["lstm"] * 4 + ["linear"] * 4
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == [
        "_ledger",
        "_receipts",
        "checkpoints",
        "probe",
    ]


def _curve(store: Store, head: str = "actions") -> list[list[float]]:
    lines = store.read(f"heads/{head}/curves.csv").decode().splitlines()[1:]
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
    news: list[Any] = []
    with runner.cluster(workers=2):
        receipt = fit(product, plan.whole, store, feature_units=plan.units, crew=TWO, report=news.append)
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
            fit(product, plan.whole, store, feature_units=plan.units, crew=TWO)
    assert str(error.value) == "features/c3d unit 000000 is not made yet: run the whole config, upstream first"


# ---------------------------------------------------------------- clips

NET = {"kind": "clip_classifier", "from": "clips/small", "model": "small_rgb", "weights": "random:0", "batch_size": 5}
LSTM = {"kind": "lstm", "features": ["c3d"]}
ALL_LAYERS = "conv4b"


@pytest.fixture
def clips_config(tmp_path: Path, make_products: Callable[[Path], None]) -> Path:
    """A config with clips of 16 synthetic videos of two motions, and networks to be trained on them."""
    made = make_dataset(tmp_path / "made", SynthSpec(num_classes=2, videos_per_class=8, duration_s=1.0))
    path = tmp_path / "config.yaml"
    config: dict[str, Any] = {
        "dataset": str(tmp_path / "data"),
        "source": {
            "kind": "kinetics",
            "csv": str(tmp_path / "made" / str(made.kinetics_csv)),
            "videos": str((tmp_path / "made" / str(made.kinetics_csv)).parent / "videos"),
        },
        "units": {"videos_per_unit": 6},
        "clips": {"small": {"frames": 4, "fps": 8, "resize": [32, 40], "stride_s": 0.5}},
    }
    path.write_text(yaml.safe_dump(config))
    make_products(path)
    config["heads"] = {
        "net": {**NET, "epochs": 3, "augment": {"flip": True}},
        "top": {**NET, "epochs": 3, "freeze": [ALL_LAYERS]},  # no batch norm learns: its statistics are given
    }
    path.write_text(yaml.safe_dump(config))
    return path


def test_a_network_is_trained_on_clips(clips_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(clips_config, head=["net"])
    shown = capsys.readouterr()
    assert "heads/net clip_classifier: epoch 1/3, " in shown.err
    assert " clips/s" in shown.err
    assert "heads/net" in shown.out
    _, store = planned(clips_config)
    assert json.loads(store.read("heads/net/metrics.json"))["num_classes"] == 2


def test_a_damaged_clip_is_one_sentence(clips_config: Path) -> None:
    plan, store = planned(clips_config)
    shard = Path(store.path("clips/small/clips-000001.tar"))
    shard.write_bytes(shard.read_bytes().replace(b"\xff\xd8\xff", b"\0\0\0"))
    with pytest.raises(ReelmillError, match=r"^clips/small: clip \S+ can't be used: ") as error:
        fit(plan.product("heads/net"), plan.whole, store, feature_units=plan.units)
    assert "\n" not in str(error.value)


def test_heads_that_gain_get_the_gpus_of_a_cluster(clips_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small head stays in this process unless the pool says otherwise; a network gets a GPU for each worker."""
    plan, _ = planned(clips_config)
    net = plan.product("heads/net")
    small = replace(net, name="small", settings=LSTM)
    labels = {ROLE_LABEL: "gpu"}

    def crews(num_gpus: int, **pool: Any) -> dict[str, Request]:
        facts = Facts((Node(8, 0), *[Node(8, 1, labels)] * num_gpus))
        monkeypatch.setattr(module, "cluster_facts", lambda *, is_local: facts)
        return module._crews([net, small], Pools.model_validate({"heads": pool}))

    assert crews(0) == {}
    assert crews(2) == {"heads/net": Request(1, 1, labels, 1, holds=True)}
    assert crews(0, workers=2) == {"heads/net": TWO, "heads/small": TWO}
    assert crews(2, workers=2) == {"heads/net": Request(1, 1, labels, 2, holds=True), "heads/small": TWO}
    assert crews(1, workers=2, gpus=0.5)["heads/net"] == Request(1, 0.5, labels, 2, holds=True)
    with pytest.raises(UsageError) as error:
        crews(2, workers=3)
    assert str(error.value) == (
        "heads/net: each of 3 workers takes a GPU, and the cluster has 2; take --workers 2, or set pools.heads.gpus"
    )


@pytest.mark.cluster
@pytest.mark.slow
def test_two_workers_train_a_network(clips_config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two workers compute what one does, batch norms included; to the byte the same even if a worker is killed in the
    middle of it."""
    plan, store = planned(clips_config)
    top, net = plan.product("heads/top"), plan.product("heads/net")
    for product in (top, net):
        fit(product, plan.whole, store, feature_units=plan.units)
    alone = {name: _curve(store, name) for name in ("top", "net")}
    shutil.rmtree(store.path("heads"))
    steps = tmp_path / "steps"
    steps.mkdir()
    monkeypatch.setattr(module, "_loop", _killed_once(module._loop, steps))
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with runner.cluster(workers=2):
        for product in (top, net):
            fit(product, plan.whole, store, feature_units=plan.units, crew=TWO)
            for one, two in zip(alone[product.name], _curve(store, product.name), strict=True):
                assert one == pytest.approx(two, abs=1e-4)
        undisturbed = tree(Path(store.path(net.path)))
        shutil.rmtree(store.path(net.path))
        for path in steps.iterdir():
            path.unlink()
        (steps / "kill").touch()
        news: list[Any] = []
        fit(net, plan.whole, store, feature_units=plan.units, crew=TWO, report=news.append)
    assert not (steps / "kill").exists(), "a worker was killed"
    assert tree(Path(store.path(net.path))) == undisturbed
    num_steps = -(-json.loads(store.read("heads/net/metrics.json"))["num_clips"]["train"] // NET["batch_size"])
    taken = sum(len(path.read_text()) for path in steps.iterdir())
    assert 3 * num_steps < taken <= 3 * num_steps + 2, "it went on inside the epoch"
    assert {one.line.epoch for one in news if isinstance(one, EpochReport)} == {1, 2, 3}


def _killed_once(make_loop: Any, steps: Path) -> Any:
    """Workers that save after each step, leave a letter for each, and of which one dies in the second epoch."""

    def make(*args: Any, **kwargs: Any) -> Any:
        inner = make_loop(*args, **kwargs)

        def run() -> Any:
            loop.SAVE_EVERY_S = 0
            losses = ClipTask.losses
            rank = ray.train.get_context().get_world_rank()

            def counting(self: ClipTask, model: Any, forward: Any, batch: Any) -> Any:
                if rank == 1:
                    with (steps / str(os.getpid())).open("a") as file:
                        file.write("x")
                    if (steps / "kill").exists() and (steps / str(os.getpid())).stat().st_size == 8:
                        (steps / "kill").unlink()
                        os.kill(os.getpid(), signal.SIGKILL)
                return losses(self, model, forward, batch)

            ClipTask.losses = counting  # type: ignore[method-assign]
            return inner()

        return run

    return make
