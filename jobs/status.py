"""`reelmill status`: what is done, failed and stale, product by product, from storage alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from jobs.display import products_table, tight_bounds, wide_console
from jobs.entry import run_verb
from jobs.plan_display import print_comparison
from jobs.prepare import plan_config, stored_plan
from jobs.work_display import print_spent, print_work, work_json
from pipeline import lease, runs
from pipeline.config import load_config
from pipeline.forecast.compare import Comparison, compare, load_plan
from pipeline.graph import Plan
from pipeline.process import fate
from pipeline.store import Store
from pipeline.survey import FlowLoss, ProductState, failed_rows, flow_losses, survey
from schemas.ledger import STATUSES, LedgerRow
from schemas.work import RunRecord


def main(
    target: Annotated[str, typer.Argument(help="a config.yaml, or the dataset's folder or URI")],
    failed: Annotated[bool, typer.Option("--failed", help="list every failed row")] = False,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Say what stands on storage; while a run goes on, after it, or when its cluster is gone."""
    store, plan = plan_of_target(target)
    states = survey(store, plan)
    lost = failed_rows(store, states)
    losses = flow_losses(store, states)
    records = runs.records(store)
    planned, last, spent = comparison(store, states, records), runs.last(records), runs.spent(records)
    if as_json:
        flow = {path: asdict(loss) for path, loss in losses.items()}
        products = [_as_dict(state) for state in states]
        found: dict[str, object] = {"dataset": store.uri, "writer": _writer(store)}
        found |= {"products": products, "flow": flow, "failed": _rows(lost)}
        found |= {"plan": planned.as_json() if planned else None, "run": last and work_json(last)}
        print(json.dumps({**found, "spent": _spent_json(spent)}))
        return
    _print(store, states, lost, every=failed)
    _print_losses(losses)
    if (sentence := writer_sentence(store)) is not None:
        wide_console().print(sentence, markup=False, soft_wrap=True)
    if last is not None:
        print_work(wide_console(), last)
        print_spent(wide_console(), spent)
    if planned is not None:
        print_comparison(planned)


def plan_of_target(target: str) -> tuple[Store, Plan]:
    """The dataset that a config.yaml, a folder or a URI names, and its plan. Raises UsageError as those who read it."""
    if not target.endswith((".yaml", ".yml")):
        return stored_plan(target)
    config = load_config(Path(target))
    store = Store(config.dataset)
    return store, plan_config(config, store)


def _writer(store: Store) -> dict[str, str] | None:
    """Who writes to the dataset, and what this machine knows of that process; None where nobody does."""
    holder = lease.read(store)
    if holder is None:
        return None
    process = holder.process
    return {"command": holder.what, "host": process.host, "since": holder.since, "process": fate(process)}


def writer_sentence(store: Store) -> str | None:
    """Who is at it, or was when it died; None where nobody is."""
    writer = _writer(store)
    if writer is None:
        return None
    who = f"`{writer['command']}` on {writer['host']}"
    if writer["process"] == "gone":
        return f"{who} was at it, and died; the same command goes on from here"
    return f"{who} is at it, since {writer['since']}" + ("" if writer["process"] == "alive" else ", unless it died")


def comparison(store: Store, states: list[ProductState], records: list[RunRecord]) -> Comparison | None:
    """What `reelmill plan` predicted beside what was spent; None where nothing was planned, or nothing was made."""
    found = load_plan(store)
    if found is None:
        return None
    return compare(found, states, runs.spent(records, {state.path: state.fingerprint for state in states}))


def _spent_json(spent: runs.Spent) -> dict[str, object]:
    of_one_run = {"pool", "fingerprint"}
    products = {path: work.model_dump(mode="json", exclude=of_one_run) for path, work in spent.products.items()}
    return {"runs": spent.runs, "wall_s": spent.wall_s, "cores_s": spent.cores_s, "gpus_s": spent.gpus_s} | {
        "products": products
    }


def _as_dict(state: ProductState) -> dict[str, object]:
    return {
        "product": state.path,
        "units": state.num_units,
        "done": len(state.standing),
        "stale": state.num_stale,
        "pending": state.pending,
        "rows": {status: state.rows[status] for status in STATUSES},
        "manifest_rows": state.num_rows,
        "items": state.items,
        "bytes": state.bytes,
        "fingerprint": state.fingerprint,
    }


def _rows(lost: dict[str, tuple[str, LedgerRow]]) -> list[dict[str, str]]:
    return [
        {"video_id": video_id, "uri": row.uri, "product": product, "reason": row.reason, "message": row.message}
        for video_id, (product, row) in sorted(lost.items())
    ]


def _print(store: Store, states: list[ProductState], lost: dict[str, tuple[str, LedgerRow]], *, every: bool) -> None:
    console = wide_console()
    console.print(products_table(store.uri, states))
    for number, (video_id, (product, row)) in enumerate(sorted(lost.items())):
        if number == 10 and not every:
            console.print(f"… and {len(lost) - number} more: --failed lists them all")
            break
        console.print(f"failed in {product}: {video_id} ({row.uri}): {row.message}", markup=False, soft_wrap=True)


def _print_losses(losses: Mapping[str, FlowLoss]) -> None:
    console = wide_console()
    for path, loss in losses.items():
        console.print(
            f"{path}: stored within {loss.rmse_px:.3f} px (RMSE), {loss.saturated:.2%} of it beyond "
            f"{loss.bound_px:g} px, longest component {loss.max_abs_px:.1f} px ({loss.num_units} units looked at)",
            markup=False,
            soft_wrap=True,
        )
    for sentence in tight_bounds(losses):
        console.print(sentence, markup=False, soft_wrap=True)


if __name__ == "__main__":
    run_verb(main)
