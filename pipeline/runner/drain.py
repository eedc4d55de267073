"""The graph as a Ray dataset: one row is one unit, or a bundle of quick ones (descriptors travel through Ray, bytes go
to storage).

The stages are chained, so units flow through them as a pipeline: unit 7 is decoded while the features of unit 6 are
extracted. The knobs of Ray Data are here, in feed (the units) and in connect (its context).

Where neighbours ask Ray for the same (clips, then flow on CPUs, when no pool tells them apart), Ray Data makes them one
task, and that is wanted: a unit then goes through both at once, so that a fast stage can't run ahead of a slow one, and
there is half as much to schedule. A task that is tried again skips the part whose receipt stands. Stages that ask for
different things stay apart; Ray Data reserves a share of the CPUs for each and starts first what has least output
waiting, which is the stage that the others wait for. What waits between two stages is a few hundred bytes a unit.

The order is that of the plan where there are GPUs, features of clips before flow, so that these have work early; where
there are none, models come last (see requests.in_chain_order).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import ray.data

from pipeline import receipts
from pipeline.graph import Plan, Product, Unit
from pipeline.runner.bundle import ActorStep, rows_of, steps
from pipeline.runner.cards import Cards, last_line
from pipeline.runner.connect import CRASHED_UNITS_ALLOWED, is_local_ray
from pipeline.runner.facts import cluster_facts
from pipeline.runner.feed import UnitSource, largest_first, unit_dataset
from pipeline.runner.news import Line, hearing
from pipeline.runner.reach import check_reach
from pipeline.runner.requests import Facts, Request, check, in_chain_order, request_of, wants_gpu
from pipeline.runner.rounds import RETRIES, Rounds
from pipeline.runner.troubles import Troubles
from pipeline.storage.patience import telling
from pipeline.store import Store
from schemas.config import Limits
from schemas.news import News, Started, StorageWait
from schemas.pools import Pools
from schemas.work import PoolRecord

NODE_ID_LABEL = "ray.io/node-id"  # Ray gives it to every node
# Ray places an actor that asks for nothing by way of a node drawn at random, whose own turn it is to spread: several
# models share a node, and another has none. With anything asked for it is the driver's node that spreads them all.
SOMETHING_BYTES = 1


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
    on_progress: Callable[[News], None],
    pools: Pools = Pools(),  # noqa: B008  # frozen
    say: Callable[[str], None] = lambda sentence: None,
) -> list[UnitError]:
    """Make every pending unit of every clips, features and flow product; returns those that could not be made.

    `say` gets a sentence for each thing that the run waits for, from other threads too. Raises UsageError where the
    cluster can never have what the products ask for, and where a node can't see what the run is made of.
    """
    products = [product for product in plan.products if product.kind != "heads"]
    facts = cluster_facts(is_local=is_local_ray())
    before = requests_of(products, [wants_gpu(product) for product in products], pools, facts)
    for sentence in check(before, facts):
        say(sentence)
    check_reach(store, before, facts, pending)
    cards = Cards(before, store)
    here = _with_nodes(before, facts)
    rounds = Rounds(largest_first(pending), lost_at_once=CRASHED_UNITS_ALLOWED)
    troubles = Troubles(say)
    with (
        telling(lambda sentence, is_away: troubles.storage(StorageWait("", sentence, is_away))),
        hearing(troubles.listening(rounds.listening(on_progress))) as line,
    ):
        cards.wait([product.path for product, _ in here])
        if pending and len(here) < len(before):
            on_progress(Started(_pools(before, len(pending))))
            ahead = [step for step in here if not step[1].holds]
            if fatal := _work_ahead(ahead, Way(store, limits, line), pending, until=cards.are_decided):
                return fatal
            facts = cluster_facts(is_local=is_local_ray())  # with the nodes that were waited for
        cards.wait([product.path for product in products])
        if not pending or not products:
            return []
        asked = requests_of(products, [_holds_a_gpu(product, store) for product in products], pools, facts)
        on_progress(Started(_pools(asked, len(pending))))
        return _work(in_chain_order(asked), Way(store, limits, line), rounds, facts)


@dataclass(frozen=True, slots=True)
class Way:
    """What all steps of a run have in common."""

    store: Store
    limits: Limits
    line: Line


def _work(asked: Sequence[tuple[Product, Request]], way: Way, rounds: Rounds, facts: Facts) -> list[UnitError]:
    """All products of all units, round after round."""
    errors: list[UnitError] = []
    while units := rounds.next():
        workers = _workers(asked, facts) if rounds.bundles else {}
        source = UnitSource(units, pace=way.line.pace, workers=workers)
        errors += _drain(_dataset(asked, way, source), rounds)
        if any(error.fatal for error in errors):
            return errors
    return [*errors, *(UnitError(unit, message, fatal=False) for unit, message in rounds.given_up())]


def _with_nodes(asked: Sequence[tuple[Product, Request]], facts: Facts) -> list[tuple[Product, Request]]:
    """Those that the cluster has nodes for, and for all that they are made of."""
    found: dict[str, tuple[Product, Request]] = {}
    for product, request in asked:  # upstream first
        if all(path in found for path in product.upstream) and any(request.fits(node) for node in facts.nodes):
            found[product.path] = (product, request)
    return list(found.values())


def _work_ahead(
    asked: Sequence[tuple[Product, Request]], way: Way, pending: Sequence[Unit], *, until: Callable[[], bool]
) -> list[UnitError]:
    """Once through what can be made while other products wait for their nodes, until these are there; returns the error
    that ends the run, if any. What else fails, or is lost, is tried again with all products."""
    if not asked:
        return []
    dataset = _dataset(asked, way, UnitSource(largest_first(pending)))
    return [error for error in _drain(dataset, Rounds(pending), until=until) if error.fatal]


def _pools(asked: Sequence[tuple[Product, Request]], num_units: int) -> dict[str, PoolRecord]:
    """The workers of each product, for the run's record."""
    return {
        product.path: PoolRecord(
            workers=min(request.workers, num_units) if request.workers else None,
            cpus=request.num_cpus,
            gpus=request.num_gpus,
            holds=request.holds,
            labels=dict(request.labels),
        )
        for product, request in asked
    }


