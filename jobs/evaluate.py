"""`reelmill evaluate`: the stored heads on the stored features, computed again from their checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from jobs import evaluate_group
from jobs.display import wide_console
from jobs.entry import run_app
from jobs.prepare import plan_config
from jobs.train import add_result, new_table, pick_heads
from pipeline.config import load_config
from pipeline.store import Store
from pipeline.threads import num_cores
from pipeline.training.evaluate import evaluate_head
from pipeline.training.splits import SPLITS
from schemas.errors import UsageError


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
        _print(results)


def _print(results: list[dict[str, Any]]) -> None:
    console = wide_console()
    for result in results:
        table = new_table()
        for name, model in result["models"].items():
            add_result(table, result["product"], name, result["split"], model, chance=result["chance"])
        console.print(table)
        console.print(_per_class(result))


def _per_class(result: dict[str, Any]) -> Table:
    """A row for each class, a column for each model."""
    models = result["models"]
    table = Table(title=f"{result['product']}, class by class: accuracy in %", title_justify="left")
    for column in ("class", "videos", *models):
        table.add_column(column, justify="left" if column == "class" else "right")
    for rows in zip(*(model["per_class"] for model in models.values()), strict=True):
        shares = ["–" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f}" for row in rows]
        table.add_row(rows[0]["label"], str(rows[0]["videos"]), *shares)
    return table


if __name__ == "__main__":
    run_app(evaluate_group.main)
