"""One writer at a time, with real processes that are killed and with threads for other machines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from processes import heed_ctrl_c, wait_until

from pipeline import lease
from pipeline.lease import LEASE, Holder, hold, read
from pipeline.process import Process, this_process
from pipeline.store import Store
from schemas.errors import ReelmillError, StorageError

ELSEWHERE = Process("elsewhere", "another-boot pid:[1]", 7, 7)
HOLDING = """\
import sys, time
from pipeline.lease import hold
from pipeline.store import Store
with hold(Store(sys.argv[1]), what="the first"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "data"))


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds become tenths: how long it takes is not what is tested."""
    for name, seconds in {"BEAT_S": 0.2, "TAKEOVER_S": 1.5, "LOOK_S": 0.1, "SETTLE_S": 0.3}.items():
        monkeypatch.setattr(lease, name, seconds)


def leave(store: Store, process: Process, *, token: str = "left") -> Holder:
    """A lease that nobody keeps any more."""
    holder = Holder(token, 5, "the first", "yesterday", process)
    store.put(LEASE, holder.to_json())
    return holder


class Far:
    """A holder on another machine, which beats until it is told to stop."""

    def __init__(self, store: Store) -> None:
        self._store, self._holder, self._stop = store, leave(store, ELSEWHERE), threading.Event()
        self._thread = threading.Thread(target=self._beat)

    def _beat(self) -> None:
        while not self._stop.wait(0.2):
            self._holder = replace(self._holder, beat=self._holder.beat + 1)
            self._store.put(LEASE, self._holder.to_json())

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def other_process(store: Store) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDING, store.uri],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def test_it_says_who_writes_and_leaves_nothing(store: Store) -> None:
    with hold(store, what="reelmill run k.yaml"):
        found = read(store)
        assert found is not None
        assert (found.what, found.process) == ("reelmill run k.yaml", this_process())
    assert read(store) is None
    assert not Path(store.uri).exists()
    Path(store.uri).mkdir()
    with hold(store, what="again"):
        pass
    assert list(Path(store.uri).iterdir()) == []


def test_the_beat_goes_on(store: Store, hasty: None) -> None:
    with hold(store, what="a run"):
        wait_until(lambda: (found := read(store)) is not None and found.beat >= 2)


def test_no_error_stops_the_beat(store: Store, hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(store: Store) -> None:
        monkeypatch.setattr(lease, "read", read)
        raise RuntimeError("can't start new thread")

    with hold(store, what="a run"):
        monkeypatch.setattr(lease, "read", broken)
        wait_until(lambda: lease.read is read)
        beat = holder_of(store).beat
        wait_until(lambda: holder_of(store).beat >= beat + 2)


def holder_of(store: Store) -> Holder:
    found = read(store)
    assert found is not None
    return found


def test_a_second_process_is_told_at_once_who_is_the_first(store: Store) -> None:
    child = other_process(store)
    try:
        with pytest.raises(ReelmillError, match=rf"'the first' writes here since .* \(process {child.pid} on"):
            hold(store, what="the second").__enter__()
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("is_waited_for", [True, False])
def test_of_a_killed_process_it_is_taken_over_at_once(store: Store, is_waited_for: bool) -> None:
    child = other_process(store)
    child.kill()
    if is_waited_for:
        child.wait()
    else:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and a zombie still
    said: list[str] = []
    with hold(store, what="the second", tell=said.append):
        assert said == []
    child.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_gives_it_back(store: Store, number: signal.Signals) -> None:
    child = other_process(store)
    child.send_signal(number)
    child.wait(timeout=60)
    assert read(store) is None


def test_an_error_gives_it_back(store: Store) -> None:
    with pytest.raises(ValueError, match="boom"), hold(store, what="a run"):
        raise ValueError("boom")
    assert read(store) is None


def test_a_living_holder_elsewhere_is_seen_by_its_beat(store: Store, hasty: None) -> None:
    said: list[str] = []
    with Far(store), pytest.raises(ReelmillError, match=r"'the first' writes here since yesterday .* on elsewhere"):
        hold(store, what="the second", tell=said.append).__enter__()
    assert len(said) == 1
    assert "to see whether 'the first' of yesterday on elsewhere still lives" in said[0]


def test_a_silent_holder_elsewhere_is_taken_over(store: Store, hasty: None) -> None:
    leave(store, ELSEWHERE)
    with hold(store, what="the second", tell=lambda sentence: None):
        found = read(store)
        assert found is not None
        assert found.what == "the second"


def test_while_storage_is_away_silence_says_nothing(store: Store, hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder could not write either: the time to wait begins when storage answers again."""
    leave(store, ELSEWHERE)
    original, asked = lease.read, []

    def slow_once(store: Store) -> Holder | None:
        asked.append(time.monotonic())
        if len(asked) == 3:
            time.sleep(2.0)  # longer than TAKEOVER_S
        return original(store)

    monkeypatch.setattr(lease, "read", slow_once)
    with hold(store, what="the second", tell=lambda sentence: None):
        after = [moment for moment in asked if moment > asked[2] + 2.0]
        assert max(after) - min(after) >= 1.0  # it watched on


