"""What a run's workers do with their time, put together from what they say.

    workload = Workload(now_s=…)
    workload.hear(news, now_s=…)                 # each Began, Progress, GaveUp
    workload.capacity(nodes, now_s=…)            # whenever it may have changed
    workload.products(now_s=…)                   # {product path: ProductWork}

All moments are the driver's monotonic clock; durations inside a unit are its worker's. No two clocks are compared: a
unit's time is laid so that it ends when the driver heard of its end.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from schemas.news import Began, GaveUp, News, Progress, Started
from schemas.work import NodeRecord, PoolRecord, ProductWork


@dataclass
class _Units:
    """What was heard of one product's units."""

    spans: list[tuple[float, float]] = field(default_factory=list)  # when a worker was at one, by the driver's clock
    begun: dict[int, float] = field(default_factory=dict)  # unit -> when it was taken up, of those not ended
    sums: ProductWork = field(default_factory=ProductWork)
    last_s: float = 0.0  # of the last news


class Workload:
    """Everything a run's workers said."""

    def __init__(self, *, now_s: float, fingerprints: Mapping[str, str]) -> None:
        self._lock = threading.Lock()  # one thread hears, another writes the record
        self._began_s = now_s
        self._units: dict[str, _Units] = defaultdict(_Units)
        self._pools: Mapping[str, PoolRecord] = {}
        self._fingerprints = dict(fingerprints)
        self._capacity: list[tuple[float, tuple[NodeRecord, ...]]] = []  # (since when, what there is)

    def hear(self, news: News, *, now_s: float) -> None:
        with self._lock:
            self._hear(news, now_s)

    def _hear(self, news: News, now_s: float) -> None:
        if isinstance(news, Started):
            if not self._pools:
                self._began_s = now_s  # what came before was no work on units
            self._pools = news.pools
            return
        units = self._units[news.product]
        units.last_s = max(units.last_s, now_s)
        began_s = units.begun.pop(news.unit, None)
        if isinstance(news, Began):
            units.sums.retries += began_s is not None  # whoever began it never ended it
            units.begun[news.unit] = now_s
        elif isinstance(news, GaveUp):
            units.sums.given_up += 1
            if began_s is not None:
                units.spans.append((began_s, now_s))
                units.sums.busy_s += now_s - began_s
        elif isinstance(news, Progress) and news.work is not None:
            spent_s = news.work.wall_s + news.work.opening_s
            units.spans.append((max(self._began_s, now_s - spent_s), now_s))
            units.sums.add(news.work)
            units.sums.units += 1
            units.sums.failed_rows += news.num_failed

    def end(self) -> None:
        """Nothing is under way any more: what had begun was lost with its worker, and nobody tried it again."""
        with self._lock:
            for units in self._units.values():
                units.sums.given_up += len(units.begun)
                units.begun.clear()

    def capacity(self, nodes: Sequence[NodeRecord], *, now_s: float) -> None:
        """What the cluster has from now on."""
        with self._lock:
            if not self._capacity or self._capacity[-1][1] != tuple(nodes):
                self._capacity.append((now_s, tuple(nodes)))

    def wall_s(self, *, now_s: float) -> float:
        return now_s - self._began_s

    def held_by_cluster(self, *, now_s: float) -> tuple[float, float]:
        """(core seconds, GPU seconds) that the cluster had since the run began."""
        moments = [max(self._began_s, since_s) for since_s, _ in self._capacity] + [now_s]
        moments[0] = self._began_s  # of the time before the cluster was asked, what was said first
        cores_s = gpus_s = 0.0
        for span_s, (_, nodes) in zip(np.diff(moments).tolist(), self._capacity, strict=True):
            cores_s += span_s * sum(node.cpus for node in nodes)
            gpus_s += span_s * sum(node.gpus for node in nodes)
        return cores_s, gpus_s

    def products(self, *, now_s: float) -> dict[str, ProductWork]:
        """What each product cost until now; units under way count with the time since they were taken up."""
        with self._lock:
            return self._products(now_s)

    def _products(self, now_s: float) -> dict[str, ProductWork]:
        found = {}
        idle = self._idle(now_s)
        for path, units in self._units.items():
            if not units.spans and not units.begun:
                continue  # all found finished
            work = units.sums.model_copy(deep=True)
            under_way_s = sum(now_s - began_s for began_s in units.begun.values())
            work.fingerprint = self._fingerprints.get(path, "")
            work.pool = self._pools.get(path, PoolRecord())
            work.wall_s = self._until(path, now_s) - self._began_s
            work.busy_s += under_way_s
            work.idle_s = idle[path]
            work.held_s = work.busy_s + work.opening_s + work.reading_s + work.writing_s + work.idle_s
            found[path] = work
        return found

    # ---------------------------------------------------------------- workers that had nothing to do

    def _until(self, path: str, now_s: float) -> float:
        """While units of it are under way, it has work left; then until the last news of it."""
        return now_s if self._units[path].begun else self._units[path].last_s

    def _idle(self, now_s: float) -> dict[str, float]:
        """Seconds for which each product could have worked at one unit more than it did, summed over its workers.

        Actors are there from the run's start. For tasks, what is free of the cores is there: what other products'
        tasks have of them is not waited in.
        """
        spans = {
            path: [*units.spans, *((since_s, now_s) for since_s in units.begun.values())]
            for path, units in self._units.items()
        }
        moments = np.unique(
            [self._began_s, now_s, *(moment for of in spans.values() for span in of for moment in span)]
            + [self._until(path, now_s) for path in spans]
            + [since_s for since_s, _ in self._capacity if self._began_s < since_s < now_s]
        )
        lengths = np.diff(moments)
        running = {path: _running(of, moments) for path, of in spans.items()}
        found = {}
        for path, count in running.items():
            pool = self._pool(path)
            room = np.full(len(lengths), np.inf) if pool.workers is None else np.maximum(0, pool.workers - count)
            if not pool.holds and pool.cpus:
                free = self._cores(moments, pool.labels)
                for other, other_count in running.items():
                    beside = self._pool(other)
                    if beside.labels == pool.labels:
                        free = free - beside.cpus * ((beside.workers or 0) if beside.holds else other_count)
                room = np.minimum(room, np.floor(np.maximum(0, free) / pool.cpus + 1e-6))
            room[~np.isfinite(room)] = 0
            room[moments[:-1] >= self._until(path, now_s)] = 0  # it has no work left
            found[path] = float(room @ lengths)
        return found

    def _pool(self, path: str) -> PoolRecord:
        return self._pools.get(path, PoolRecord())

    def _cores(self, moments: np.ndarray, labels: Mapping[str, str]) -> np.ndarray:
        """The cores of nodes with these labels between any two moments; of the time before it was asked, what was said
        first."""
        if not self._capacity:
            return np.zeros(len(moments) - 1)
        since = np.array([since_s for since_s, _ in self._capacity])
        cores = np.array(
            [sum(node.cpus for node in nodes if labels.items() <= node.labels.items()) for _, nodes in self._capacity]
        )
        place = np.searchsorted(since, moments[:-1], side="right") - 1
        return np.asarray(cores[np.maximum(0, place)])


def _running(spans: list[tuple[float, float]], moments: np.ndarray) -> np.ndarray:
    """How many of the spans each stretch between two moments lies in. `moments` hold all their ends, ascending."""
    change = np.zeros(len(moments))
    if spans:
        ends = np.array(spans)
        np.add.at(change, np.searchsorted(moments, ends[:, 0]), 1)
        np.add.at(change, np.searchsorted(moments, ends[:, 1]), -1)
    return np.cumsum(change)[:-1]
