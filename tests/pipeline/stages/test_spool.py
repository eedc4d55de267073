"""Samples wait for the end of their video, in memory and on disk."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from pipeline.stages import spool as spool_module
from pipeline.stages.spool import Spool, try_twice
from pipeline.store import Store
from pipeline.video.errors import VideoError
from pipeline.video.wire import Outcome

DONE = Outcome(1, 1, False, "", "")


class Sample:
    def __init__(self, name: str) -> None:
        self.name = name

    def message(self) -> tuple[dict[str, Any], list[bytes]]:
        return {"name": self.name}, [self.name.encode() * 1000, b""]


def samples(names: str, closed: list[str] | None = None) -> Generator[Sample, None, Outcome]:
    try:
        for name in names:
            if name == "!":
                raise VideoError("crashed", "it died")
            yield Sample(name)
        return DONE
    finally:
        if closed is not None:
            closed.append(names)


@pytest.fixture
def store(tmp_path) -> Store:
    (tmp_path / "clips/c/_tmp").mkdir(parents=True)
    return Store(str(tmp_path))


@pytest.mark.parametrize("spool_bytes", [1 << 20, 100])
def test_what_goes_in_comes_out_in_order(store, tmp_path, monkeypatch, spool_bytes) -> None:
    monkeypatch.setattr(spool_module, "SPOOL_BYTES", spool_bytes)
    with Spool(store, "clips/c") as spool:
        assert spool.fill(samples("xyz")) == DONE
        assert spool.num_messages == 3
        for _ in range(2):
            assert list(spool.messages()) == [({"name": n}, [n.encode() * 1000, b""]) for n in "xyz"]
        assert spool.fill(samples("a")) == DONE  # in place of what was there
        assert [header["name"] for header, _ in spool.messages()] == ["a"]
        spool.clear()
        assert (spool.num_messages, list(spool.messages())) == (0, [])
    assert list((tmp_path / "clips/c/_tmp").iterdir()) == []


def test_a_video_that_dies_is_closed(store) -> None:
    closed: list[str] = []
    with Spool(store, "clips/c") as spool:
        with pytest.raises(VideoError):
            spool.fill(samples("xy!", closed))
        assert closed == ["xy!"]
        spool.fill(samples("z"))
        assert [header["name"] for header, _ in spool.messages()] == ["z"]


@pytest.mark.parametrize(
    ("reasons", "tries", "fails"),
    [
        (["crashed"], 2, False),
        (["out_of_memory", "crashed"], 2, True),
        (["stalled"], 1, True),
        ([], 1, False),
    ],
)
def test_only_what_may_come_from_outside_is_tried_again(reasons, tries: int, fails: bool) -> None:
    left, tried = list(reasons), []

    def make() -> Outcome:
        tried.append(True)
        if left:
            raise VideoError(left.pop(0), "")
        return DONE

    if fails:
        with pytest.raises(VideoError) as error:
            try_twice(make)
        assert error.value.reason == reasons[-1]
    else:
        assert try_twice(make) == DONE
    assert len(tried) == tries
