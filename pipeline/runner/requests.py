"""What a product asks Ray for: how many workers, and what each of them takes. Pure: no Ray is needed to know it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.graph import Product
from schemas.errors import UsageError
from schemas.pools import Pool, Pools

ROLE_LABEL = "reelmill-role"  # the key that nodes carry: `ray start --labels reelmill-role=gpu`, or `labels:` of a type
Role = Literal["cpu", "gpu", "head"]
CPU: Role = "cpu"  # decoding and flow
GPU: Role = "gpu"  # features, heads, and flow's cuda backend
HEAD: Role = "head"  # Ray's own processes and the driver: no stage ever asks for it

SHARES = 10_000  # Ray counts a resource in ten-thousandths


@dataclass(frozen=True, slots=True)
class Node:
    """What one node has in all, busy or not; of those that may still come, `count` alike."""

    num_cpus: float
    num_gpus: float
    labels: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True)
class Facts:
    """What a cluster has, and what else an autoscaler could start: a node of each type that it may still add."""

    nodes: tuple[Node, ...]
    possible: tuple[Node, ...] = ()
    # an autoscaler that does not say which types it has (or that this project can't ask): anything may still come
    may_grow: bool = False

    @property
    def num_gpus(self) -> int:
        return int(sum(node.num_gpus for node in self.nodes))

    @property
    def can_have_gpus(self) -> bool:
        return any(node.num_gpus >= 1 for node in (*self.nodes, *self.possible))

    def total(self, what: Literal["num_cpus", "num_gpus"]) -> float:
        """Of all nodes, when every one that could be is there: those that are have a type too."""
        return max(sum(getattr(node, what) * node.count for node in some) for some in (self.nodes, self.possible))

    def has_role(self, role: Role) -> bool:
        """Whether some node carries this role, or could: only then may a stage ask for it."""
        return any(node.labels.get(ROLE_LABEL) == role for node in (*self.nodes, *self.possible))


@dataclass(frozen=True, slots=True)
class Request:
    """The workers of one product. `num_cpus` and `num_gpus` are of each."""

    num_cpus: float
    num_gpus: float
    labels: Mapping[str, str]
    workers: int | None  # None: as many as fit
    holds: bool  # a worker is an actor that keeps a model, where others are tasks
    shuns: tuple[str, ...] = ()  # nodes without CPUs, where what takes none would otherwise land

    def fits(self, node: Node) -> bool:
        """Whether an idle node of this kind could hold one worker."""
        labelled = all(node.labels.get(key) == value for key, value in self.labels.items())
        labelled = labelled and node.name not in self.shuns
        return labelled and node.num_cpus >= self.num_cpus and node.num_gpus >= self.num_gpus


def request_of(
    product: Product, *, uses_gpu: bool, pools: Pools, facts: Facts, beside: Sequence[tuple[Product, bool]] = ()
) -> Request:
    """What `product` asks for on this cluster.

    `uses_gpu` says whether its worker keeps what wants a GPU, where there is one: a model, or flow's cuda backend.
    `beside` are all products of the run with the same of each (this one among them): a pool is shared by the products
    of its kind, and a GPU that nobody has divided by all products that want one. So a stage with a GPU is never kept
    from starting by another that holds them all.
    """
    if product.kind == "heads":
        return _request_of_head(uses_gpu, pools.heads, facts)
    pool = pools.of(product.kind)
    of_kind = sum(other.kind == product.kind for other, _ in beside) or 1
    workers = None if pool.workers is None else max(1, pool.workers // of_kind)
    if not uses_gpu:
        return Request(1 if pool.cpus is None else pool.cpus, 0, _labels(CPU, facts), workers, holds=False)
    if pool.gpus is not None:
        # where products of a kind are more than its workers, they share: the whole pool takes what it was given
        crowd = max(1.0, of_kind / pool.workers) if pool.workers is not None else float(of_kind)
        num_gpus = pool.gpus if crowd == 1 else _share(pool.gpus / crowd)
    else:
        wanting = sum(wants for _, wants in beside) or 1
        num_gpus = _share(1 / wanting) if facts.can_have_gpus else 0.0
    if workers is None:
        workers = _as_many_as_there_are(num_gpus, facts)
    # Without GPUs a model uses all cores of its node by its own threads. Zero logical CPUs: the decoders must be able
    # to take every core while the model waits for units.
    cpus = 0 if pool.cpus is None else pool.cpus
    shuns = () if cpus or num_gpus else tuple(node.name for node in facts.nodes if not node.num_cpus)
    return Request(cpus, num_gpus, _labels(GPU if num_gpus else CPU, facts), workers, holds=True, shuns=shuns)


def _request_of_head(uses_gpu: bool, pool: Pool, facts: Facts) -> Request:
    """Heads are trained one after the other, so each has the whole pool; a worker takes a whole GPU by default."""
    workers = pool.workers or 1
    num_gpus = 0.0
    if uses_gpu:
        num_gpus = float(facts.num_gpus >= workers) if pool.gpus is None else pool.gpus
    cpus = 1 if pool.cpus is None else pool.cpus
    return Request(cpus, num_gpus, _labels(GPU if num_gpus else CPU, facts), workers, holds=True)


def _share(share: float) -> float:
    """A share that Ray can count, so that n of 1/n fit on one GPU; above one, GPUs are whole."""
    return float(math.floor(share)) if share >= 1 else math.floor(share * SHARES) / SHARES


def _as_many_as_there_are(num_gpus: float, facts: Facts) -> int:
    """An actor for each GPU of the cluster; where none asks for one, an actor for each node that works."""
    if not num_gpus:
        return max(1, sum(node.num_cpus > 0 for node in facts.nodes))
    return max(1, int(sum(node.num_gpus // max(1.0, num_gpus) for node in facts.nodes)))


def _labels(role: Role, facts: Facts) -> dict[str, str]:
    return {ROLE_LABEL: role} if facts.has_role(role) else {}


def in_chain_order(asked: Sequence[tuple[Product, Request]]) -> list[tuple[Product, Request]]:
    """The steps of a unit, one after the other: in the order of the plan where there are GPUs, so that they have work
    early. Where models share the cores with decoders and flow they come last: clips and flow are one task then, and
    what a run ends with is a model's work, which takes all cores that the others leave."""
    if any(request.num_gpus for _, request in asked):
        return list(asked)
    return sorted(asked, key=lambda step: step[1].holds)  # stable; no flow is made of features


