"""Faults on purpose, to see a run survive them: `reelmill run --chaos SEED`.

The driver draws from the seed which units are hit by what, and hands that list to the workers in an environment
variable. A worker that takes up such a unit does it to itself, so that nothing but this run's own processes can be
hit, on whatever machine they are. Each fault strikes once: a note in `_runs/chaos/` says that it has, also after the
process that wrote it is gone, and also in later runs with the same seed, so that the same command comes through.

Off, the variable is not there, and `striking` is one look-up in an empty dict.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.graph import Product, Unit
from pipeline.storage import patience
from pipeline.store import Store
from schemas.work import RUNS_FOLDER

Kind = Literal["kill worker", "kill decoder", "skew clock", "lose storage", "fill disk"]

VARIABLE = "REELMILL_CHAOS"
NOTES = f"{RUNS_FOLDER}/chaos"
MOST_FAULTS = 64  # whatever the size of the run: they travel in an environment variable
UNITS_PER_KILL = 100
DAY_S = 86400.0
OUTAGE_S = (5.0, 30.0)
SOON_S = 1.0  # mostly sooner: units of tests take tenths
DECODER = b"pipeline.video.decoder_process"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to the worker that takes up this unit of this product, `after_s` seconds into it."""

    seed: int
    kind: Kind
    product: str
    unit: int
    after_s: float
    size: float  # the outage in seconds, the skew in days

    def __str__(self) -> str:
        size = {"lose storage": f" for {self.size:.0f} s", "skew clock": f" by {self.size:+.0f} day"}.get(self.kind, "")
        return f"{self.kind}{size}: {self.product} unit {self.unit:06d}"

    @property
    def note(self) -> str:
        return f"{NOTES}/{self.seed}-{self.product.replace('/', '-')}-{self.unit:06d}.json"


# ---------------------------------------------------------------- in the driver


@contextlib.contextmanager
def unleashed(
    seed: int | None, store: Store, products: Sequence[Product], units: Sequence[Unit], *, tell: Callable[[str], None]
) -> Iterator[Mapping[str, str]]:
    """Gives the environment in which workers hurt themselves, and says what is coming and what came of it."""
    if seed is None:
        yield {}
        return
    faults = draw(seed, products, units, is_local=store.is_local)
    tell(f"CHAOS {seed}: this run hurts itself on purpose, in its own processes only; {len(faults)} faults are drawn:")
    for fault in faults:
        tell(f"  {fault}")
    try:
        yield {VARIABLE: json.dumps([asdict(fault) for fault in faults])}
    finally:
        notes = [note for fault in faults if (note := store.read_or_none(fault.note)) is not None]
        tell(f"CHAOS {seed}: {len(notes)} of {len(faults)} faults struck:")
        for note in sorted((json.loads(data) for data in notes), key=lambda note: str(note["at"])):
            tell(f"  {note['at']} {note['fault']} (process {note['pid']} on {note['host']})")


def draw(seed: int, products: Sequence[Product], units: Sequence[Unit], *, is_local: bool) -> list[Fault]:
    """The faults of a seed: at most one a unit, since each may cost one of the three attempts that Ray makes."""
    dice = random.Random(seed)
    indices = sorted(unit.index for unit in units)
    dice.shuffle(indices)
    kinds: list[tuple[Kind, str]] = []
    for product in products:
        kills = 1 + len(units) // UNITS_PER_KILL
        kinds.append(("skew clock", product.path))
        for _ in range(kills):
            kinds.append(("kill worker", product.path))
            if product.kind == "clips":
                kinds.append(("kill decoder", product.path))
        if not is_local:
            kinds.append(("lose storage", product.path))
    dice.shuffle(kinds)
    if dice.random() < 0.5:  # the last thing that happens, since it ends the run as a full disk does
        kinds.insert(min(len(kinds), len(indices), MOST_FAULTS) - 1, ("fill disk", dice.choice(products).path))
    return [
        _fault(seed, kind, product, unit, dice)
        for (kind, product), unit in zip(kinds[:MOST_FAULTS], indices, strict=False)
    ]


def _fault(seed: int, kind: Kind, product: str, unit: int, dice: random.Random) -> Fault:
    size = dice.uniform(*OUTAGE_S) if kind == "lose storage" else float(dice.choice((-1, 1)))
    return Fault(seed, kind, product, unit, after_s=SOON_S * dice.random() ** 3, size=size)


# ---------------------------------------------------------------- in a worker


def _read_environment() -> dict[tuple[str, int], Fault]:
    faults = [Fault(**fields) for fields in json.loads(os.environ.get(VARIABLE, "[]"))]
    return {(fault.product, fault.unit): fault for fault in faults}


_faults = _read_environment()


@contextlib.contextmanager
def striking(store: Store, product: str, unit: int) -> Iterator[None]:
    """For the time that a unit is made: what is drawn for it happens."""
    fault = _faults.get((product, unit))
    if fault is None or store.read_or_none(fault.note) is not None:
        yield
        return
    at = time.strftime("%Y-%m-%dT%H:%M:%S")
    note = {"at": at, "fault": str(fault), "pid": os.getpid(), "host": socket.gethostname()}
    store.put(fault.note, json.dumps(note).encode())
    with _STRIKES[fault.kind](fault):
        yield


@contextlib.contextmanager
def _kill_worker(fault: Fault) -> Iterator[None]:
    """In the middle of the unit; or at its end, when its receipt stands and nobody has heard of it yet."""
    timer = threading.Timer(fault.after_s, os.kill, (os.getpid(), signal.SIGKILL))
    timer.daemon = True
    timer.start()
    yield
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def _kill_decoder(fault: Fault) -> Iterator[None]:
    """The decoder process of this worker, as soon as there is one."""
    over = threading.Event()

    def hunt() -> None:
        over.wait(fault.after_s)
        while not over.is_set():
            for pid in _decoders():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                return
            over.wait(0.02)

    threading.Thread(target=hunt, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _decoders() -> list[int]:
    """The decoder processes that this process has started."""
    found = []
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            with contextlib.suppress(OSError):
                if DECODER in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(int(pid))
    return found


@contextlib.contextmanager
def _fill_disk(fault: Fault) -> Iterator[None]:
    """The kernel lets no file of this process grow: a write fails as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # python ignores the signal that goes with it
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def _lose_storage(fault: Fault) -> Iterator[None]:
    """Nothing of a remote storage answers this process for a while."""
    patience.away_until_s = time.monotonic() + fault.size
    yield


@contextlib.contextmanager
def _skew_clock(fault: Fault) -> Iterator[None]:
    """This process's calendar is off from here on: python's own, which is what our code and Ray's would ask."""
    now, now_ns, seconds = time.time, time.time_ns, fault.size * DAY_S
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + int(seconds * 1e9)
    yield


_STRIKES: dict[Kind, Callable[[Fault], contextlib.AbstractContextManager[Any]]] = {
    "kill worker": _kill_worker,
    "kill decoder": _kill_decoder,
    "skew clock": _skew_clock,
    "lose storage": _lose_storage,
    "fill disk": _fill_disk,
}
