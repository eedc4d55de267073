"""`reelmill export`: a stored product in the layout that another tool reads."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jobs.display import PLAIN_LINE_EVERY_S
from jobs.entry import run_verb
from jobs.prepare import stored_plan
from pipeline.export import TARGETS
from pipeline.graph import Plan, Product
from schemas.errors import UsageError


def main(
    dataset: Annotated[str, typer.Argument(help="the dataset's folder or URI")],
    to: Annotated[str, typer.Option(help=f"the layout: {', '.join(TARGETS)}")],
    product: Annotated[str, typer.Option(help="what to export, such as flow/tvl1")],
    out: Annotated[str, typer.Option(help="a new local folder, or one that this command was interrupted in")],
    start_index: Annotated[
        int, typer.Option(help="denseflow: the number of the first picture, 0 (denseflow's) or 1 (mmaction2's default)")
    ] = 0,
    frames: Annotated[
        bool, typer.Option("--frames/--no-frames", help="denseflow: with the clips' frames as img_ pictures")
    ] = True,
    per: Annotated[
        str | None,
        typer.Option(help="denseflow: a folder a video or a clip; default: video where the clips of each tile it"),
    ] = None,
) -> None:
    """Write a product as another tool reads it; the same command goes on where it was interrupted."""
    if to not in TARGETS:
        raise UsageError(f"--to {to}: there is no such target, only {', '.join(TARGETS)}")
    store, plan = stored_plan(dataset)
    wanted = _product(plan, product, dataset)
    with shown_progress(sum(unit.num_rows for unit in plan.units)) as progress:
        report = TARGETS[to](
            store, plan, wanted, out=out, start_index=start_index, frames=frames, per=per, progress=progress
        )
    print("\n".join(report.lines()))


def _product(plan: Plan, path: str, dataset: str) -> Product:
    for product in plan.products:
        if product.path == path:
            return product
    have = ", ".join(product.path for product in plan.products) or "none"
    raise UsageError(f"--product {path}: {dataset} has no such product, only {have}")


@contextmanager
def shown_progress(num_rows: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, now and then a line elsewhere; call what it gives with the rows that are done anew."""
    console = Console(stderr=True)
    columns = (TextColumn("videos"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    last_line_s = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("videos", total=num_rows)
        completed = 0

        def advance(num_done: int) -> None:
            nonlocal last_line_s, completed
            completed += num_done
            bar.update(task, completed=completed)
            now = time.monotonic()
            if not console.is_terminal and now - last_line_s >= PLAIN_LINE_EVERY_S:
                last_line_s = now
                print(f"{completed:,}/{num_rows:,} videos exported", file=sys.stderr, flush=True)

        yield advance


if __name__ == "__main__":
    run_verb(main)
