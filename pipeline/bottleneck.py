"""What held a run back most, and the one knob that would change it: one sentence, from the run's record alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from schemas.work import ProductWork, RunRecord

Kind = Literal[
    "too_short", "few_units", "output", "input", "opening", "cores", "gpus", "batches", "decoding", "pool", "nothing"
]

MIN_WALL_S = 10.0  # below this, starting up is most of a run
MUCH = 0.30  # share of the workers' time that is worth a word
FULL = 0.80  # share at which cores, GPUs or a pool count as full
HALF = 0.50  # share from which a pool holds back all others, where it is busier than each of them by MUCH
MANY_FRAMES = 8.0  # decoded for each that is used


@dataclass(frozen=True, slots=True)
class Verdict:
    """`product` is the bottleneck; "" where it is none of them."""

    kind: Kind
    product: str
    sentence: str


def verdict(record: RunRecord) -> Verdict | None:
    """None for a run that made nothing."""
    made = {path: work for path, work in record.products.items() if work.units and work.held_s > 0}
    if not made:
        return None
    if record.wall_s < MIN_WALL_S:
        return Verdict(
            "too_short", "", f"Too short to name a bottleneck: {record.wall_s:.0f} s, mostly of starting up."
        )
    for rule in RULES:
        found = rule(record, made)
        if found is not None:
            return found
    return Verdict("nothing", "", _nothing(record, made))


# ---------------------------------------------------------------- what may hold a run back, the surest sign first


def _output(record: RunRecord, made: Mapping[str, ProductWork]) -> Verdict | None:
    path, share = _longest(made, lambda work: work.writing_s)
    if share < MUCH:
        return None
    rate = made[path].bytes_out / max(1e-9, made[path].writing_s) / 1e6
    return Verdict(
        "output",
        path,
        f"The dataset's storage is the bottleneck: {path}'s workers waited {share:.0%} of their time for output, at "
        f"{rate:.3g} MB/s each; write to faster storage.",
    )


def _input(record: RunRecord, made: Mapping[str, ProductWork]) -> Verdict | None:
    of_videos = {path: work for path, work in made.items() if path.startswith(("clips/", "flow/"))}
    path, share = _longest(of_videos, lambda work: work.reading_s)
    if share < MUCH:
        return None
    rate = made[path].bytes_in / max(1e-9, made[path].reading_s) / 1e6
    return Verdict(
        "input",
        path,
        f"The videos' storage is the bottleneck: {path}'s workers waited {share:.0%} of their time for it, at "
        f"{rate:.3g} MB/s each; keep the videos on faster storage or nearer to the cluster.",
    )


def _gpus(record: RunRecord, made: Mapping[str, ProductWork]) -> Verdict | None:
    share = record.gpu_share
    if share is None or share < FULL:
        return None
    path = _most(made, lambda work: work.device_s or 0.0)
    return Verdict(
        "gpus",
        path,
        f"{path} is the bottleneck: the GPUs were computing {share:.0%} of the time; "
        f"{_more_workers(record, path, made[path])}.",
    )


def _cores(record: RunRecord, made: Mapping[str, ProductWork]) -> Verdict | None:
    share = record.cpu_share
    if share is None or share < FULL:
        return None
    path = _most(made, lambda work: work.cpu_s)
    work, total_s = made[path], sum(work.cpu_s for work in made.values())
    knob = _more_workers(record, path, work)
    if work.amplification is not None and work.amplification >= MANY_FRAMES:
        knob += (
            f" (it decodes {work.amplification:.0f} frames for each that it uses, for its videos have few key frames)"
        )
    return Verdict(
        "cores",
        path,
        f"{path} is the bottleneck: the cores were busy {share:.0%} of the time, {work.cpu_s / total_s:.0%} of that "
        f"with it; {knob}.",
    )


def _few_units(record: RunRecord, made: Mapping[str, ProductWork]) -> Verdict | None:
    """The first product waits for no other, unless one behind it lags: its workers are idle where units are too few,
    or too unlike."""
    path = next(iter(made))
    work = made[path]
    share, smaller = work.share(work.idle_s), _smaller_units(work)
    if not path.startswith("clips/") or share < MUCH or not smaller or path != _busiest(made):
        return None
    return Verdict(
        "few_units",
        path,
        f"Units are too few: {path}'s workers had none for {share:.0%} of their time, for this run made {work.units}; "
        f"{smaller}.",
    )


def _opening(record: RunRecord, made: Mapping[str, ProductWork]) -> Verdict | None:
    path, share = _longest(made, lambda work: work.opening_s)
    if share < MUCH:
        return None
    said = f"{path}'s workers spent {share:.0%} of their time loading code and models, once each"
    if made[path].pool.workers == 1:
        return Verdict("opening", path, f"{said}: it is less of a longer run, and there is no knob for it.")
    return Verdict("opening", path, f"{said}: the run is short for so many; set pools.{_kind(path)}.workers lower.")


def _pool(record: RunRecord, made: Mapping[str, ProductWork]) -> Verdict | None:
    """A full one; or one that is busy for most of its time while no other is: those before it wait for it to take more,
    those behind it for what it gives."""
    path = _busiest(made)
    work = made[path]
    share = _busy(work)
    others = [_busy(other) for name, other in made.items() if name != path]
    leads = bool(others) and share >= HALF and share - max(others) >= MUCH
    if share < FULL and not leads:
        return None
    said = f"{path} is the bottleneck: its workers were busy {share:.0%} of the time"
    waits, on_gpu = _who_waits(made, path), work.share(work.device_s or 0.0)
    if work.device_s is not None and on_gpu < HALF:
        return Verdict("batches", path, f"{said}, but its GPU only {on_gpu:.0%}{waits}; set its batch_size higher.")
    return Verdict("pool", path, f"{said}{waits}; {_more_workers(record, path, work)}.")


def _more_workers(record: RunRecord, path: str, work: ProductWork) -> str:
    pool = work.pool
    is_model_on_cpus = pool.holds and not pool.gpus
    if pool.workers is None:
        return "add CPU nodes"
    if pool.workers >= record.units_pending > 0:
        if is_model_on_cpus:
            return "give it a GPU"
        return _smaller_units(work) or "each video had a worker of its own, so no knob would gain much"
    higher = f"set pools.{_kind(path)}.workers higher"
    if not pool.holds:
        return f"{higher} ({path} had {pool.workers}), and add CPU nodes where they don't fit"
    # an actor for each GPU, or for each node, whose cores it uses all: more of them on the same ones gain nothing
    nodes = "give it a GPU, or add CPU nodes" if is_model_on_cpus else "add GPU nodes"
    return f"{nodes} (and {higher} where the config has it)"


def _decoding(record: RunRecord, made: Mapping[str, ProductWork]) -> Verdict | None:
    """A model that waits inside its units waits for the threads that decode stored clips."""
    of_clips = {path: work for path, work in made.items() if path.startswith("features/")}
    path, share = _longest(of_clips, lambda work: work.reading_s)
    if share < MUCH:
        return None
    return Verdict(
        "decoding",
        path,
        f"{path} is the bottleneck: its model waited {share:.0%} of the time for stored clips to be read and decoded; "
        "give its nodes more cores.",
    )


RULES: tuple[Callable[[RunRecord, Mapping[str, ProductWork]], Verdict | None], ...] = (
    _output,
    _input,
    _gpus,
    _cores,
    _pool,
    _decoding,
    _few_units,
    _opening,
)


# ---------------------------------------------------------------- words


def _smaller_units(work: ProductWork) -> str:
    """The knob that cuts more units, or "" where each has one video already: no unit is smaller."""
    if work.videos <= work.units:
        return ""
    return f"set units.videos_per_unit lower than {math.ceil(work.videos / work.units)} (all is made anew then)"


def _busy(work: ProductWork) -> float:
    return work.share(work.busy_s)


def _busiest(made: Mapping[str, ProductWork]) -> str:
    return max(made, key=lambda path: _busy(made[path]))


def _most(made: Mapping[str, ProductWork], cost: Callable[[ProductWork], float]) -> str:
    return max(made, key=lambda path: cost(made[path]))


def _longest(made: Mapping[str, ProductWork], cost: Callable[[ProductWork], float]) -> tuple[str, float]:
    """The product that spent most on something, and how much of its workers' time that is; ("", 0) of none."""
    if not made:
        return "", 0.0
    path = _most(made, cost)
    return path, made[path].share(cost(made[path]))


def _kind(path: str) -> str:
    return path.partition("/")[0]


def _who_waits(made: Mapping[str, ProductWork], path: str) -> str:
    """The product whose workers waited longest meanwhile, for units or inside them."""
    others = {other: work.share(work.input_s) for other, work in made.items() if other != path}
    other = max(others, key=lambda name: others[name], default="")
    return f", while {other}'s waited {others[other]:.0%} of theirs" if others and others[other] >= MUCH else ""


def _nothing(record: RunRecord, made: Mapping[str, ProductWork]) -> str:
    path = _busiest(made)
    busy = f"{path}'s workers were the busiest, {_busy(made[path]):.0%} of the time"
    cores = f", and the cores were at {record.cpu_share:.0%}" if record.cpu_share is not None else ""
    return f"Nothing stands out: {busy}{cores}; no single knob would gain much."
