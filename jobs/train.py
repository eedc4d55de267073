"""`reelmill train`: train a config's heads on stored features; what stands is kept, what was interrupted goes on."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import ray
import typer
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer
from rich.console import Console
from rich.table import Table

from jobs.display import wide_console
from jobs.entry import run_verb
from jobs.prepare import plan_config
from pipeline import receipts, runner
from pipeline.config import load_config
from pipeline.graph import Plan, Product, Unit
from pipeline.lease import hold
from pipeline.runner.connect import is_local_ray
from pipeline.runner.facts import cluster_facts
from pipeline.runner.requests import Request, check, request_of
from pipeline.say import say
from pipeline.store import Store, resolve
from pipeline.threads import num_cores
from pipeline.training.head import train_head
from pipeline.training.loop import EpochReport, Report, StepReport
from pipeline.training.tasks import settings_of, task_class
from pipeline.training.worker import Worker
from schemas.errors import ReelmillError, StorageError, UsageError
from schemas.pools import Pools
from schemas.receipt import Receipt

RAY_FOLDER = "_ray"  # Ray Train's own records, in the product's folder while it trains
LINE_EVERY_S = 5.0
RESTARTS_ALLOWED = 3  # of the worker group, when a worker or its node dies; it goes on from the working checkpoint


def main(
    config: Annotated[Path, typer.Argument(help="a config.yaml whose features are made")],
    head: Annotated[list[str] | None, typer.Option(help="only this head (may be repeated); default: all")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="train on this many Ray workers; default: pools.heads, or in this process")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="a Ray cluster, whose GPUs are used; default: a local Ray, with --workers")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the results as JSON")] = False,
) -> None:
    """Train heads on stored features, or feature networks on stored clips, and print how well each does."""
    loaded = load_config(config)
    store = Store(loaded.dataset)
    with hold(store, what=f"reelmill train {config}"):
        plan = plan_config(loaded, store)
        for product in pick_heads(plan, head):
            receipts.sweep(store, product.path)
        results = train_heads(plan, store, names=head, workers=workers, address=address, pools=loaded.pools)
    if as_json:
        print(json.dumps(results, indent=1, ensure_ascii=False))
    else:
        for table in results_tables(results):
            wide_console().print(table)


def pick_heads(plan: Plan, names: Sequence[str] | None) -> list[Product]:
    """The heads of a plan, or those of them that are named. Raises UsageError for a name that is not there."""
    heads = {product.name: product for product in plan.products if product.kind == "heads"}
    for name in names or ():
        if name not in heads:
            raise UsageError(f"--head {name}: this config has {', '.join(heads) or 'no heads'}")
    return [heads[name] for name in dict.fromkeys(names or heads)]


def train_heads(
    plan: Plan,
    store: Store,
    *,
    names: Sequence[str] | None = None,
    workers: int | None = None,
    address: str | None = None,
    pools: Pools = Pools(),  # noqa: B008  # frozen
) -> dict[str, Any]:
    """Train what does not stand yet, showing progress on stderr; returns what metrics.json says, head by head.

    In this process, unless `workers` or `pools.heads` say more than one, or name a cluster's; and a head that gains
    from a GPU gets one of the cluster at `address`, where it has any.
    """
    products = pick_heads(plan, names)
    pending = [product for product in products if receipts.standing(store, product, plan.whole) is None]
    if workers is not None:
        pools = pools.model_copy(update={"heads": pools.heads.model_copy(update={"workers": workers})})
    crews: dict[str, Request] = {}
    with contextlib.ExitStack() as stack:
        elsewhere = address and (pools.heads.workers or any(map(_gains, pending)))
        if pending and (elsewhere or (pools.heads.workers or 1) > 1):
            stack.enter_context(runner.cluster(address=address, workers=pools.heads.workers))
            crews = _crews(pending, pools)
        report = stack.enter_context(_showing())
        for product in products:
            crew = crews.get(product.path)  # what stands is only looked at
            fit(product, plan.whole, store, feature_units=plan.units, crew=crew, report=report)
    return {product.path: json.loads(store.read(f"{product.path}/metrics.json")) for product in products}


def _gains(product: Product) -> bool:
    """Whether a head gains from a GPU; most are too small."""
    return bool(task_class(settings_of(product.settings)).wants_gpu)


def _crews(pending: Sequence[Product], pools: Pools) -> dict[str, Request]:
    """What each head asks of the cluster that this process is part of; none for those that are trained here.

    Raises UsageError for what it can never have.
    """
    facts = cluster_facts(is_local=is_local_ray())
    found = {}
    for product in pending:
        request = request_of(product, uses_gpu=_gains(product), pools=pools, facts=facts)
        if pools.heads.workers is None and not request.num_gpus:
            continue
        if 0 < facts.num_gpus < (request.workers or 1) and _gains(product) and pools.heads.gpus is None:
            raise UsageError(
                f"{product.path}: each of {request.workers} workers takes a GPU, and the cluster has {facts.num_gpus}; "
                f"take --workers {facts.num_gpus}, or set pools.heads.gpus"
            )
        for sentence in check([(product, request)], facts):
            say(sentence)
        found[product.path] = request
    return found


def results_tables(results: dict[str, Any]) -> list[Table]:
    """Accuracies of classifiers beside chance and the majority class; and what each other head measures."""
    accuracies, others = new_table(), Table(title="heads", title_justify="left")
    for column in ("head", "on", "items", "metrics"):
        others.add_column(column, justify="right" if column == "items" else "left", no_wrap=column != "metrics")
    for path, metrics in results.items():
        split = metrics["evaluated_on"]
        if "top1" not in metrics:
            others.add_row(path, split, str(metrics["num_items"][split]), headline_text(metrics["headline"]))
            continue
        for name, model in metrics["models"].items():
            add_result(accuracies, path, name, split, model["splits"][split], chance=metrics["chance"])
    return [table for table in (accuracies, others) if table.row_count]


def headline_text(headline: dict[str, Any]) -> str:
    """Metrics and their values in one line: shares as percentages, counts as they are."""
    shown = (f"{name} {100 * v:.1f} %" if isinstance(v, float) else f"{name} {v}" for name, v in headline.items())
    return ", ".join(shown)


def new_table() -> Table:
    """An empty table for `add_result`."""
    table = Table(title="heads: accuracy in %", title_justify="left")
    for column in ("head", "model", "on", "videos", "top-1", "top-5", "per class", "chance", "majority"):
        table.add_column(column, justify="left" if column in ("head", "model", "on") else "right", no_wrap=True)
    return table


def add_result(table: Table, path: str, model: str, split: str, result: dict[str, Any], *, chance: float) -> None:
    """Add one model's numbers on one split."""
    shares = [result["top1"], result["top5"], result["mean_class_accuracy"], chance, result["majority"]]
    videos, labelled = str(result["videos"]), str(result["annotated_videos"])
    covered = videos if videos == labelled else f"{videos} of {labelled}"  # the others have no features
    table.add_row(path, model, split, covered, *(f"{100 * share:.1f}" for share in shares))


