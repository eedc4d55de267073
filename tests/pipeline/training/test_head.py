"""The heads stage as a whole: it learns order, resumes to the same bytes, and accounts for every row."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import receipts
from pipeline.graph import Product
from pipeline.training.head import train_head
from pipeline.training.loop import EpochReport
from schemas.errors import ReelmillError, StorageError
from schemas.receipt import Receipt


def train(dataset: Any, product: Product, report: Any = lambda news: None) -> Receipt:
    return train_head(product, dataset.whole, dataset.store, feature_units=dataset.units, report=report)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_metrics(dataset: Any, product: Product) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads(dataset.store.read(f"{product.path}/metrics.json"))
    return metrics


@pytest.mark.parametrize("output", ["many-to-one", "many-to-many"])
def test_the_lstm_learns_order_and_the_probe_can_not(
    dataset: Any, make_order_task: Callable[..., Any], output: str
) -> None:
    """Two classes made of the same clips in opposite order."""
    dataset.write(make_order_task(160))
    product = dataset.head(output=output, epochs=25, lr=1e-2)
    train(dataset, product)
    metrics = read_metrics(dataset, product)
    assert metrics["top1"] == metrics["models"]["lstm"]["splits"]["test"]["top1"] >= 0.95
    probe = metrics["models"]["linear"]["splits"]["test"]
    assert probe["videos"] >= 20
    assert 0.25 <= probe["top1"] <= 0.75


def test_the_probe_learns_what_single_clips_show(dataset: Any, make_order_task: Callable[..., Any]) -> None:
    videos = make_order_task(60)
    for video in videos:
        video.clips[:, 0] += 2 * video.label_ids[0]
    dataset.write(videos)
    product = dataset.head(kind="linear", epochs=25, lr=1e-2)
    train(dataset, product)
    metrics = read_metrics(dataset, product)
    assert list(metrics["models"]) == ["linear"]
    assert metrics["top1"] >= 0.9
    assert "heads/actions/probe" not in {name.parent.as_posix() for name in (dataset.root).rglob("*")}


def test_the_same_training_gives_the_same_bytes(
    dataset: Any, make_order_task: Callable[..., Any], tmp_path: Path
) -> None:
    dataset.write(make_order_task(40))
    product = dataset.head()
    receipt = train(dataset, product)
    first = tree(dataset.root / "heads/actions")
    receipts.retract(dataset.store, product.path, 0)
    torch.manual_seed(123)
    np.random.seed(5)
    random.seed(7)
    assert train(dataset, product) == receipt
    assert tree(dataset.root / "heads/actions") == first
    assert set(first) == {entry.path for entry in receipt.files} | {"_card.json", "_receipts/000000.json"}
    assert {"metrics.json", "curves.png", "curves.csv", "predictions.csv", "confusion.png"} < set(first)
    for folder in ("checkpoints", "probe/checkpoints"):
        assert {f"{folder}/{which}.{end}" for which in ("best", "last") for end in ("safetensors", "json")} < set(first)
    assert not [name for name in first if name.endswith((".pt", ".pth", ".pkl", ".pickle"))]


def test_the_seed_changes_the_training(dataset: Any, make_order_task: Callable[..., Any]) -> None:
    dataset.write(make_order_task(40))
    curves = []
    for seed in (0, 1):
        product = dataset.head(seed=seed, linear_probe=False)
        train(dataset, product)
        curves.append(dataset.store.read("heads/actions/curves.csv"))
    assert curves[0] != curves[1]


def test_a_head_that_stands_is_not_trained_again(dataset: Any, make_order_task: Callable[..., Any]) -> None:
    dataset.write(make_order_task(40))
    receipt = train(dataset, dataset.head())
    leftover = dataset.root / "heads/actions/_work/lstm.safetensors"
    leftover.parent.mkdir()
    leftover.write_bytes(b"a kill came between the receipt and the cleaning")
    news: list[EpochReport] = []
    assert train(dataset, dataset.head(), news.append) == receipt
    assert news == []
    assert not leftover.parent.exists()
    train(dataset, dataset.head(epochs=3), news.append)  # other settings: stale
    assert len(news) == 6


def test_the_ledger_counts_every_manifest_row(dataset: Any, make_order_task: Callable[..., Any]) -> None:
    videos = make_order_task(40)
    videos[3].status, videos[4].status, videos[5].label_ids = "failed", "partial", (0, 1)
    dataset.write(videos)
    receipt = train(dataset, dataset.head())
    assert receipt.rows == {"ok": 37, "partial": 1, "failed": 1, "filtered": 1}
    ledger = receipts.read_ledger(dataset.store, "heads/actions", 0)
    assert [row.video_id for row in ledger] == [video.video_id for video in videos]
    used = [len(v.clips) for v in videos if v.status != "failed" and len(v.label_ids) == 1]
    assert receipt.items == sum(used) == sum(row.num_items for row in ledger)


def test_without_its_features_it_refuses_and_leaves_nothing(dataset: Any, make_order_task: Callable[..., Any]) -> None:
    dataset.write(make_order_task(40))
    receipts.retract(dataset.store, "features/c3d", 2)
    with pytest.raises(ReelmillError) as error:
        train(dataset, dataset.head())
    assert str(error.value) == "features/c3d unit 000002 is not made yet: run the whole config, upstream first"
    assert not (dataset.root / "heads").exists()


# ---------------------------------------------------------------- kill -9


@pytest.mark.slow
def test_killed_at_random_epochs_it_ends_with_the_same_bytes(
    dataset: Any, make_order_task: Callable[..., Any], killed: Any
) -> None:
    """SIGKILL of a real process, again and again; each start goes on after the last whole epoch."""
    dataset.write(make_order_task(40))
    product = dataset.head(epochs=30)
    train(dataset, product)
    undisturbed = tree(dataset.root / "heads/actions")
    receipts.retract(dataset.store, product.path, 0)
    dataset.store.delete_folder("heads")

    luck = random.Random(20)
    seen = killed.train(dataset, product, [luck.randrange(1, 15) for _ in range(5)], steps=False)
    receipts.sweep(dataset.store, product.path)  # as each run does
    assert tree(dataset.root / "heads/actions") == undisturbed
    assert len(seen) < 60 + 2 * 5  # it went on, it did not start over: at most the epoch in flight came twice
    assert seen[-1] == "epoch linear 30"


@pytest.mark.parametrize("victim", ["metrics.json", "_receipts/000000.json", "probe/checkpoints/last.json"])
def test_a_commit_that_breaks_off_is_made_again(
    dataset: Any, make_order_task: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    """The disk fills up while the files are put in place: no receipt, and the next run ends with the right bytes."""
    dataset.write(make_order_task(40))
    product = dataset.head()
    train(dataset, product)
    undisturbed = tree(dataset.root / "heads/actions")
    receipts.retract(dataset.store, product.path, 0)
    replace = os.replace

    def full(source: Any, target: Any) -> None:
        if str(target).endswith(victim):
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(StorageError, match="no space left on device"):
            train(dataset, product)
    assert receipts.load(dataset.store, product.path, 0) is None
    news: list[EpochReport] = []
    train(dataset, product, news.append)
    assert news == []  # all epochs were kept
    assert tree(dataset.root / "heads/actions") == undisturbed
