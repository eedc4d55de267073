"""What was predicted beside what was spent, per video, so that a run that is half done can be compared, too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError

from pipeline.forecast.cluster import hours, load_of
from pipeline.runs import Spent
from pipeline.store import Store
from pipeline.survey import ProductState
from schemas.forecast import PLAN_FILE, Cluster, Device, Forecast, ProductForecast
from schemas.work import ProductWork


@dataclass(frozen=True, slots=True)
class Pair:
    predicted: float
    actual: float

    @property
    def ratio(self) -> float | None:
        """predicted / actual; None where nothing was spent."""
        return self.predicted / self.actual if self.actual > 0 else None


@dataclass(frozen=True, slots=True)
class Compared:
    """One product. Seconds and bytes are of one video.

    Of CPU products `cpu_s` tells whether a plan was right. `worker_s` is wall time inside units: where workers and the
    threads of models are more than there are cores, as in every run without a GPU, it has what each waited for others.
    """

    product: str
    device: Device  # that it was planned on
    videos: int  # that the runs on record have made
    worker_s: Pair
    cpu_s: Pair
    bytes: Pair


@dataclass(frozen=True, slots=True)
class Comparison:
    products: tuple[Compared, ...]
    others: tuple[str, ...]  # made with other settings than were planned, or not planned at all
    wall_s: Pair | None  # of the units' part of the runs, on as many cores and GPUs as they had
    num_cores: int
    num_gpus: int

    def as_json(self) -> dict[str, Any]:
        """The same as plain JSON values, with each ratio."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        pairs = [product[name] for product in found["products"] for name in ("worker_s", "cpu_s", "bytes")]
        for pair in [*pairs, *([found["wall_s"]] if found["wall_s"] else [])]:
            pair["ratio"] = Pair(**pair).ratio
        return found


def load_plan(store: Store) -> Forecast | None:
    """None where nothing was planned, or nothing that can be read."""
    data = store.read_or_none(PLAN_FILE)
    try:
        return None if data is None else Forecast.model_validate_json(data)
    except ValidationError:
        return None


def compare(found: Forecast, states: Sequence[ProductState], spent: Spent) -> Comparison | None:
    """None where no run on record has made anything. `states` and `spent` are of the products as they are now."""
    planned = {product.product: product for product in found.products}
    products, others = [], []
    num_cores, num_gpus = (
        round(total_s / spent.wall_s) if spent.wall_s > 0 else 0 for total_s in (spent.cores_s, spent.gpus_s)
    )
    for state in states:
        work = spent.products.get(state.path)
        if work is None or not work.videos:
            continue
        of_plan = planned.get(state.path)
        if of_plan is None or of_plan.fingerprint != state.fingerprint:
            others.append(state.path)
            continue
        opened = spent.runs * _num_workers(of_plan, min(work.units, num_cores), num_gpus)
        products.append(_compared(of_plan, state, work, found.num_videos, opened))
    if not products and not others:
        return None
    wall_s = None if others or not num_cores else _wall(found, products, spent, num_cores, num_gpus)
    return Comparison(tuple(products), tuple(others), wall_s, num_cores, num_gpus)


def _num_workers(of_plan: ProductForecast, num_cores: int, num_gpus: int) -> int:
    """That have opened a product in a run: one for each GPU, for each core that had a unit, or for each node."""
    if of_plan.device == "gpu":
        return max(1, num_gpus)
    if of_plan.product.startswith("features/"):
        return max(1, round(num_cores / of_plan.cores_per_worker))
    return of_plan.workers or num_cores


def _compared(
    of_plan: ProductForecast, state: ProductState, work: ProductWork, num_videos: int, num_opened: int
) -> Compared:
    """`num_opened`: workers of all runs, each of which has loaded code with its first unit."""
    standing = sum(state.rows.values())
    worked_s = work.busy_s + work.reading_s + work.writing_s  # inside units
    return Compared(
        product=state.path,
        device=of_plan.device,
        videos=work.videos,
        worker_s=Pair(of_plan.worker_s.value / num_videos, worked_s / work.videos),
        cpu_s=Pair(
            of_plan.cpu_s.value / num_videos + of_plan.open_cpu_s * num_opened / work.videos, work.cpu_s / work.videos
        ),
        bytes=Pair(of_plan.bytes.value / num_videos, state.bytes / standing if standing else 0.0),
    )


def _wall(found: Forecast, products: Sequence[Compared], spent: Spent, num_cores: int, num_gpus: int) -> Pair | None:
    """The time that was predicted for what the runs have made, had the cluster been theirs."""
    made = {product.product: product.videos / found.num_videos for product in products}
    loads = [load_of(product).share(made.get(product.product, 0.0)) for product in found.products]
    if any(load.device == "gpu" for load in loads) and not num_gpus:
        return None  # what was to run on GPUs ran on cores
    cluster = Cluster(nodes=1, cores=num_cores, gpus=num_gpus)
    predicted = hours(loads, cluster, num_units=found.num_units, efficiency=found.efficiency, before_s=0.0)
    return Pair(predicted.wall_s.value, spent.wall_s)
