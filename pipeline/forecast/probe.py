"""Times each stage on videos of the sample: the real stages, on as many processes as there are cores."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline import receipts
from pipeline.forecast.bench import Bench
from pipeline.forecast.stored import Stored, grown, line_of, sample_bytes, vector_bytes
from pipeline.forecast.worker import Timed, Workers, ask_once, make_card
from pipeline.graph import Product, Unit
from pipeline.shards import shard_bytes
from pipeline.threads import num_cores
from schemas.config import Clips, Features, Limits
from schemas.errors import ReelmillError
from schemas.forecast import Device

BATCHES: dict[Device, int] = {"cpu": 1, "gpu": 4}  # of clips, in what features are timed on at once
WARM_TRIES = 8  # units of which nothing may come
MEASURED = ("worker_s", "cpu_s", "num_bytes")  # of a unit, and of a video


@dataclass(frozen=True, slots=True)
class VideoCost:
    """What one video of the sample costs, the whole of it."""

    video: int  # of the sample
    weight: float
    worker_s: float
    cpu_s: float
    items: float
    num_bytes: float


@dataclass(frozen=True, slots=True)
class BatchCost:
    """What a run of clips costs a model."""

    clips: int
    rows: int
    worker_s: float
    cpu_s: float
    num_bytes: float


@dataclass(frozen=True, slots=True)
class ProductProbe:
    """One product, measured."""

    product: Product
    device: Device
    cores_per_worker: float  # that a worker keeps busy by itself
    card_s: float  # to make its card, once a run
    open_s: float  # to load code and model and to make a first clip, once a worker
    open_cpu_s: float  # that a worker's first clip takes beyond the others
    unit_s: float  # of each unit, beside its videos
    unit_cpu_s: float
    unit_bytes: float
    filled_bytes: float  # of each unit that has rows, beside them and beside `unit_bytes`: of features
    files_per_unit: int
    videos: tuple[VideoCost, ...]  # clips and flow
    batches: tuple[BatchCost, ...]  # features
    num_lost: int


class Prober:
    """Probes products in the order of a plan. `budget_s` is for each; one round over all cores is always made.

    `rated` names the products whose rate is given: they are made once, for the bytes.
    """

    def __init__(
        self, bench: Bench, *, limits: Limits, budget_s: float, has_gpu: bool, rated: Mapping[str, float]
    ) -> None:
        self._bench, self._limits, self._budget_s = bench, limits, budget_s
        self._has_gpu, self._rated = has_gpu, rated
        self._products: dict[str, Product] = {}
        self._made: dict[str, dict[int, Timed]] = {}  # product -> unit -> what it gave
        self._empty: dict[str, dict[str, float]] = {}  # product -> what a unit without a video costs
        self._costs_of: dict[str, dict[int, VideoCost]] = {}  # product -> video of the sample -> its cost

    def probe(self, product: Product) -> ProductProbe:
        """Raises ReelmillError where a stage can't be opened or its workers die, and where no video can be used."""
        self._products[product.path] = product
        if product.kind == "features":
            return self._features(product)
        return self._videos(product)

    # ------------------------------------------------------------ clips, flow

    def _videos(self, product: Product) -> ProductProbe:
        bench, on_gpu, is_first = self._bench, self._on_gpu(product), product.kind == "clips"
        part = "whole" if is_first or not self._by_stride(product) else "short"
        count = 1 if on_gpu else num_cores()
        units, others = bench.units(part), bench.units("short") if is_first else []
        if not is_first:  # the budget may have left out some of its clips
            units = [unit for unit in units if unit.index in self._made[next(iter(product.upstream))]]
        warm = self._warm(product)
        with Workers(product, bench.store, self._limits, count=count, warm=warm) as workers:
            timed = list(workers.run(units, budget_s=self._budget_s, at_least=max(count, 2)))
            none = list(workers.run(bench.none, budget_s=0, at_least=len(bench.none)))
            rest = list(workers.run(others, budget_s=np.inf, at_least=len(others)))
        self._made[product.path] = {one.unit: one for one in [*timed, *rest]}
        costs = self._costs(product, part, timed, none)
        reasons = [one.reason for one in timed if one.num_lost]
        if len(reasons) == len(timed):
            raise ReelmillError(
                f"{product.path}: not one of the {len(costs)} videos that were looked at could be used "
                f"({', '.join(sorted(set(reasons)))}), so nothing can be predicted; "
                "mend them, or look at more of them with --videos"
            )
        first_round = {getattr(video, part)[0].index for video in bench.videos}
        return ProductProbe(
            product=product,
            device="gpu" if on_gpu else "cpu",
            cores_per_worker=0 if on_gpu else 1,
            card_s=workers.card_s,
            open_s=workers.open_s,
            open_cpu_s=workers.open_cpu_s,
            unit_s=_median(one.worker_s for one in none),
            unit_cpu_s=_median(one.cpu_s for one in none),
            unit_bytes=_median(one.num_bytes for one in none),
            filled_bytes=0.0,
            files_per_unit=none[0].num_files,
            videos=tuple(costs),
            batches=(),
            num_lost=sum(one.num_lost for one in timed if one.unit in first_round),
        )

    def _costs(self, product: Product, part: str, timed: Sequence[Timed], none: Sequence[Timed]) -> list[VideoCost]:
        """What each video that was timed costs, all of it, without what its unit costs beside it."""
        self._empty[product.path] = empty = {name: _median(getattr(one, name) for one in none) for name in MEASURED}
        if part == "short":
            costs = self._costs_by_clip(product, timed, empty)
        else:
            costs = []
            for number, video in enumerate(self._bench.videos):
                if mine := _of_units(timed, video.whole):
                    spent = {name: video.scale * value for name, value in _beside(mine, empty).items()}
                    costs.append(VideoCost(number, video.picked.weight, items=video.scale * mine[0].items, **spent))
        self._costs_of[product.path] = {cost.video: cost for cost in costs}
        return costs

    def _costs_by_clip(self, flow: Product, timed: Sequence[Timed], empty: Mapping[str, float]) -> list[VideoCost]:
        """The same for flow that was timed on a clip of each video."""
        source = next(iter(flow.upstream))
        stored = self._stored(flow, timed, empty["num_bytes"])
        line = line_of(list(stored.values()))
        costs = []
        for number, video in enumerate(self._bench.videos):
            mine, clips = _of_units(timed, video.short), _of_units(self._made[source].values(), video.short)
            whole = self._costs_of[source].get(number)
            if not mine or whole is None:
                continue  # how many clips it has is not known
            times = whole.items / mine[0].items if mine[0].items else 1.0
            spent, of_clips = _beside(mine, empty), _beside(clips, self._empty[source])
            items = times * mine[0].items
            costs.append(
                VideoCost(
                    video=number,
                    weight=video.picked.weight,
                    worker_s=flow_of_whole(
                        spent["worker_s"], times=times, of_clips=of_clips["worker_s"], whole_clips=whole.worker_s
                    ),
                    cpu_s=flow_of_whole(
                        spent["cpu_s"], times=times, of_clips=of_clips["cpu_s"], whole_clips=whole.cpu_s
                    ),
                    items=items,
                    num_bytes=grown(stored[mine[0].unit], items, line),
                )
            )
        return costs

    def _stored(self, product: Product, timed: Sequence[Timed], empty: float) -> dict[int, Stored]:
        """unit -> its bytes. Beside the units that were timed, one of all their items: it tells what comes but once."""
        store = self._bench.store
        joined = self._bench.join(product, self._groups(product, sys.maxsize)[0], 0)
        receipt = receipts.require(store, product.path, joined, product.unit_fingerprint(joined))
        all_bytes = {one.unit: (one.items, one.num_bytes) for one in timed}
        all_bytes[joined.index] = (receipt.items, sum(file.bytes for file in receipt.files))
        found = {}
        for unit, (items, num_bytes) in all_bytes.items():
            with store.open(f"{product.path}/{product.kind}-{unit:06d}.tar") as file:
                samples = sample_bytes(file)
            rest = num_bytes - shard_bytes(samples) - (empty - shard_bytes(0))
            found[unit] = Stored(items, samples, max(0.0, rest))
        return found

    def _by_stride(self, flow: Product) -> bool:
        return Clips.model_validate(self._products[f"clips/{flow.settings['clips']}"].settings).windows == "stride"

    def _on_gpu(self, product: Product) -> bool:
        if product.kind == "flow" and self._has_gpu:
            ask_once(make_card, product, self._bench.store.uri)  # it says which backend `auto` is
            used = receipts.read_card(self._bench.store, product.path).details["backend"]["used"]
            return bool(used == "cuda")
        return product.kind == "features" and self._has_gpu

    def _warm(self, product: Product) -> list[Unit]:
        """Units of one clip, where windows go by a stride: a worker's first with items is not timed."""
        if product.kind == "clips":
            return list(self._bench.units("short")[:WARM_TRIES])
        made = self._made[next(iter(product.upstream))]
        filled = [unit for unit in self._bench.units("short") if unit.index in made and made[unit.index].items]
        if not filled:  # flow where windows do not go by a stride is made of whole videos alone
            filled = [unit for unit in self._bench.units("whole") if unit.index in made and made[unit.index].items]
        if not filled:
            raise ReelmillError(
                f"{product.path}: no video that was looked at gives a clip to time it on; look at more with --videos"
            )
        return sorted(filled, key=lambda unit: made[unit.index].items)[:WARM_TRIES]

    # ------------------------------------------------------------ features

    def _features(self, product: Product) -> ProductProbe:
        bench, on_gpu = self._bench, self._on_gpu(product)
        settings = Features.model_validate(product.settings)
        source = self._products[settings.source]
        is_rated = product.name in self._rated
        warm = self._warm(product)
        least = self._made[source.path][warm[0].index].items + 1  # or their bytes could not be told from their file's
        num_clips = least if is_rated else max(least, BATCHES["gpu" if on_gpu else "cpu"] * settings.batch_size)
        groups = self._groups(source, num_clips)
        if is_rated:
            groups = groups[:1]
        joined = [bench.join(source, group, number) for number, group in enumerate(groups)]
        clips = {
            into.index: sum(self._made[source.path][unit.index].items for unit in group)
            for into, group in zip(joined, groups, strict=True)
        }
        with Workers(product, bench.store, self._limits, count=1, warm=warm) as workers:
            # the shapes of whole batches are new to it: the first is made once more, and counts where nothing else was
            again = [] if is_rated else joined[:1]
            timed = list(workers.run([*joined, *again], budget_s=self._budget_s, at_least=2 if on_gpu else 1))
            timed = timed[1:] or timed
            (none,) = workers.run(bench.none[:1], budget_s=np.inf, at_least=1)
        self._made[product.path] = {}
        stored = self._stored_features(product, (workers.warmed, *timed), none.num_bytes)
        line = line_of(list(stored.values()))
        return ProductProbe(
            product=product,
            device="gpu" if on_gpu or is_rated else "cpu",
            cores_per_worker=0 if on_gpu or is_rated else num_cores(),
            card_s=workers.card_s,
            open_s=workers.open_s,
            open_cpu_s=workers.open_cpu_s,
            unit_s=0.0 if is_rated else none.worker_s,
            unit_cpu_s=0.0 if is_rated else none.cpu_s,
            unit_bytes=none.num_bytes,
            filled_bytes=line.fixed,
            files_per_unit=none.num_files,
            videos=(),
            batches=tuple(
                BatchCost(
                    clips=clips[one.unit],
                    rows=one.items,
                    worker_s=max(0.0, one.worker_s - none.worker_s),
                    cpu_s=max(0.0, one.cpu_s - none.cpu_s),
                    num_bytes=stored[one.unit].own + line.slope * one.items,
                )
                for one in timed
                if one.items
            ),
            num_lost=0,
        )

    def _stored_features(self, product: Product, timed: Iterable[Timed], empty: float) -> dict[int, Stored]:
        """unit -> its bytes; of maps, `own` has what their shard is longer than one without any."""
        is_dense = Features.model_validate(product.settings).dense
        found = {}
        for one in timed:
            name = f"maps-{one.unit:06d}.tar" if is_dense else f"part-{one.unit:06d}.parquet"
            with self._bench.store.open(f"{product.path}/{name}") as file:
                own = shard_bytes(sample_bytes(file)) - shard_bytes(0) if is_dense else vector_bytes(file)
            found[one.unit] = Stored(one.items, own, one.num_bytes - empty - own)
        return found

    def _groups(self, source: Product, num_clips: int) -> list[list[Unit]]:
        """Neighbouring units of videos that stand, in groups of `num_clips` clips or more; the last may be smaller
        where it is the only one."""
        made = self._made[source.path]
        part = "whole" if any(unit.index in made for unit in self._bench.units("whole")) else "short"
        groups: list[list[Unit]] = [[]]
        count = 0
        for video in self._bench.videos:
            unit = getattr(video, part)[0]
            if unit.index not in made:
                break
            if count >= num_clips:
                groups.append([])
                count = 0
            groups[-1].append(unit)
            count += made[unit.index].items
        return groups[:-1] if count < num_clips and len(groups) > 1 else groups


def flow_of_whole(flow: float, *, times: float, of_clips: float, whole_clips: float) -> float:
    """Seconds for the flow of a whole video, from `flow` and `of_clips`, those for the flow and the clips of a part of
    it, and `whole_clips`, those for the clips of the whole; `times`: how many times as many clips it has.

    Both products open and decode the video alike, and the whole of it in one go: only what the flow of the part took
    beyond that comes with each clip.
    """
    return max(flow, whole_clips + times * (flow - of_clips))


def _of_units(timed: Iterable[Timed], units: Sequence[Unit]) -> list[Timed]:
    indices = {unit.index for unit in units}
    return [one for one in timed if one.unit in indices]


def _beside(timed: Sequence[Timed], empty: Mapping[str, float]) -> dict[str, float]:
    """What units of the same video cost beside what an empty one does."""
    return {name: max(0.0, _mean(getattr(one, name) for one in timed) - empty[name]) for name in MEASURED}


def _median(values: Iterable[float]) -> float:
    return float(np.median(list(values)))


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
