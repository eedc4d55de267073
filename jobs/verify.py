"""`reelmill verify`: are a dataset's products what their cards say?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from math import isfinite
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from jobs.display import wide_console
from jobs.entry import EXIT_ERROR, EXIT_OVER_BUDGET, run_verb
from jobs.prepare import stored_plan
from pipeline.graph import Plan
from pipeline.store import Store
from pipeline.verify import MIN_COSINE, Comparison, ProductReport, verify
from schemas.errors import ReelmillError

SENTENCES_SHOWN = 10  # of each kind and product
EXIT_NOT_ALL = EXIT_OVER_BUDGET  # finished, and not all of it is good


def main(
    dataset: Annotated[str, typer.Argument(help="the dataset's folder or URI; it needs no config")],
    product: Annotated[list[str] | None, typer.Option(help="such as features/c3d; default: all that there are")] = None,
    clips: Annotated[int, typer.Option(min=0, help="clips of each product to make again; 0: none")] = 8,
    seed: Annotated[int, typer.Option(help="which clips those are")] = 0,
    min_cosine: Annotated[
        float, typer.Option(min=0, max=1, help="of each row of features to the one that is made again")
    ] = MIN_COSINE,
    weights: Annotated[
        str | None, typer.Option(help="the file with a card's weights, where they are not where the card says")
    ] = None,
    hashing: Annotated[bool, typer.Option("--hash/--no-hash", help="read every file, or only look at sizes")] = True,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Hash every file again, and make random clips of each product again on this machine.

    Exit status: 0 all of it is as the cards say; 1 something is not; 3 nothing is wrong, but not all could be checked.
    """
    store, plan = Store(dataset), _plan(dataset)
    with shown_progress() as progress:
        reports = verify(
            store,
            products=product or [],
            plan=plan,
            num_clips=clips,
            seed=seed,
            min_cosine=min_cosine,
            weights=weights,
            hashing=hashing,
            progress=progress,
        )
    if as_json:
        print(json.dumps({"dataset": store.uri, "products": [_as_dict(report) for report in reports]}, indent=1))
    else:
        _print(store, reports)
    verdicts = {report.verdict for report in reports}
    if "FAILED" in verdicts:
        raise typer.Exit(EXIT_ERROR)
    if "not all checked" in verdicts:
        raise typer.Exit(EXIT_NOT_ALL)


def _plan(dataset: str) -> Plan | None:
    with suppress(ReelmillError):  # made elsewhere, or handed over without its config: the receipts must do
        return stored_plan(dataset)[1]
    return None


def _as_dict(report: ProductReport) -> dict[str, object]:
    compared = []
    for c in report.comparisons:
        values = [_number(value) for value in c.values]
        compared.append({**asdict(c), "values": values, "worst": _number(c.worst), "median": _number(c.median)})
    return {**asdict(report), "comparisons": compared, "verdict": report.verdict}


def _number(value: float) -> float | None:
    return value if isfinite(value) else None  # JSON has no NaN


# ---------------------------------------------------------------- for people


def _print(store: Store, reports: list[ProductReport]) -> None:
    console = wide_console()
    console.print(_table(store.uri, reports))
    for report in reports:
        for word, sentences in (("FAULT", report.faults), ("not checked", report.unchecked), ("note", report.notes)):
            for sentence in sentences[:SENTENCES_SHOWN]:
                console.print(f"{word}: {report.product}: {sentence}", markup=False, soft_wrap=True)
            if len(sentences) > SENTENCES_SHOWN:
                console.print(f"… and {len(sentences) - SENTENCES_SHOWN} more: --json lists them all", markup=False)


def _table(title: str, reports: list[ProductReport]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    for column in ("product", "files", "MB", "made again", "worst", "median", "", "verdict"):
        right = column in ("files", "MB", "worst", "median")
        table.add_column(column, justify="right" if right else "left", no_wrap=column != "")
    colours = {"ok": "green", "not all checked": "yellow", "FAILED": "red"}
    for report in reports:
        size = f"{report.num_bytes / 1e6:.1f}" if report.is_hashed else "not hashed"
        compared = [_compared(comparison) for comparison in report.comparisons] or [("nothing compared", "", "", "")]
        verdict = f"[{colours[report.verdict]}]{report.verdict}[/]"
        table.add_row(report.product, str(report.num_files), size, *compared[0], verdict)
        for cells in compared[1:]:
            table.add_row("", "", "", *cells, "")
    return table


def _compared(comparison: Comparison) -> tuple[str, str, str, str]:
    made = f"{len(comparison.values)} {comparison.items} from {comparison.made_from}"
    unit, digits = {"cosine": ("", 6), "levels": (" levels", 2), "px": (" px", 2)}[comparison.measure]
    worst, median = (f"{value:.{digits}f}{unit}" for value in (comparison.worst, comparison.median))
    return made, f"cosine {worst}" if comparison.measure == "cosine" else worst, median, comparison.remark


@contextmanager
def shown_progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar of the bytes that are hashed, on a terminal; call what it gives as `verify` calls its progress."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<28}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def advance(what: str, num_bytes: int, total_bytes: int) -> None:
            bar.update(task, description=what, advance=num_bytes, total=total_bytes)

        yield advance


if __name__ == "__main__":
    run_verb(main)
