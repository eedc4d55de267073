"""The loop: early stopping, the learning rate, divergence, and going on after an interruption."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.training import loop
from pipeline.training.checkpoint import Epoch, Progress
from pipeline.training.classification.task import ClassificationTask
from pipeline.training.loop import Place, StepReport, finished, fit
from pipeline.training.task import Task
from pipeline.training.tasks import open_task, settings_of
from pipeline.training.worker import Worker
from schemas.errors import ReelmillError
from schemas.heads import HeadBase, LSTMHead


def history(*val_losses: float) -> list[Epoch]:
    return [Epoch(n + 1, 0.1, 1.0, loss, 0.5) for n, loss in enumerate(val_losses)]


def progress_of(*val_losses: float) -> Progress:
    lines = history(*val_losses)
    best = min(lines, key=lambda line: line.val_loss).epoch if lines else 0
    return Progress(None, None, lines, best)  # type: ignore[arg-type]  # stopping looks at the history only


@pytest.mark.parametrize(
    ("losses", "stops"),
    [
        ([], False),
        ([1.0, 0.9, 0.8], False),
        ([0.8, 0.9, 0.9], False),  # two without a better one
        ([0.8, 0.9, 0.9, 0.9], True),  # patience is 3
        ([0.9, 0.8, 0.85, 0.81, 0.7], False),
        ([0.9] * 4, True),  # equal is not better
        ([1 / n for n in range(1, 11)], True),  # all epochs done
    ],
)
def test_it_stops_after_patience_or_at_the_last_epoch(losses: list[float], stops: bool) -> None:
    settings = LSTMHead(kind="lstm", features=("c3d",), epochs=10, patience=3)
    assert finished(settings, progress_of(*losses)) is stops


@pytest.fixture
def setting(dataset: Any, make_order_task: Callable[..., Any]) -> tuple[HeadBase, Task[Any], Callable[..., Place]]:
    dataset.write(make_order_task(40))
    product = dataset.head()
    settings = settings_of(product.settings)
    task = open_task(dataset.source(product), settings)

    def place(report: Any = lambda news: None, fingerprint: str = "f") -> Place:
        path = "heads/actions/_work/lstm.safetensors"
        return Place(dataset.store, product.path, "lstm", path, fingerprint, Worker(), report)

    return settings, task, place


def weights(progress: Progress) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in progress.model.parameters()])


def test_early_stopping_keeps_the_best_epoch(setting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, task, place = setting
    losses = iter([0.5, 0.3, 0.4, 0.35, 0.2, 0.1])
    monkeypatch.setattr(ClassificationTask, "validate", lambda *args: (next(losses), 0.0))
    snapshots: list[torch.Tensor] = []
    holder: list[Progress] = []
    start = loop._start

    def keep(*args: Any) -> Progress:
        holder.append(start(*args))
        return holder[0]

    monkeypatch.setattr(loop, "_start", keep)
    news: list[Any] = []

    def report(line: Any) -> None:
        news.append(line)
        snapshots.append(weights(holder[0]).clone())

    progress = fit(task, settings.model_copy(update={"patience": 2, "epochs": 6}), place(report))
    assert [line.line.epoch for line in news] == [1, 2, 3, 4]
    assert [line.is_best for line in news] == [True, True, False, False]
    assert progress.best_epoch == 2
    kept = torch.cat([tensor.flatten() for tensor in progress.best.values()])
    assert torch.equal(kept, snapshots[1])
    assert not torch.equal(kept, weights(progress))


class KilledError(Exception):
    pass


@pytest.mark.parametrize("after", [1, 4, 6])
def test_an_interrupted_training_goes_on_to_the_same_weights(
    setting: Any, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0)
    settings, task, place = setting
    undisturbed = fit(task, settings, place(fingerprint="undisturbed"))

    def kill(news: Any) -> None:
        if news.line.epoch == after:
            raise KilledError

    with pytest.raises(KilledError):
        fit(task, settings, place(kill))
    seen: list[int] = []
    resumed = fit(task, settings, place(lambda news: seen.append(news.line.epoch)))
    assert seen == list(range(after + 1, 7))
    assert torch.equal(weights(resumed), weights(undisturbed))
    assert resumed.history == undisturbed.history
    assert resumed.best_epoch == undisturbed.best_epoch
    assert all(torch.equal(resumed.best[name], undisturbed.best[name]) for name in resumed.best)


@pytest.mark.parametrize("after", [1, 2, 5, 11])
def test_interrupted_inside_an_epoch_it_goes_on_after_the_last_batch(
    setting: Any, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0)
    monkeypatch.setattr(loop, "SHOW_EVERY_S", 0)
    settings, task, place = setting
    steps = range(1, task.num_steps(settings) + 1)
    assert len(steps) > 2
    undisturbed = fit(task, settings, place(fingerprint="undisturbed"))
    seen: list[tuple[int, int]] = []

    def kill(news: Any) -> None:
        if isinstance(news, StepReport):
            seen.append((news.epoch, news.step))
            if len(seen) == after:
                raise KilledError

    with pytest.raises(KilledError):
        fit(task, settings, place(kill))
    resumed = fit(task, settings, place(kill))
    assert seen == [(epoch, step) for epoch in range(1, 7) for step in steps]  # no batch twice, none left out
    assert torch.equal(weights(resumed), weights(undisturbed))
    assert resumed.history == undisturbed.history


def test_another_trainings_checkpoint_is_not_taken(setting: Any) -> None:
    settings, task, place = setting
    fit(task, settings, place(fingerprint="one"))
    seen: list[int] = []
    fit(task, settings, place(lambda news: seen.append(news.line.epoch), fingerprint="two"))
    assert seen == [1, 2, 3, 4, 5, 6]


def test_a_damaged_checkpoint_starts_over(setting: Any, tmp_path: Path) -> None:
    settings, task, place = setting
    at = place()
    for damage in (b"", b"no safetensors", b"\xff" * 64):
        at.store.put(at.work_path, damage)
        assert fit(task, settings, at).epoch == 6
        at.store.delete(at.work_path)


def test_divergence_is_one_sentence(setting: Any) -> None:
    settings, task, place = setting
    with pytest.raises(
        ReelmillError, match=r"heads/actions: training the lstm diverged in epoch 1 .* lower lr, now 1e\+37"
    ):
        fit(task, settings.model_copy(update={"lr": 1e37}), place())
