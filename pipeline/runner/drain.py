"""The graph as a Ray dataset: one row is one unit (descriptors travel through Ray, bytes go to storage).

The stages are chained, so units flow through them as a pipeline: unit 7 is decoded while the features of unit 6 are
extracted. All of Ray Data's knobs are here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import ray
import ray.data

from pipeline import receipts
from pipeline.graph import Plan, Product, Unit
from pipeline.runner.cards import last_line, write_cards
from pipeline.runner.news import hearing
from pipeline.runner.worker import ActorStep, Tell, step
from pipeline.store import Store
from pipeline.survey import Progress
from schemas.config import Limits


@dataclass(frozen=True, slots=True)
class UnitError:
    """A unit that could not be made; nothing of it was written."""

    unit: int
    message: str
    fatal: bool  # storage itself fails: going on is pointless


def run_plan(
    plan: Plan,
    store: Store,
    *,
    limits: Limits,
    pending: Sequence[Unit],
    on_progress: Callable[[Progress], None],
) -> list[UnitError]:
    """Make every pending unit of every clips, features and flow product; returns those that could not be made."""
    products = [product for product in plan.products if product.kind != "heads"]
    write_cards(products, store)
    if not pending or not products:
        return []
    with hearing(on_progress) as tell:
        return list(_drain(_dataset(products, store, limits, pending, tell)))


def _drain(dataset: ray.data.Dataset) -> Iterator[UnitError]:
    """Pull units through the chain of stages, and yield the errors; stop at the first fatal one."""
    try:
        for row in dataset.iter_rows():
            for message in json.loads(row["errors"]).values():
                yield UnitError(row["index"], message, row["fatal"])
            if row["fatal"]:
                return
    except ray.exceptions.RayError as error:
        yield UnitError(-1, f"workers died again and again, so the run stopped: {last_line(error)}", fatal=True)


def _dataset(
    products: Sequence[Product], store: Store, limits: Limits, pending: Sequence[Unit], tell: Tell
) -> ray.data.Dataset:
    """The graph: one row = one unit = one block; every step is 1:1."""
    rows = [{**asdict(unit), "errors": "{}", "fatal": False} for unit in pending]
    dataset: ray.data.Dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    num_gpus = int(ray.cluster_resources().get("GPU", 0))
    for product in products:
        settings = {"product": product, "store": store, "limits": limits, "tell": tell}
        if not _holds_a_gpu(product, store):
            # 1:1, on every core: decoding and flow are the wide part. A video that kills its decoder is caught inside
            # the stage; the two retries are for workers lost to their node.
            dataset = dataset.map(step, fn_kwargs=settings, num_cpus=1, max_retries=2)  # type: ignore[arg-type]
        else:
            # 1:1, an actor for each GPU; without one, a single model that uses all cores by its own threads.
            # Zero logical CPUs: the decoders must be able to take every core while the model waits for units.
            dataset = dataset.map(
                ActorStep,  # type: ignore[arg-type]  # ray takes callable classes and fn_kwargs; its types do not
                fn_kwargs=settings,
                compute=ray.data.ActorPoolStrategy(size=max(1, num_gpus)),
                num_cpus=0,
                num_gpus=1 if num_gpus else 0,
                max_restarts=-1,
                max_task_retries=2,
            )
    return dataset


def _holds_a_gpu(product: Product, store: Store) -> bool:
    """Whether a product's worker keeps what wants a GPU, where there is one: a model, or flow's cuda backend."""
    if product.kind == "flow":
        return bool(receipts.read_card(store, product.path).details["backend"]["used"] == "cuda")
    return product.kind == "features"
