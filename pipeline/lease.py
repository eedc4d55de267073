"""One writer at a time on a dataset.

    with hold(store, what="reelmill run k400.yaml"):
        ...                                            # another `hold` of this dataset raises, or waits and raises

`_runs/lease.json` says who writes. Its holder raises a counter in it every few seconds. Whoever finds a lease looks
first whether its process is gone, which can be told on the same machine, and takes over at once. Where it can't be
told, it watches whether the counter moves: by its own clock, so that no two machines' clocks are compared.

Two writers at once would not do harm, only work twice: all that writes to a dataset puts files in place whole, with
the same bytes. So a lease need not be proof against every pause of a machine; a holder that was taken for dead notices
with its next beat, and stops.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pipeline import receipts
from pipeline.process import Process, fate, this_process
from pipeline.say import say
from pipeline.store import Store, shown
from schemas.errors import ReelmillError, StorageError
from schemas.work import RUNS_FOLDER

LEASE = f"{RUNS_FOLDER}/lease.json"
BEAT_S = 4.0
LAST_BEAT_S = 5.0  # how long one that is under way at the end is waited for, before the lease is given back
TAKEOVER_S = 20.0  # a lease whose beat stands still for so long is nobody's
SETTLE_S = 2.0  # where a lease can't be taken atomically: two that take it at once have both written it by then
LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Holder:
    """What the lease says."""

    token: str
    beat: int
    what: str  # the command
    since: str  # on its machine's clock; for people only
    process: Process

    def to_json(self) -> bytes:
        return (json.dumps(asdict(self), indent=1, sort_keys=True) + "\n").encode()


def read(store: Store) -> Holder | None:
    """Who holds a dataset, or None. A lease that can't be read counts as held by someone unknown."""
    data = store.read_or_none(LEASE)
    if data is None:
        return None
    try:
        fields = json.loads(data)
        return Holder(**{**fields, "process": Process(**fields["process"])})
    except (ValueError, TypeError, KeyError):
        return Holder(f"unreadable {hash(data)}", 0, "something", "", Process("an unknown host", "", 0, 0))


@contextlib.contextmanager
def hold(store: Store, *, what: str, tell: Callable[[str], None] = say) -> Iterator[None]:
    """Be the one writer of a dataset for the time of the block; `what` is the command, for others to read.

    Raises ReelmillError where another holds it, and in mid-block (in the main thread) where another has taken over.
    SIGTERM ends the block as Ctrl-C does, so that the lease is given back.
    """
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler) if is_main else None
    is_new = store.is_local and not Path(store.path("")).exists()
    now = datetime.now(UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    ours = Holder(secrets.token_hex(8), 0, what, now, this_process())
    _own_tokens.add(ours.token)
    try:
        _acquire(store, ours, tell)
        heart = _Heart(store, ours, interrupts=is_main)
        try:
            yield
        except BaseException:
            if heart.lost:
                raise ReelmillError(heart.lost) from None
            raise
        finally:
            heart.stop()
        if heart.lost:
            raise ReelmillError(heart.lost)
    finally:
        _own_tokens.discard(ours.token)
        if is_new:  # and nothing came of it: bad usage leaves nothing
            with contextlib.suppress(OSError):
                Path(store.path("")).rmdir()
        if is_main:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


# ---------------------------------------------------------------- taking it

_own_tokens: set[str] = set()  # of this process


def _acquire(store: Store, ours: Holder, tell: Callable[[str], None]) -> None:
    """Take the lease. Raises ReelmillError where it is held by one who lives."""
    dead: Holder | None = None
    while True:
        with _alone(store) as is_atomic:
            found = read(store)
            if found is None or found == dead or _is_gone(found):
                store.put(LEASE, ours.to_json())
                found = None
        if found is None:
            if not is_atomic:
                time.sleep(SETTLE_S)
                if read(store) != ours:
                    continue  # another was faster by a moment
            receipts.sweep(store, RUNS_FOLDER)  # what killed runs left there
            return
        if fate(found.process) == "alive":
            raise ReelmillError(_held_by(store, found))
        _watch(store, found, tell)
        dead = found


@contextlib.contextmanager
def _alone(store: Store) -> Iterator[bool]:
    """Nobody else on this file system is inside this block meanwhile; gives False where there is no such lock."""
    if not store.is_local:
        yield False
        return
    folder = Path(store.path(RUNS_FOLDER))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise StorageError(f"{folder}: can't write here ({(error.strerror or str(error)).lower()})") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            is_locked = True
        except OSError:  # network file systems lock files, not folders
            is_locked = False
        yield is_locked
    finally:
        os.close(descriptor)


def _is_gone(holder: Holder) -> bool:
    ends_with_us = holder.process == this_process() and holder.token not in _own_tokens  # it could not be given back
    return ends_with_us or fate(holder.process) == "gone"


def _watch(store: Store, holder: Holder, tell: Callable[[str], None]) -> None:
    """Wait until a holder's beat has stood still for TAKEOVER_S. Raises ReelmillError when it moves."""
    tell(
        f"waiting up to {TAKEOVER_S:.0f} s to see whether {holder.what!r} of {holder.since} on {holder.process.host} "
        "still lives: it holds this dataset"
    )
    began_s = time.monotonic()
    while time.monotonic() - began_s < TAKEOVER_S:
        time.sleep(LOOK_S)
        asked_s = time.monotonic()
        found = read(store)
        if time.monotonic() - asked_s > BEAT_S:
            began_s = time.monotonic()  # storage was away: for the holder, too, so its silence says nothing
        if found is None:
            return
        if found != holder:
            raise ReelmillError(_held_by(store, found))


def _held_by(store: Store, holder: Holder) -> str:
    process = holder.process
    return (
        f"{shown(store.uri)}: {holder.what!r} writes here since {holder.since} "
        f"(process {process.pid} on {process.host}); "
        "wait until it has ended or stop it there, then run the same command again"
    )


# ---------------------------------------------------------------- keeping it


class _Heart:
    """Beats until it is stopped, and looks each time whether the lease is still ours."""

    def __init__(self, store: Store, holder: Holder, *, interrupts: bool) -> None:
        self.lost = ""  # or the sentence that says who has it now
        self._store, self._holder, self._interrupts = store, holder, interrupts
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="reelmill-lease", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_S):
            # storage is away, or anything else: the next beat may get through, and without one we are taken for dead
            with contextlib.suppress(Exception):
                found = read(self._store)
                if found is not None and found.token != self._holder.token:
                    self._lose(found)
                    return
                self._holder = replace(self._holder, beat=self._holder.beat + 1)
                self._store.put(LEASE, self._holder.to_json())

    def _lose(self, other: Holder) -> None:
        self.lost = (
            f"{shown(self._store.uri)}: this run was silent for so long that {other.what!r} on {other.process.host} "
            "has taken over; it goes on with the work, so there is nothing to do here"
        )
        if self._interrupts and not self._stop.is_set():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)  # wakes it, whatever it waits for

    def stop(self) -> None:
        """Stop beating and give the lease back, if it is still ours."""
        self._stop.set()
        self._thread.join(LAST_BEAT_S)
        if self._thread.is_alive():  # it hangs in a storage that is away; our end will be seen, or our silence
            return
        with contextlib.suppress(OSError, ReelmillError):
            found = read(self._store)
            if found is not None and found.token == self._holder.token:
                self._store.delete(LEASE)
                receipts.sweep(self._store, RUNS_FOLDER)
                if self._store.is_local:
                    Path(self._store.path(RUNS_FOLDER)).rmdir()  # where nothing else is in it
