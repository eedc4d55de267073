"""What a person sees while a run goes on: one bar per product on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import rich.progress
from rich import box
from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from jobs.quantities import duration
from pipeline.backbones import random_seed
from pipeline.graph import Unit
from pipeline.survey import FlowLoss, ProductState
from schemas.ledger import STATUSES
from schemas.news import News, Progress
from schemas.receipt import Card

PLAIN_LINE_EVERY_S = 15.0
SATURATED_ALLOWED = 0.01  # share of flow components beyond the bound, above which the bound is questioned


class _Rate(ProgressColumn):
    """Videos a second, measured over this run only."""

    def render(self, task: Task) -> Text:
        fresh = task.completed - task.fields["before"]
        rate = fresh / task.elapsed if task.elapsed and fresh > 0 else None
        return Text(f"{rate:.1f}/s" if rate else "", style="cyan")


class _Left(ProgressColumn):
    """How long the rest will take."""

    def render(self, task: Task) -> Text:
        left_s = seconds_left(task, task.elapsed or 0.0)
        return Text(f"{duration(left_s)} left" if left_s else "", style="cyan")


class _Failures(ProgressColumn):
    def render(self, task: Task) -> Text:
        failed = task.fields["failed"]
        return Text(f"{failed} failed" if failed else "", style="red")


def seconds_left(task: Task, elapsed_s: float) -> float | None:
    """By the bytes of videos, where they are known, for the largest units come first; None while nothing was made."""
    made, left = task.fields["weight_made"], task.fields["weight_left"]
    return elapsed_s * left / made if made and elapsed_s else None


def unit_weights(units: Sequence[Unit]) -> dict[int, int]:
    """unit -> its share of the work: bytes of its videos, or rows where the manifest does not know all of them."""
    known = all(unit.num_bytes for unit in units)
    return {unit.index: unit.num_bytes if known else unit.num_rows for unit in units}


class RunDisplay:
    """Call it with all news; it shows each `Progress`."""

    def __init__(
        self, states: Sequence[ProductState], units: Sequence[Unit], bars: rich.progress.Progress, plain: bool
    ) -> None:
        self._bars = bars
        self._plain = plain
        self._weights = unit_weights(units)
        self._seen = {(state.path, unit) for state in states for unit in state.standing}
        self._tasks: dict[str, TaskID] = {}
        self._started_s = self._last_line_s = time.monotonic()
        for state in states:
            done = sum(state.rows.values())
            self._tasks[state.path] = bars.add_task(
                state.path,
                total=state.num_rows,
                completed=done,
                before=done,
                failed=state.rows["failed"],
                weight_made=0,
                weight_left=sum(weight for unit, weight in self._weights.items() if unit not in state.standing),
            )

    def __call__(self, news: News) -> None:
        if not isinstance(news, Progress) or (news.product, news.unit) in self._seen:
            return
        self._seen.add((news.product, news.unit))
        task = self._bars.tasks[self._tasks[news.product]]
        weight = self._weights.get(news.unit, 0)
        self._bars.update(
            task.id,
            advance=news.num_rows,
            failed=task.fields["failed"] + news.num_failed,
            weight_made=task.fields["weight_made"] + weight,
            weight_left=task.fields["weight_left"] - weight,
        )
        now = time.monotonic()
        if self._plain and (now - self._last_line_s >= PLAIN_LINE_EVERY_S or self._bars.finished):
            self._last_line_s = now
            print(self._line(now), file=sys.stderr, flush=True)

    def _line(self, now: float) -> str:
        parts = []
        for task in self._bars.tasks:
            fresh = task.completed - task.fields["before"]
            rate = fresh / (now - self._started_s)
            left_s = seconds_left(task, now - self._started_s)
            eta = f", {duration(left_s)} left" if left_s else ""
            failed = f", {task.fields['failed']} failed" if task.fields["failed"] else ""
            parts.append(f"{task.description} {task.completed:.0f}/{task.total:.0f} ({rate:.2f}/s{eta}{failed})")
        return "  ".join(parts)


def wide_console() -> Console:
    """Standard output; a file or a pipe is wide enough for every column."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 140)


def products_table(title: str, states: Sequence[ProductState]) -> Table:
    """A row for each product: how much of it stands, and what became of its rows."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    for column in ("product", "units", *STATUSES, "items", "MB"):
        table.add_column(column, justify="left" if column == "product" else "right", no_wrap=True)
    for state in states:
        units = f"{len(state.standing)}/{state.num_units}" + (f" ({state.num_stale} stale)" if state.num_stale else "")
        counts = [str(state.rows[status]) for status in STATUSES]
        table.add_row(state.path, units, *counts, str(state.items), f"{state.bytes / 1e6:.1f}")
    return table


def stale_units(states: Sequence[ProductState]) -> list[str]:
    """A line for each product of which something stands that is made anew: it may have cost a night."""
    return [
        f"{state.path}: {state.num_stale} of its units stand for other settings or inputs, or for another cut of the "
        "manifest (`units`, an index made anew), and are made anew"
        for state in states
        if state.num_stale
    ]


def tight_bounds(losses: Mapping[str, FlowLoss]) -> list[str]:
    """A line for each flow product whose bound cuts more than it should."""
    return [
        f"{path}: {loss.saturated:.1%} of the flow lies beyond {loss.bound_px:g} px and was cut, so the bound looks "
        f"too small (the longest component is {loss.max_abs_px:.0f} px); a larger one makes only the flow anew"
        for path, loss in losses.items()
        if loss.is_quantised and loss.saturated > SATURATED_ALLOWED
    ]


def recipe_differences(cards: Iterable[Card]) -> list[str]:
    """A line for each way in which a network's input is not that of its published recipe, from the cards of features.

    Random weights have no published numbers to differ from.
    """
    return [
        f"{card.product} differs from the published model's input: {sentence}"
        for card in cards
        if random_seed(card.settings["weights"]) is None
        for sentence in card.details["deviations"]
    ]


@contextmanager
def run_display(states: Sequence[ProductState], units: Sequence[Unit]) -> Iterator[RunDisplay]:
    """Show the progress of products (not heads), all made of `units`, for the time of the block."""
    console = Console(stderr=True)
    plain = not console.is_terminal
    bars = rich.progress.Progress(
        TextColumn("{task.description:<24}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} videos"),
        _Rate(),
        _Left(),
        _Failures(),
        console=console,
        disable=plain,
    )
    with bars:
        yield RunDisplay(states, units, bars, plain)
