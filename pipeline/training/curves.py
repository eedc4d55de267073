"""The curves of a training: as csv, and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from pipeline.training.checkpoint import Epoch
from pipeline.training.figure import plain_style, png_of
from pipeline.training.task import csv_bytes


def curves_csv(history: Sequence[Epoch], *, score_name: str) -> bytes:
    """One line an epoch. Spaces of `score_name` become _."""
    rows = [
        [str(h.epoch), f"{h.lr:.8g}", f"{h.train_loss:.6f}", f"{h.val_loss:.6f}", f"{h.val_score:.6f}"] for h in history
    ]
    column = f"val_{score_name.replace(' ', '_')}"
    return csv_bytes(["epoch", "lr", "train_loss", "val_loss", column], rows)


def draw_curves(
    histories: Mapping[str, tuple[Sequence[Epoch], int]],
    *,
    loss_name: str,
    score_name: str,
    guess: float | None,
    title: str,
) -> bytes:
    """A PNG: the losses on the left, the validation score on the right, one colour a model.

    `histories` gives for each model its epochs and which one was kept; `guess` is the score of guessing, if known.
    """
    with plain_style():
        figure = Figure(figsize=(10, 4), layout="constrained")
        losses, scores = figure.subplots(1, 2)
        for index, (name, (history, kept)) in enumerate(histories.items()):
            colour = f"C{index}"
            epochs = [line.epoch for line in history]
            best = history[kept - 1]
            losses.plot(epochs, [line.train_loss for line in history], colour, ls="--", label=f"{name}, train")
            losses.plot(epochs, [line.val_loss for line in history], colour, label=f"{name}, val")
            losses.plot([best.epoch], [best.val_loss], colour, marker="o")
            scores.plot(epochs, [line.val_score for line in history], colour, label=name)
            scores.plot([best.epoch], [best.val_score], colour, marker="o")
        if guess is not None:
            scores.axhline(guess, color="0.5", ls=":", label="chance")
        losses.set(xlabel="epoch", ylabel=loss_name, ylim=(0, None))
        scores.set(xlabel="epoch", ylabel=f"validation {score_name}", ylim=(0, 1.02))
        losses.legend()
        scores.legend()
        figure.suptitle(f"{title} (dots: the epoch that was kept)")
        return png_of(figure)
