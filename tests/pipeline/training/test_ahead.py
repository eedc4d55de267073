"""Reading ahead: batches in order whoever is ready first, an end to it, and shards opened once and all closed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline.store import Store
from pipeline.training import ahead
from pipeline.training.ahead import BATCHES_AHEAD, OpenShards, open_pool, read_ahead
from schemas.errors import StorageError

WAIT_S = 30
LONG = [[at, at + 1] for at in range(0, 30, 2)]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


def test_batches_come_in_order_whoever_is_ready_first(pool: ThreadPoolExecutor) -> None:
    """The first item is read last of the first five; a few batches are asked for meanwhile, not all of them."""
    others, order, asked = threading.Event(), [], []

    def read(key: int) -> str:
        if key == 0:
            assert others.wait(WAIT_S)
        order.append(key)
        if len(order) == 5:
            others.set()
        return f"item {key}"

    def batches() -> Iterator[list[int]]:
        for batch in LONG:
            asked.append(batch)
            yield batch

    came = read_ahead(pool, read, batches())
    assert next(came) == ["item 0", "item 1"]
    assert order.index(0) >= 5
    assert asked == LONG[: BATCHES_AHEAD + 1]
    assert list(came) == [[f"item {key}" for key in batch] for batch in LONG[1:]]
    assert sorted(order) == list(range(30))


@pytest.mark.parametrize("batches", [[], [[1]], [[1, 2], [3]], [[1], [], [2]]])
def test_few_batches(pool: ThreadPoolExecutor, batches: list[list[int]]) -> None:
    assert list(read_ahead(pool, str, batches)) == [[str(key) for key in batch] for batch in batches]


def test_nothing_is_read_before_the_first_batch_is_wanted(pool: ThreadPoolExecutor) -> None:
    read: list[int] = []
    came = read_ahead(pool, read.append, LONG)
    pool.submit(int).result()
    assert not read
    next(came)
    assert read


# ---------------------------------------------------------------- an end to it


def test_who_stops_early_has_nothing_more_read() -> None:
    begun: list[int] = []
    at_the_second, go_on = threading.Event(), threading.Event()

    def read(key: int) -> int:
        begun.append(key)
        if key == 1:
            at_the_second.set()
            assert go_on.wait(WAIT_S)
        return key

    with ThreadPoolExecutor(1) as one_thread:
        came = read_ahead(one_thread, read, ([key] for key in range(9)))
        assert next(came) == [0]
        assert at_the_second.wait(WAIT_S)
        came.close()  # type: ignore[attr-defined]
        go_on.set()
    assert begun == [0, 1]


def test_an_error_comes_in_its_place_and_ends_it() -> None:
    """Batches before it are whole; of its own and of those after it nothing more is begun."""
    begun: list[int] = []
    other = threading.Event()

    def read(key: int) -> int:
        begun.append(key)
        if key == 3:
            other.set()
            raise StorageError("clips/rgb: clip 3 can't be used")
        if key == 2:
            assert other.wait(WAIT_S), "the later one fails first"
            raise StorageError("clips/rgb: clip 2 can't be used")
        return key

    with ThreadPoolExecutor(2) as pool:
        came = read_ahead(pool, read, LONG)
        assert next(came) == [0, 1]
        with pytest.raises(StorageError) as error:
            next(came)
        assert list(came) == []
    assert str(error.value) == "clips/rgb: clip 2 can't be used"
    assert set(begun) <= set(range(2 * (BATCHES_AHEAD + 2)))


def test_an_error_leaves_the_rest_of_its_batch_unread() -> None:
    begun: list[int] = []
    go_on = threading.Event()

    def read(key: int) -> int:
        begun.append(key)
        if key == 0:
            raise StorageError("clips/rgb: clip 0 can't be used")
        assert go_on.wait(WAIT_S)
        return key

    with ThreadPoolExecutor(1) as one_thread:
        with pytest.raises(StorageError, match="clip 0 can't be used"):
            next(read_ahead(one_thread, read, [[0, 1, 2, 3]]))
        go_on.set()
    assert begun in ([0], [0, 1])


def test_batches_that_fail_end_it(pool: ThreadPoolExecutor) -> None:
    def batches() -> Iterator[list[int]]:
        yield [0]
        raise StorageError("no more of them")

    with pytest.raises(StorageError, match="no more of them"):
        list(read_ahead(pool, str, batches()))


def test_there_is_a_thread_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many torch has."""
    monkeypatch.setattr(ahead, "num_cores", lambda: 3)
    meet = threading.Barrier(3)
    with open_pool("clips") as pool:
        names = set(pool.map(lambda _: meet.wait(WAIT_S) >= 0 and threading.current_thread().name, range(3)))
        assert pool._max_workers == 3
    assert names == {"clips_0", "clips_1", "clips_2"}


# ---------------------------------------------------------------- shards


class CountingStore(Store):
    """Knows what it has opened."""

    def __init__(self, root: Path, number: int = 6) -> None:
        super().__init__(str(root))
        self.opened: list[tuple[str, Any]] = []
        for n in range(number):
            (root / f"{n}.tar").write_bytes(b"%d" % n * 8)

    def open(self, relative: str) -> Any:
        file = super().open(relative)
        self.opened.append((relative, file))
        return file

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.opened]

    @property
    def open_now(self) -> list[str]:
        return [name for name, file in self.opened if not file.closed]


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(tmp_path)


def test_a_shard_is_opened_once(store: CountingStore) -> None:
    shards = OpenShards(store)
    for n in (0, 1, 0, 2, 1):
        file = shards.open(f"{n}.tar")
        file.seek(0)
        assert file.read(8) == b"%d" % n * 8
    assert store.names == ["0.tar", "1.tar", "2.tar"]
    shards.close()


def test_those_used_last_stay_open(store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "OPEN_SHARDS", 2)
    shards = OpenShards(store)
    for n in (0, 1, 0, 2):
        shards.open(f"{n}.tar")
    assert store.open_now == ["0.tar", "2.tar"]
    shards.open("0.tar")
    assert store.names == ["0.tar", "1.tar", "2.tar"]
    shards.open("1.tar")
    assert store.open_now == ["0.tar", "1.tar"]
    shards.close()


def test_threads_have_files_of_their_own_and_all_are_closed(store: CountingStore) -> None:
    """A file has one position: two threads in it would read each other's bytes."""
    shards, meet = OpenShards(store), threading.Barrier(3)

    def read(n: int) -> bytes:
        file = shards.open("0.tar")
        file.seek(n)
        meet.wait(WAIT_S)
        assert file.tell() == n
        shards.open(f"{n}.tar")
        return bytes(file.read())

    with ThreadPoolExecutor(3) as pool:
        ((*found,),) = read_ahead(pool, read, [[1, 2, 3]])
    assert [len(data) for data in found] == [7, 6, 5]
    assert sorted(store.names) == ["0.tar"] * 3 + ["1.tar", "2.tar", "3.tar"]
    assert len(store.open_now) == 6, "threads that end leave them to `close`"
    shards.close()
    assert not store.open_now
    shards.close()


def test_a_shard_that_is_gone_is_not_remembered(store: CountingStore, tmp_path: Path) -> None:
    shards = OpenShards(store)
    with pytest.raises(FileNotFoundError, match=r"9\.tar"):
        shards.open("9.tar")
    (tmp_path / "9.tar").write_bytes(b"back")
    assert shards.open("9.tar").read() == b"back"
    shards.close()
    assert not store.open_now
