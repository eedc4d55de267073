"""`reelmill run`: index if needed, make clips, flow and features on Ray, train the heads, account for every row."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.display import products_table, recipe_differences, run_display, stale_units, tight_bounds, wide_console
from jobs.entry import EXIT_OVER_BUDGET, run_verb
from jobs.prepare import Prepared, prepare
from jobs.work_display import print_work, work_json
from pipeline import chaos, pictures, receipts, runner
from pipeline.config import load_config, placed_in
from pipeline.graph import digest
from pipeline.lease import hold
from pipeline.pictures import PREVIEW_FILE
from pipeline.say import say
from pipeline.stages import package_versions
from pipeline.store import Store
from pipeline.survey import FlowLoss, ProductState, failed_rows, flow_losses, survey
from pipeline.units import read_labels
from schemas.config import Config
from schemas.errors import ReelmillError, UsageError
from schemas.work import RunRecord

FAILED_ROWS_SHOWN = 10
MADE_BY_UNITS = ("clips", "flow", "features")


def main(
    source: Annotated[Path, typer.Argument(help="a config.yaml, or a folder of videos with one subfolder per class")],
    dataset: Annotated[str | None, typer.Option(help="where to write, when SOURCE is a folder")] = None,
    weights: Annotated[
        str | None, typer.Option(help="a backbone's weights, when SOURCE is a folder: a file, imagenet or random:SEED")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="whose weights they are; default: told by their keys, C3D for random ones")
    ] = None,
    address: Annotated[str | None, typer.Option(help="a Ray cluster; default: a local Ray just for this run")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="cores for the local Ray; default: all")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="try again what failed before")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as JSON")] = False,
    chaos_seed: Annotated[
        int | None,
        typer.Option("--chaos", metavar="SEED", help="a rehearsal: kill own workers and more, see docs/faults.md"),
    ] = None,
) -> None:
    """Run a config's graph: what is finished is skipped, what is missing or stale is made."""
    if not source.is_dir() and (dataset or weights or model):
        raise UsageError("--dataset, --weights and --model go with a folder; a config says it all itself")
    if source.is_dir():
        from jobs.folder_config import folder_config  # torch, which nothing else here needs, takes seconds

        config = folder_config(source, dataset=dataset, weights=weights, model=model)
    else:
        config = load_config(source)
    with hold(Store(config.dataset), what=f"reelmill run {source}"):
        _run(
            config,
            source,
            address=address,
            workers=workers,
            retry_failed=retry_failed,
            as_json=as_json,
            chaos_seed=chaos_seed,
        )


def _run(
    config: Config,
    source: Path,
    *,
    address: str | None,
    workers: int | None,
    retry_failed: bool,
    as_json: bool,
    chaos_seed: int | None,
) -> None:
    """All of it, as the one writer of the dataset."""
    with nullcontext() if source.is_dir() else placed_in(source):
        prepared = prepare(config)
        if retry_failed:
            _retract_failed(prepared)
        states, errors, work = _make_products(prepared, address=address, workers=workers, chaos_seed=chaos_seed)
    if errors:
        raise ReelmillError(_explain(errors))
    _draw_previews(prepared)
    metrics = _train_heads(prepared, address)
    states += survey(prepared.store, prepared.plan, kinds=["heads"])
    _check_accounts(states)
    failed = failed_rows(prepared.store, states)
    losses = flow_losses(prepared.store, states)
    allowed = config.budget.rows(states[0].num_rows if states else 0)
    if as_json:
        summary = _summary(config, states, failed, allowed, metrics, losses)
        print(json.dumps({**summary, "run": work and work_json(work)}, indent=1))
    else:
        _print_summary(config, states, failed, metrics)
        if work:
            print_work(wide_console(), work)
    features = [product.path for product in prepared.plan.products if product.kind == "features"]
    differences = recipe_differences(receipts.read_card(prepared.store, path) for path in features)
    for sentence in (*differences, *tight_bounds(losses)):
        say(sentence)
    if len(failed) > allowed:
        if not as_json:
            say(
                f"reelmill: {len(failed)} rows failed and the budget allows {allowed}; everything else is done. "
                "Mend the files and run with --retry-failed, or set `budget: {failed: …}`."
            )
        raise typer.Exit(EXIT_OVER_BUDGET)


def _make_products(
    prepared: Prepared, *, address: str | None, workers: int | None, chaos_seed: int | None
) -> tuple[list[ProductState], list[runner.UnitError], RunRecord | None]:
    """Run what is pending on Ray: what stands of each product then, and what it cost; nothing pending, no Ray."""
    plan, store = prepared.plan, prepared.store
    products = [product for product in plan.products if product.kind in MADE_BY_UNITS]
    states = survey(store, plan, kinds=MADE_BY_UNITS)
    pending = [unit for unit in plan.units if any(unit.index not in state.standing for state in states)]
    if not pending and all(receipts.card_stands(store, product) for product in products):
        return states, [], None
    for sentence in stale_units(states):
        say(sentence)
    _warn_of_other_versions(prepared, states)
    for state in states:
        if state.pending:
            store.delete(f"{state.path}/{PREVIEW_FILE}")  # drawn anew at the end, wherever this run is killed
    config_sha256 = digest(prepared.config.model_dump(mode="json", by_alias=True))
    with (
        chaos.unleashed(chaos_seed, store, products, plan.units, tell=say) as environment,
        runner.cluster(address=address, workers=workers, environment=environment),
        run_display(states, plan.units) as display,
        runner.watching(plan, store, pending=pending, config_sha256=config_sha256, listener=display) as watch,
    ):
        errors = runner.run_plan(
            plan,
            store,
            limits=prepared.config.limits,
            pools=prepared.config.pools,
            pending=pending,
            on_progress=watch.hear,
            say=say,
        )
        watch.failed = bool(errors)
    for state in states:
        receipts.sweep(store, state.path)
    if not errors:
        states = survey(store, plan, kinds=MADE_BY_UNITS)
        errors = [
            runner.UnitError(-1, f"{state.path}: {state.pending} units were not made (their workers died)", fatal=True)
            for state in states
            if state.pending
        ]
    return states, errors, watch.last


