"""What runs leave behind about themselves: `_runs/run-000001.json`, one for each run that made something.

Written while a run goes on, every EVERY_S, and at its end; whole each time, so that a kill at any moment leaves the
last one. Nothing in a product depends on it: a record that can't be read is as if it were not there.

The last KEPT stay. Older ones are summed into `_runs/earlier.json` and deleted, so that looking at a dataset of a
thousand runs costs what one of a hundred does, and totals stay what they were.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from pipeline import receipts
from pipeline.store import Store
from schemas.errors import ReelmillError
from schemas.work import RUNS_FOLDER, ProductWork, RunRecord, State

RECORD = re.compile(r"run-(\d{6,})\.json$")
EVERY_S = 30.0
KEPT = 100  # records of runs, of each its own; on a bucket, reading one is a request
EARLIER = f"{RUNS_FOLDER}/earlier.json"
_Sums = TypeAdapter(list[RunRecord])


def path_of(run: int) -> str:
    return f"{RUNS_FOLDER}/run-{run:06d}.json"


def numbers(store: Store) -> list[int]:
    """Of all runs that left a record, ascending."""
    found = (RECORD.match(name) for name in store.files(RUNS_FOLDER))
    return sorted(int(match[1]) for match in found if match)


def next_number(store: Store) -> int:
    """One more than the last; also where all but the sums of earlier ones were deleted."""
    return max(numbers(store) or (_last_of(_earlier(store)),)) + 1


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
    """Of all runs, the first one first; of those before the last KEPT the sums (`RunRecord.runs` says of how many)."""
    found = [record for run in numbers(store) if (record := load(store, run)) is not None]
    # afterwards: what is summed up and deleted meanwhile is in here
    earlier = _earlier(store)
    return [*earlier, *(record for record in found if record.run > _last_of(earlier))]


def last(records: Sequence[RunRecord]) -> RunRecord | None:
    """Of the last run that left one that can be read; sums of earlier ones are no run."""
    return next((record for record in reversed(records) if record.runs == 1), None)


# ---------------------------------------------------------------- the earlier ones


def prune(store: Store, *, kept: int = KEPT) -> None:
    """Sum up all records but the last `kept`. For the dataset's one writer: a kill at any moment loses none and counts
    none twice, for what the sums say to hold is not looked for elsewhere. Raises StorageError."""
    old = numbers(store)[:-kept]
    if not old:
        return
    sums = _earlier(store)
    last = _last_of(sums)
    for run in old:
        record = load(store, run) if run > last else None
        if record is not None:
            _sum_up(sums, record)
    if _last_of(sums) > last:
        store.put(EARLIER, _Sums.dump_json(sums, indent=1) + b"\n")
    for run in old:
        store.delete(path_of(run))


def _sum_up(sums: list[RunRecord], record: RunRecord) -> None:
    """Add a run to the first sum that has its products by the same fingerprints, or none of them: work on products as
    they are now is told from work on what they were."""
    of = next((each for each in sums if _agree(each, record)), None)
    if of is None:
        of = record.model_copy(update={"runs": 0, "wall_s": 0.0, "cores_s": 0.0, "gpus_s": 0.0, "units_pending": 0})
        of.products, of.nodes, of.versions, of.config_sha256 = {}, (), {}, ""
        sums.append(of)
    of.run = record.run
    of.runs += record.runs
    for name in ("wall_s", "cores_s", "gpus_s"):
        setattr(of, name, getattr(of, name) + getattr(record, name))
    for path, work in record.products.items():
        of.products.setdefault(path, ProductWork(fingerprint=work.fingerprint)).add(work)


def _agree(one: RunRecord, other: RunRecord) -> bool:
    return all(
        one.products[path].fingerprint == work.fingerprint
        for path, work in other.products.items()
        if path in one.products
    )


def _earlier(store: Store) -> list[RunRecord]:
    data = store.read_or_none(EARLIER)
    if data is None:
        return []
    try:
        return _Sums.validate_json(data)
    except ValidationError:
        return []


def _last_of(sums: Iterable[RunRecord]) -> int:
    """The last run that they hold, and with it all before."""
    return max((each.run for each in sums), default=0)


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
        found.runs += record.runs
        found.wall_s += record.wall_s
        found.cores_s += record.cores_s
        found.gpus_s += record.gpus_s
        for path, work in record.products.items():
            if fingerprints is not None and fingerprints.get(path) != work.fingerprint:
                continue
            found.products.setdefault(path, ProductWork()).add(work)
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
            prune(store)
        with suppress(ReelmillError, OSError):
            receipts.sweep(store, RUNS_FOLDER)