def _workers(asked: Sequence[tuple[Product, Request]], facts: Facts) -> dict[str, float]:
    """How many each product can have at once; one, where its nodes are still to come."""
    cpus = facts.total("num_cpus")
    return {
        product.path: request.workers or max(1.0, cpus // request.num_cpus if request.num_cpus else cpus)
        for product, request in asked
    }


def requests_of(
    products: Sequence[Product], uses_gpu: Sequence[bool], pools: Pools, facts: Facts
) -> list[tuple[Product, Request]]:
    """What each product asks for, beside the others."""
    beside = list(zip(products, uses_gpu, strict=True))
    return [
        (product, request_of(product, uses_gpu=uses, pools=pools, facts=facts, beside=beside))
        for product, uses in beside
    ]


def _drain(
    dataset: ray.data.Dataset, rounds: Rounds, *, until: Callable[[], bool] = lambda: False
) -> Iterator[UnitError]:
    """Pull units through the chain of stages, and yield the errors; stop at the first fatal one, and where `until` says
    so."""
    try:
        for row in (row for bundle in dataset.iter_rows() for row in rows_of(bundle)):
            rounds.ended(row["index"])
            for message in json.loads(row["errors"]).values():
                yield UnitError(row["index"], message, row["fatal"])
            if row["fatal"] or until():  # what comes after a fatal one in its bundle was not tried
                return
    except ray.exceptions.RayError as error:
        rounds.broke_off(last_line(error))


def _dataset(asked: Sequence[tuple[Product, Request]], way: Way, source: UnitSource) -> ray.data.Dataset:
    """The graph: one row = one bundle = one block; every step is 1:1."""
    dataset = unit_dataset(source)
    give_way = any(request.holds for _, request in asked)
    for product, request in asked:
        settings = {"product": product, "store": way.store, "limits": way.limits, "line": way.line}
        place: dict[str, Any] = {
            "num_cpus": request.num_cpus,
            "num_gpus": request.num_gpus,
            "label_selector": _selector(request),
        }
        if not request.holds:
            # 1:1, on every core that its pool leaves it: decoding and flow are the wide part. A video that kills its
            # decoder is caught inside the stage; the two retries are for workers lost to their node. A node that is
            # drained first (spot) costs none of them; one that is just gone costs one.
            workers = min(request.workers, source.num_units) if request.workers else None
            compute = ray.data.TaskPoolStrategy(size=workers)
            dataset = dataset.map(
                steps,  # type: ignore[arg-type]
                fn_kwargs={**settings, "give_way": give_way},
                compute=compute,
                max_retries=RETRIES,
                **place,
            )
        else:
            # 1:1, actors that keep their model. A pool of fixed size, which starts with whatever of it there is: Ray
            # Data's own growing and shrinking throws models away.
            dataset = dataset.map(
                ActorStep,  # type: ignore[arg-type]  # ray takes callable classes and fn_kwargs; its types do not
                fn_kwargs=settings,
                fn_constructor_kwargs={"product": product, "line": way.line},
                compute=ray.data.ActorPoolStrategy(size=min(request.workers or 1, source.num_units)),
                max_restarts=-1,
                max_task_retries=RETRIES,
                memory=SOMETHING_BYTES,
                **place,
            )
    return dataset


def _selector(request: Request) -> dict[str, str] | None:
    """No `fallback_strategy` beside it: a stage that waits for its nodes beats one that decodes on the head."""
    shunned = {NODE_ID_LABEL: f"!in({','.join(request.shuns)})"} if request.shuns else {}
    return {**request.labels, **shunned} or None


def _holds_a_gpu(product: Product, store: Store) -> bool:
    """Whether a product's worker keeps what wants a GPU, where there is one: a model, or flow's cuda backend."""
    if product.kind == "flow":
        return bool(receipts.read_card(store, product.path).details["backend"]["used"] == "cuda")
    return product.kind == "features"