def test_what_cannot_be_read_is_watched_and_then_taken_over(store: Store, hasty: None) -> None:
    store.put(LEASE, b"{ half")
    said: list[str] = []
    with hold(store, what="the second", tell=said.append):
        assert "unknown host" in said[0]


def test_a_holder_that_was_taken_for_dead_stops(store: Store, hasty: None) -> None:
    """In the middle of what it does, with a sentence; and the lease of the other is left alone."""
    with pytest.raises(ReelmillError, match="'the other' on elsewhere has taken over"), hold(store, what="a run"):
        other = Holder("another", 0, "the other", "now", ELSEWHERE)
        store.put(LEASE, other.to_json())
        time.sleep(60)
    assert read(store) == other


def test_a_lease_that_is_deleted_is_written_anew(store: Store, hasty: None) -> None:
    with hold(store, what="a run"):
        store.delete(LEASE)
        wait_until(lambda: read(store))


def test_one_left_by_this_very_process_is_no_hindrance(store: Store) -> None:
    """Storage was away when it should have been given back."""
    leave(store, this_process())
    with hold(store, what="again"), pytest.raises(ReelmillError, match="writes here"):
        hold(store, what="and at once").__enter__()


def test_ctrl_c_stays_ctrl_c(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), hold(store, what="a run"):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(StorageError, match=r"data/_runs: can't write here"):
        hold(Store(str(tmp_path / "data")), what="a run").__enter__()


def race(store: Store, number: int) -> list[str]:
    """Several take a free lease at the same instant; returns who got it, and kept it."""
    gate, won = threading.Barrier(number), []

    def take(name: str) -> None:
        gate.wait()
        try:
            with hold(Store(store.uri), what=name, tell=lambda sentence: None):
                time.sleep(2.0)
            won.append(name)
        except ReelmillError:
            return

    threads = [threading.Thread(target=take, args=(f"run {n}",)) for n in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


@pytest.mark.parametrize("left_behind", [False, True])
def test_of_many_at_once_one_gets_it(store: Store, hasty: None, left_behind: bool) -> None:
    if left_behind:
        leave(store, replace(this_process(), pid=2**22 + 1))
    assert len(race(store, 8)) == 1


def test_of_many_at_once_on_an_object_store_one_gets_it(
    s3_uri: str, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SETTLE_S", 1.5)  # nothing is atomic here, and a PUT takes its time
    store = Store(s3_uri.format("leased"))
    assert len(race(store, 4)) == 1
    assert read(store) is None
    leave(store, ELSEWHERE)
    with hold(store, what="the second", tell=lambda sentence: None):
        assert json.loads(store.read(LEASE))["process"] == asdict(this_process())