def check(requests: Sequence[tuple[Product, Request]], facts: Facts) -> list[str]:
    """What has to be waited for, in sentences; empty where the cluster has it all.

    Raises UsageError for what this cluster can never have: Ray would wait for it for ever.
    """
    waiting = []
    for product, request in requests:
        if any(request.fits(node) for node in facts.nodes):
            continue
        asked = f"{product.path} {{}} a node with {describe(request)}"
        if not facts.may_grow and not any(request.fits(node) for node in facts.possible):
            raise UsageError(
                f"{asked.format('asks for')}, and this cluster has none: {_largest(facts)}; set "
                f"pools.{product.kind} to what it has, or start such a node"
            )
        waiting.append(f"{asked.format('waits for')}, which the cluster has to start")
    _check_held("num_gpus", "GPUs", [request for _, request in requests], facts)
    _check_held("num_cpus", "CPUs", [request for _, request in requests], facts)
    return waiting


def _check_held(what: Literal["num_cpus", "num_gpus"], noun: str, requests: Sequence[Request], facts: Facts) -> None:
    """What actors hold for the whole run must leave room for the largest task: else units would wait for ever."""
    held = sum(getattr(request, what) * (request.workers or 1) for request in requests if request.holds)
    task = max((getattr(request, what) for request in requests if not request.holds), default=0.0)
    total = facts.total(what)
    if held and held + task > total and not facts.may_grow:
        beside = f", and {task:g} beside them for decoding and flow" if task else ""
        raise UsageError(
            f"the workers that keep a model would hold {held:g} {noun}{beside}, and this cluster has {total:g}; set "
            "pools to fewer workers, or to less for each"
        )


def wants_gpu(product: Product) -> bool:
    """Whether a product's worker would take a GPU where there is one; of flow's `auto` only the card knows which it
    took."""
    return product.kind == "features" or (product.kind == "flow" and product.settings["backend"] in ("auto", "cuda"))


def describe(request: Request) -> str:
    """`1 CPU and 0.5 GPUs, labelled reelmill-role=gpu`."""
    parts = [
        f"{amount:g} {noun}{'' if amount == 1 else 's'}"
        for amount, noun in ((request.num_cpus, "CPU"), (request.num_gpus, "GPU"))
        if amount
    ]
    labels = ", ".join(f"{key}={value}" for key, value in request.labels.items())
    return " and ".join(parts or ["any CPUs"]) + (f", labelled {labels}" if labels else "")


def _largest(facts: Facts) -> str:
    nodes = (*facts.nodes, *facts.possible)
    if not nodes:
        return "it has no node at all"
    cpus, gpus = max(node.num_cpus for node in nodes), max(node.num_gpus for node in nodes)
    return f"its largest nodes have {cpus:g} CPUs and {gpus:g} GPUs"
