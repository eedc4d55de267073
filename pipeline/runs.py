"""What runs leave behind about themselves: `_runs/run-000001.json`, one for each run that made something.

Written while a run goes on, every EVERY_S, and at its end; whole each time, so that a kill at any moment leaves the
last one. Nothing in a product depends on it: a record that can't be read is as if it were not there.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from pydantic import ValidationError

from pipeline import receipts
from pipeline.store import Store
from schemas.errors import ReelmillError
from schemas.work import RUNS_FOLDER, ProductWork, RunRecord, State

RECORD = re.compile(r"run-(\d{6,})\.json$")
EVERY_S = 30.0


def path_of(run: int) -> str:
    return f"{RUNS_FOLDER}/run-{run:06d}.json"


def numbers(store: Store) -> list[int]:
    """Of all runs that left a record, ascending."""
    found = (RECORD.match(name) for name in store.files(RUNS_FOLDER))
    return sorted(int(match[1]) for match in found if match)


def next_number(store: Store) -> int:
    return max(numbers(store), default=0) + 1


def write(store: Store, record: RunRecord) -> None:
    """Put the record in place of an earlier one of the same run. Raises StorageError."""
    text = json.dumps(record.model_dump(mode="json"), sort_keys=True, indent=1, ensure_ascii=False)
    store.put(path_of(record.run), (text + "\n").encode())


def load(store: Store, run: int) -> RunRecord | None:
    """None where there is none, or none that can be read."""
    data = store.read_or_none(path_of(run))
    if data is None:
        return None
    try:
        return RunRecord.model_validate_json(data)
    except ValidationError:
        return None


def records(store: Store) -> list[RunRecord]:
    """Of all runs, the first one first."""
    found = (load(store, run) for run in numbers(store))
    return [record for record in found if record is not None]


def last(store: Store) -> RunRecord | None:
    """Of the last run that left one that can be read."""
    return next((record for run in reversed(numbers(store)) if (record := load(store, run)) is not None), None)


# ---------------------------------------------------------------- what all runs cost together


@dataclass
class Spent:
    """What runs have cost. Of a product, `wall_s` is the sum over the runs that made some of it."""

    runs: int = 0
    wall_s: float = 0.0
    cores_s: float = 0.0
    gpus_s: float = 0.0
    products: dict[str, ProductWork] = field(default_factory=dict)


def spent(records: Iterable[RunRecord], fingerprints: Mapping[str, str] | None = None) -> Spent:
    """Sums over runs; with `fingerprints` (product path -> fingerprint) only work on products as they are now."""
    found = Spent()
    for record in records:
        found.runs += 1
        found.wall_s += record.wall_s
        found.cores_s += record.cores_s
        found.gpus_s += record.gpus_s
        for path, work in record.products.items():
            if fingerprints is not None and fingerprints.get(path) != work.fingerprint:
                continue
            of = found.products.setdefault(path, ProductWork())
            of.add(work)
            for name in ("units", "failed_rows", "given_up", "retries", "wall_s", "held_s", "idle_s"):
                setattr(of, name, getattr(of, name) + getattr(work, name))
    return found


# ---------------------------------------------------------------- while a run goes on


@contextmanager
def recorded(store: Store, record: Callable[[State], RunRecord], *, every_s: float = EVERY_S) -> Iterator[None]:
    """Keep a run's record up to date for the time of the block, and write how it ended.

    `record` makes it, whole, from another thread too. That one can't be written is no reason to stop a run: what it
    has made is what counts, and says so itself where nothing can be written.
    """
    stop = threading.Event()
    state: State = "done"

    def write_now(state: State) -> None:
        with suppress(ReelmillError, OSError):
            write(store, record(state))

    def keep_writing() -> None:
        while not stop.wait(every_s):
            write_now("running")

    write_now("running")
    thread = threading.Thread(target=keep_writing, name="reelmill-record", daemon=True)
    thread.start()
    try:
        yield
    except KeyboardInterrupt:
        state = "interrupted"
        raise
    except BaseException:
        state = "failed"
        raise
    finally:
        stop.set()
        thread.join()
        write_now(state)
        with suppress(ReelmillError, OSError):
            receipts.sweep(store, RUNS_FOLDER)
