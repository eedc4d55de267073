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
    product: Annotated[
        list[str], typer.Option(help="what to export, such as flow/tvl1; features: several are joined side by side")
    ],
    out: Annotated[str, typer.Option(help="a new local folder, or one that this command was interrupted in")],
    start_index: Annotated[
        int | None,
        typer.Option(help="denseflow: the number of the first picture, 0 (denseflow's, default) or 1 (mmaction2's)"),
    ] = None,
    frames: Annotated[
        bool | None, typer.Option("--frames/--no-frames", help="denseflow: with the clips' frames as img_ pictures")
    ] = None,
    per: Annotated[
        str | None,
        typer.Option(help="denseflow: a folder a video or a clip; default: video where the clips of each tile it"),
    ] = None,
    length: Annotated[
        str | None,
        typer.Option(
            help="features: valid (windows whole in the video), padded (one a start, the default where tails are "
            "kept) or a number of rows that each video is brought to (mmaction2: 100)"
        ),
    ] = None,
) -> None:
    """Write a product as another tool reads it; the same command goes on where it was interrupted."""
    if to not in TARGETS:
        raise UsageError(f"--to {to}: there is no such target, only {', '.join(TARGETS)}")
    given = {"start_index": start_index, "frames": frames, "per": per, "length": length}
    options = _options(to, {name: value for name, value in given.items() if value is not None})
    store, plan = stored_plan(dataset)
    products = [_product(plan, path, dataset) for path in product]
    if not TARGETS[to].joins and len(products) > 1:
        raise UsageError(f"--product {product[1]}: --to {to} takes one product; export each to a folder of its own")
    with shown_progress(sum(unit.num_rows for unit in plan.units)) as progress:
        wanted = products if TARGETS[to].joins else products[0]
        report = TARGETS[to].export(store, plan, wanted, out=out, progress=progress, **options)
    print("\n".join(report.lines()))


def _options(to: str, given: dict[str, object]) -> dict[str, object]:
    for name in given:
        if name not in TARGETS[to].options:
            takers = ", ".join(target for target in TARGETS if name in TARGETS[target].options)
            raise UsageError(f"--{name.replace('_', '-')} goes with --to {takers}, and not with {to}; leave it out")
    return given


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
