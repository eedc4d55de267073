"""The working checkpoint holds all that the next epoch needs."""

from pathlib import Path

import torch

from pipeline.heads import SequenceHead, build
from pipeline.store import Store
from pipeline.training.checkpoint import Epoch, Progress, restore_progress, save_progress, weights_of
from schemas.heads import LSTMHead


def fresh(seed: int) -> Progress:
    model = build(LSTMHead(kind="lstm", features=("c3d",), hidden=4), blocks=(3,), num_classes=2, seed=seed)
    assert isinstance(model, SequenceHead)
    return Progress(model, torch.optim.AdamW(model.parameters(), lr=0.1, foreach=False))


def step(progress: Progress) -> None:
    x, mask = torch.ones(2, 3, 3), torch.ones(2, 3, dtype=torch.bool)
    progress.model.loss(progress.model(x, mask), torch.tensor([0, 1]), mask).sum().backward()
    progress.optimizer.step()
    progress.optimizer.zero_grad()


def test_a_restored_training_takes_the_same_next_step(tmp_path: Path) -> None:
    store, before = Store(str(tmp_path)), fresh(0)
    step(before)
    step(before)
    before.best, before.best_epoch = weights_of(before.model), 1
    before.history = [Epoch(1, 0.1, 1 / 3, 0.1 + 0.2, 0.5), Epoch(2, 0.05, 1.0, 2.0, 0.5)]
    before.step, before.loss_sum = 3, 1 / 7  # killed inside the third epoch
    save_progress(store, "heads/a/_work/lstm.safetensors", before, fingerprint="f")
    after = fresh(1)
    restore_progress(store, "heads/a/_work/lstm.safetensors", after, fingerprint="f")
    assert after.history == before.history  # floats come back to the last bit
    assert (after.epoch, after.best_epoch) == (2, 1)
    assert after.best_line is not None
    assert after.best_line.val_loss == 0.1 + 0.2
    assert (after.step, after.loss_sum) == (3, 1 / 7)
    assert all(torch.equal(after.best[name], before.best[name]) for name in before.best)
    step(before)
    step(after)
    for name, tensor in weights_of(before.model).items():
        assert torch.equal(weights_of(after.model)[name], tensor)


def test_a_checkpoint_of_another_training_changes_nothing(tmp_path: Path) -> None:
    store, other, mine = Store(str(tmp_path)), fresh(0), fresh(1)
    other.history = [Epoch(1, 0.1, 1.0, 1.0, 0.5)]
    save_progress(store, "heads/a/_work/lstm.safetensors", other, fingerprint="f")
    weights = weights_of(mine.model)
    for path, fingerprint in (("heads/a/_work/lstm.safetensors", "g"), ("heads/a/_work/none.safetensors", "f")):
        restore_progress(store, path, mine, fingerprint=fingerprint)
        assert mine.epoch == 0
        assert all(torch.equal(tensor, weights[name]) for name, tensor in weights_of(mine.model).items())