# ---------------------------------------------------------------- Ray Train


def fit(
    product: Product,
    unit: Unit,
    store: Store,
    *,
    feature_units: Sequence[Unit],
    crew: Request | None = None,
    report: Report = lambda news: None,
) -> Receipt:
    """Train one head under Ray Train: in this process, or by a crew on the Ray that this process is part of.

    Data parallel: each worker reads all features (or the list of all clips) and takes its share of each batch; the
    first one evaluates and writes.
    Raises ReelmillError as `train_head` does, and when workers died too often.
    """
    scratch = f"{product.path}/{RAY_FOLDER}"
    store.delete_folder(scratch)  # of a killed run; resuming goes by our own checkpoint
    filesystem, root = resolve(store.uri)
    logging.getLogger("ray.train").setLevel(logging.ERROR)  # it announces its local mode
    with contextlib.ExitStack() as stack:
        if crew is not None:
            report = stack.enter_context(runner.hearing(report))
        trainer = TorchTrainer(
            _loop(product, unit, store, feature_units=feature_units, crew=crew, report=report),
            scaling_config=_scaling(crew),
            run_config=RunConfig(
                name="train",
                storage_path=f"{root}/{scratch}",
                storage_filesystem=filesystem,
                failure_config=FailureConfig(max_failures=RESTARTS_ALLOWED if crew is not None else 0),
            ),
        )
        try:
            finished: Any = trainer.fit()
        except TrainingFailedError as error:
            raise ReelmillError(f"{product.path}: {_why(error)}; the same command goes on from there") from None
    store.delete_folder(scratch)
    receipts.sweep(store, product.path)
    if isinstance(finished.return_value, str):
        raise ReelmillError(finished.return_value)
    return cast(Receipt, finished.return_value)


