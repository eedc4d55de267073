"""Reading ahead: in order, within both bounds, and over at once when the consumer leaves."""

from __future__ import annotations

import json
import tarfile
import threading
import time
from io import BytesIO

import numpy as np
import pytest
from feature_dataset import Sample, facts

from pipeline.shards import ShardWriter
from pipeline.stages.clip_stream import SAMPLES_AHEAD, Clip, ClipStream, Members
from pipeline.threads import num_cores
from schemas.errors import ReelmillError


def shard(samples: list[Sample]) -> BytesIO:
    file = BytesIO()
    with ShardWriter(file) as writer:
        for key, members in samples:
            writer.add(key, members)
    file.seek(0)
    return file


def samples(count: int) -> list[Sample]:
    rows = [{**facts("a", index), "num_real_frames": 8} for index in range(count)]
    return [
        (row["clip_id"], {"npy": bytes([index]), "json": json.dumps(row).encode()}) for index, row in enumerate(rows)
    ]


class Decoder:
    """Keeps in mind what it has decoded."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, clip: Clip, members: Members) -> np.ndarray:
        self.seen.append(clip.clip_id)
        if members["npy"] == b"\x02":
            raise ReelmillError("it holds nothing")
        time.sleep(0.002 * (members["npy"][0] % 3))  # the order of the ends is not that of the starts
        return np.frombuffer(members["npy"], np.uint8)

    def settled(self) -> int:
        """How many are decoded when no more come."""
        before = -1
        while before != len(self.seen):
            before = len(self.seen)
            time.sleep(0.5)
        return before


def test_in_order_with_a_sentence_for_what_can_t_be_used() -> None:
    with ClipStream(shard(samples(40)), decode=Decoder(), num_bytes=lambda clip: 1) as stream:
        found = list(stream)
    assert [clip.clip_id for clip, _ in found] == [f"a@{index}" for index in range(40)]
    assert found[2][1] == "clip a@2 can't be used: it holds nothing"
    assert [int(frames[0]) for _, frames in found if not isinstance(frames, str)] == [0, 1, *range(3, 40)]
    assert found[1][0] == Clip("a@1", "a", 1.6, 2.4000000000000004, 3.2, (1,), 8, 24, 32)


def test_no_more_samples_ahead_than_are_allowed() -> None:
    decoder = Decoder()
    with ClipStream(shard(samples(200)), decode=decoder, num_bytes=lambda clip: 1) as stream:
        next(iter(stream))
        assert decoder.settled() <= SAMPLES_AHEAD * num_cores() + 2
        assert decoder.settled() < 200


def test_no_more_bytes_ahead_than_are_allowed() -> None:
    decoder = Decoder()
    with ClipStream(shard(samples(30)), decode=decoder, num_bytes=lambda clip: 10, max_bytes=35) as stream:
        clips = iter(stream)
        next(clips)
        assert decoder.settled() == 3
        next(clips)
        assert decoder.settled() == 4
        assert len([*clips]) == 28


def test_a_sample_that_is_larger_than_all_room_comes_alone() -> None:
    decoder = Decoder()
    with ClipStream(shard(samples(4)), decode=decoder, num_bytes=lambda clip: 100, max_bytes=35) as stream:
        clips = iter(stream)
        next(clips)
        assert decoder.settled() == 1
        assert len([*clips]) == 3


def test_a_consumer_that_leaves_ends_it_all() -> None:
    before = threading.active_count()
    with ClipStream(shard(samples(100)), decode=Decoder(), num_bytes=lambda clip: 10, max_bytes=10) as stream:
        next(iter(stream))
    assert threading.active_count() == before


@pytest.mark.parametrize("missing", ["clip_id", "start_s", "label_ids", "num_real_frames", "height_px"])
def test_a_json_that_lacks_something(missing: str) -> None:
    one = samples(2)
    row = json.loads(one[1][1]["json"])
    del row[missing]
    one[1][1]["json"] = json.dumps(row).encode()
    sentence = f"sample a@1: its json is missing or damaged .*{missing}"
    stream = ClipStream(shard(one), decode=Decoder(), num_bytes=lambda clip: 1)
    with stream, pytest.raises(ReelmillError, match=sentence):
        list(stream)


@pytest.mark.parametrize(
    "wrong", [{"height_px": 0}, {"width_px": -1}, {"num_real_frames": 0}, {"start_s": float("nan")}, {"end_s": -1}]
)
def test_a_json_that_is_of_no_clip(wrong: dict[str, float]) -> None:
    ((key, members),) = samples(1)
    members["json"] = json.dumps({**json.loads(members["json"]), **wrong}).encode()
    stream = ClipStream(shard([(key, members)]), decode=Decoder(), num_bytes=lambda clip: 1)
    with stream, pytest.raises(ReelmillError, match="sample a@0: its json is missing or damaged"):
        list(stream)


def test_fields_lie_between_frames() -> None:
    ((key, members),) = samples(1)
    row = json.loads(members["json"])
    row["num_real_fields"] = row.pop("num_real_frames") - 1
    members["json"] = json.dumps(row).encode()
    with ClipStream(shard([(key, members)]), decode=Decoder(), num_bytes=lambda clip: 1) as stream:
        ((clip, _),) = list(stream)
    assert clip.num_real == 8


def test_what_is_no_shard() -> None:
    file = BytesIO(shard(samples(3)).getvalue()[:700])
    with ClipStream(file, decode=Decoder(), num_bytes=lambda clip: 1) as stream, pytest.raises(tarfile.TarError):
        list(stream)
