"""Watches a run from its driver: what workers tell goes into the run's record and to Prometheus."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import ray

from pipeline import runs
from pipeline.graph import Plan, Unit
from pipeline.runner.facts import node_records
from pipeline.runner.metrics import Metrics
from pipeline.stages import package_versions
from pipeline.store import Store
from pipeline.workload import Workload
from schemas.news import News
from schemas.work import NodeRecord, RunRecord, State


class Watch:
    """Hears all that workers tell, and knows the run's record at any moment; `last` is the one made last."""

    def __init__(
        self, plan: Plan, *, run: int, pending: Sequence[Unit], config_sha256: str, listener: Callable[[News], None]
    ) -> None:
        self._listener = listener
        products = [product for product in plan.products if product.kind != "heads"]
        self._workload = Workload(
            now_s=time.monotonic(), fingerprints={product.path: product.fingerprint for product in products}
        )
        self._metrics = Metrics()
        self._lock = threading.Lock()  # the last record is made while a periodic one may still be under way
        self._nodes: dict[str, NodeRecord] = {}  # all that were ever seen
        self._first = RunRecord(
            run=run,
            state="running",
            began=datetime.now(UTC).isoformat(timespec="seconds"),
            wall_s=0.0,
            units_pending=len(pending),
            versions=_versions(plan),
            config_sha256=config_sha256,
        )
        self.last: RunRecord | None = None
        self.failed = False  # set by whoever runs the plan, where it ends with errors

    def hear(self, news: News) -> None:
        self._workload.hear(news, now_s=time.monotonic())
        self._metrics(news)
        self._listener(news)

    def record(self, state: State) -> RunRecord:
        """What the run has cost until now."""
        with self._lock:
            now_s = time.monotonic()
            self._look(now_s)
            if state in ("done", "failed"):  # an interrupt just cuts off what is under way
                self._workload.end()
            cores_s, gpus_s = self._workload.held_by_cluster(now_s=now_s)
            self.last = self._first.model_copy(
                update={
                    "state": "failed" if state == "done" and self.failed else state,
                    "wall_s": self._workload.wall_s(now_s=now_s),
                    "cores_s": cores_s,
                    "gpus_s": gpus_s,
                    "products": self._workload.products(now_s=now_s),
                    "nodes": tuple(self._nodes.values()),
                }
            )
            return self.last

    def _look(self, now_s: float) -> None:
        """See what the cluster has. Where it can't be asked, it is as it was."""
        with suppress(ray.exceptions.RayError, OSError, RuntimeError):
            alive = node_records()
            self._nodes.update({node.name: node for node in alive})
            self._workload.capacity(alive, now_s=now_s)


@contextlib.contextmanager
def watching(
    plan: Plan, store: Store, *, pending: Sequence[Unit], config_sha256: str, listener: Callable[[News], None]
) -> Iterator[Watch]:
    """For the time of the block a record of the run of `pending` is kept in `_runs/`; `listener` hears all news too."""
    watch = Watch(plan, run=runs.next_number(store), pending=pending, config_sha256=config_sha256, listener=listener)
    if not pending:  # cards at most: no record is of any interest
        yield watch
        return
    with runs.recorded(store, watch.record):
        yield watch


def _versions(plan: Plan) -> dict[str, str]:
    """Of what this run is made with, on the driver."""
    found: dict[str, str] = {}
    for kind in {product.kind for product in plan.products}:
        found.update(package_versions(kind))
    for name in ("reelmill", "ray"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return dict(sorted(found.items()))