def _scaling(crew: Request | None) -> ScalingConfig:
    """As many workers as were asked for, where they were; 0 is Ray Train's word for this very process."""
    if crew is None:
        return ScalingConfig(num_workers=0, use_gpu=False)
    return ScalingConfig(  # type: ignore[call-arg]  # its types are of the version before, which has no label_selector
        num_workers=crew.workers or 1,
        use_gpu=bool(crew.num_gpus),
        resources_per_worker={"CPU": crew.num_cpus, **({"GPU": crew.num_gpus} if crew.num_gpus else {})},
        label_selector=dict(crew.labels) or None,
    )


def _loop(
    product: Product, unit: Unit, store: Store, *, feature_units: Sequence[Unit], crew: Request | None, report: Report
) -> Any:
    """What each worker runs: () -> the receipt, or the sentence of a ReelmillError."""
    workers = 1 if crew is None else crew.workers or 1

    def loop() -> Receipt | str:
        context = ray.train.get_context()
        worker = Worker(context.get_world_rank(), context.get_world_size()) if workers > 1 else Worker()
        try:
            return train_head(
                product,
                unit,
                store,
                feature_units=feature_units,
                report=report if worker.is_first else lambda news: None,
                worker=worker,
                threads=max(1, num_cores() // workers),
            )
        except StorageError:
            raise  # the first worker's alone: the others wait for it, and must be stopped
        except ReelmillError as error:
            return str(error)  # the same on every worker: raised, Ray Train would only try it again

    return loop


def _why(error: TrainingFailedError) -> str:
    """The last line of the first worker's error, or of the error itself."""
    failures = getattr(error, "worker_failures", {})
    cause = next(iter(failures.values()), error)
    return f"training failed ({str(cause).strip().splitlines()[-1]})"


# ---------------------------------------------------------------- progress


@contextlib.contextmanager
def _showing() -> Iterator[Report]:
    """Shows epochs on stderr: one line that changes on a terminal, now and then a line elsewhere."""
    console = Console(stderr=True, highlight=False)
    last_s = -LINE_EVERY_S
    with console.status("") if console.is_terminal else contextlib.nullcontext() as status:

        def show(news: EpochReport | StepReport) -> None:
            nonlocal last_s
            text = _epoch_text(news) if isinstance(news, EpochReport) else _step_text(news)
            if status is not None:
                status.update(text)
            elif time.monotonic() - last_s >= LINE_EVERY_S:
                last_s = time.monotonic()
                console.print(text, markup=False, soft_wrap=True)

        yield show


def _epoch_text(news: EpochReport) -> str:
    line = news.line
    return (
        f"{news.product} {news.model}: epoch {line.epoch}/{news.epochs}, training loss {line.train_loss:.4f}, "
        f"validation loss {line.val_loss:.4f}, {news.score_name} {100 * line.val_score:.1f} %"
        f"{', best' if news.is_best else ''}, {_rate(news.items_per_s)} {news.noun}/s"
    )


def _step_text(news: StepReport) -> str:
    return (
        f"{news.product} {news.model}: epoch {news.epoch}/{news.epochs}, batch {news.step}/{news.steps}, "
        f"training loss {news.loss:.4f}, {_rate(news.items_per_s)} {news.noun}/s"
    )


def _rate(items_per_s: float) -> str:
    return f"{items_per_s:.0f}" if items_per_s >= 10 else f"{items_per_s:.2g}"


if __name__ == "__main__":
    run_verb(main)
