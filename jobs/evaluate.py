"""`reelmill evaluate`: the stored heads on the stored features, computed again from their checkpoints."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from jobs import evaluate_group
from jobs.display import wide_console
from jobs.entry import run_app
from jobs.prepare import plan_config
from jobs.train import add_result, headline_text, new_table, pick_heads
from pipeline.config import load_config
from pipeline.store import Store
from pipeline.threads import num_cores
from pipeline.training.evaluate import evaluate_head
from pipeline.training.splits import SPLITS
from schemas.errors import UsageError

COUNTS = ("videos", "clips", "segments", "boxes", "keyframes", "tubes")  # of a class, as results name them


def main(
    config: Annotated[Path, typer.Argument(help="a config.yaml whose heads are trained")],
    head: Annotated[list[str] | None, typer.Option(help="only this head (may be repeated); default: all")] = None,
    split: Annotated[str | None, typer.Option(help="val or test; default: the one that metrics.json reports")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the results as JSON")] = False,
) -> None:
    """Evaluate trained heads: overall and class by class."""
    wanted = next((name for name in SPLITS if name == split), None)
    if split is not None and wanted is None:
        raise UsageError(f"--split {split}: give {', '.join(SPLITS)}")
    loaded = load_config(config)
    store = Store(loaded.dataset)
    plan = plan_config(loaded, store)
    results = [
        evaluate_head(product, plan.whole, store, feature_units=plan.units, split=wanted, threads=num_cores())
        for product in pick_heads(plan, head)
    ]
    if as_json:
        print(json.dumps(results, indent=1, ensure_ascii=False))
    else:
        show(results)


def show(results: list[dict[str, Any]]) -> None:
    """Print what `evaluate_head` gives of each head: what it measures, and class by class."""
    console = wide_console()
    for result in results:
        console.print(_overall(result))
        parts = {name: {"": part} for name, part in result.items() if isinstance(part, dict)}  # tubes beside keyframes
        for part, models in {"": result.get("models") or {"": result}, **parts}.items():
            if any("per_class" in model for model in models.values()):
                console.print(f"{result['product']} {part}".strip(), "class by class, in %", markup=False)
                console.print(_per_class(models))


def _overall(result: dict[str, Any]) -> Table:
    """The accuracies of each model of a classifier, or what a head of another kind measures."""
    path, split, models = result["product"], result["split"], result.get("models", {})
    if "headline" in result:
        table = Table(title="heads", title_justify="left")
        for column in ("head", "on", "metrics"):
            table.add_column(column, no_wrap=column != "metrics")
        table.add_row(path, split, headline_text(result["headline"]))
        return table
    table = new_table()
    for name, model in models.items():
        add_result(table, path, name, split, model, chance=result["chance"])
    return table


def _per_class(models: dict[str, Any]) -> Table:
    """A row for each class; a column for each model, or for each share that the only one has."""
    rows_of = {name: [_flat(row) for row in model["per_class"]] for name, model in models.items()}
    first = next(iter(rows_of.values()))[0]
    counts = [key for key in first if key in COUNTS]
    shares = [key for key, value in first.items() if value is None or isinstance(value, float)]
    table = Table()
    for column in ("class", *counts, *(_column(name, share) for name in models for share in shares)):
        table.add_column(column, justify="left" if column == "class" else "right")
    for rows in zip(*rows_of.values(), strict=True):
        values = [row[share] for row in rows for share in shares]
        shown = ["–" if value is None or math.isnan(value) else f"{100 * value:.1f}" for value in values]
        table.add_row(rows[0]["label"], *(str(rows[0][key]) for key in counts), *shown)
    return table


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """The same with {"ap": {"0.5": …}} as {"ap@0.5": …}."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        flat |= {f"{key}@{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _column(model: str, share: str) -> str:
    return f"{model} {share}".strip().replace("_", " ")


if __name__ == "__main__":
    run_app(evaluate_group.main)