def _train_heads(prepared: Prepared, address: str | None) -> dict[str, Any]:
    """Train those that the config has, and give their metrics."""
    if all(product.kind != "heads" for product in prepared.plan.products):
        return {}
    from jobs.train import train_heads  # torch and Ray Train take seconds

    return train_heads(prepared.plan, prepared.store, address=address, pools=prepared.config.pools)


def _explain(errors: Sequence[runner.UnitError]) -> str:
    lines = [error.message for error in errors[:FAILED_ROWS_SHOWN]]
    if len(errors) > len(lines):
        lines.append(f"… and {len(errors) - len(lines)} more units")
    return "\n".join([*lines, "What was finished is kept; the same command goes on from there."])


def _draw_previews(prepared: Prepared) -> None:
    """A contact sheet beside each clips and flow product that has none, so that a person sees what was made."""
    store, labels = prepared.store, read_labels(prepared.store)
    for product in prepared.plan.products:
        draw = {"clips": pictures.contact_sheet, "flow": pictures.flow_sheet}.get(product.kind)
        if draw is None or PREVIEW_FILE in store.files(product.path):
            continue
        try:
            sheet = draw(store, product.path, labels=labels)
        except (ReelmillError, OSError, tarfile.TarError) as error:  # a picture is no reason to stop
            say(f"{product.path}: no preview: {error}")
            continue
        if sheet is not None:
            store.put(f"{product.path}/{PREVIEW_FILE}", sheet)
            receipts.sweep(store, product.path)


def _warn_of_other_versions(prepared: Prepared, states: Sequence[ProductState]) -> None:
    """Say so where a product was begun with other package versions: their bytes may differ."""
    for product, state in zip(prepared.plan.products, states, strict=False):
        if state.standing and state.pending and receipts.card_stands(prepared.store, product):
            begun, now = receipts.read_card(prepared.store, product.path).versions, package_versions(product.kind)
            changed = [f"{name} {begun.get(name)} -> {now[name]}" for name in now if begun.get(name) != now[name]]
            if changed:
                say(
                    f"{product.path} was begun with other versions ({', '.join(changed)}): units made now may differ "
                    "in their bytes; delete its folder to make it whole anew"
                )


def _retract_failed(prepared: Prepared) -> None:
    """Take back every unit with a failed row, so that this run makes it again."""
    # downstream first: a kill in between must not leave a head or features that trust what was taken back
    for state in reversed(survey(prepared.store, prepared.plan)):
        for index, made in state.standing.items():
            if made.num_failed:
                receipts.retract(prepared.store, state.path, index)


def _check_accounts(states: Sequence[ProductState]) -> None:
    """Rule 4: ok + partial + failed + filtered = manifest rows."""
    for state in states:
        accounted = sum(state.rows.values())
        if accounted != state.num_rows:
            raise ReelmillError(
                f"{state.path}: {state.num_rows} rows went in but {accounted} are accounted for; run it again"
            )


def _summary(
    config: Config,
    states: Sequence[ProductState],
    failed: dict[str, Any],
    allowed: int,
    metrics: dict[str, Any],
    losses: dict[str, FlowLoss],
) -> dict[str, Any]:
    return {
        "dataset": config.dataset,
        "products": {
            state.path: {"rows": dict(state.rows), "items": state.items, "bytes": state.bytes} for state in states
        },
        "failed": {
            video_id: {"product": product, "reason": row.reason, "message": row.message}
            for video_id, (product, row) in sorted(failed.items())
        },
        "failed_allowed": allowed,
        "flow": {path: asdict(loss) for path, loss in losses.items()},
        "heads": metrics,
    }


def _print_summary(
    config: Config, states: Sequence[ProductState], failed: dict[str, Any], metrics: dict[str, Any]
) -> None:
    console = wide_console()
    console.print(products_table(config.dataset, states))
    for video_id, (product, row) in sorted(failed.items())[:FAILED_ROWS_SHOWN]:
        console.print(f"  failed in {product}: {video_id}: {row.message}", markup=False)
    if len(failed) > FAILED_ROWS_SHOWN:
        console.print(f"  … and {len(failed) - FAILED_ROWS_SHOWN} more; `reelmill status` lists them all")
    if metrics:
        from jobs.train import results_tables

        for table in results_tables(metrics):
            console.print(table)


if __name__ == "__main__":
    run_verb(main)
