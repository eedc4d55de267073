"""Pairs and fields of gray clips, with a solver that counts what it is asked."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import pairwise

import numpy as np
import pytest

from pipeline.flow import TVL1Params, tvl1
from pipeline.flow.encode import decode_flow
from pipeline.stages import flow_samples
from pipeline.stages.flow_samples import FlowSample, FlowSampler
from pipeline.video.encode import gray_members
from pipeline.video.errors import VideoError
from pipeline.video.wire import EncodedClip, Outcome
from schemas.config import Clips, Flow

SIZE = (16, 24)
FLOW = Flow(clips="c", encoding="npy", bound=100)
DONE = Outcome(0, 0, False, "", "")


class Solver:
    """The 'flow' of a pair holds the levels of its two frames."""

    def __init__(self) -> None:
        self.pairs: list[tuple[int, int]] = []
        self.most = 0

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        levels = frames[:, 0, 0].astype(int).tolist()
        self.pairs += pairwise(levels)
        self.most = max(self.most, len(levels) - 1)
        values = np.array(list(pairwise(levels)), np.float32)
        return np.broadcast_to(values[:, None, None, :], (len(values), *SIZE, 2)).copy()


def clip(levels: Sequence[int], *, start_s: float = 0.0, size: tuple[int, int] = SIZE) -> EncodedClip:
    """A clip whose real frames have these levels, each with its own timestamp: level / 100."""
    pictures = {level: np.full(size, level, np.uint8) for level in levels}
    return EncodedClip(
        clip_id=f"v@{start_s}",
        start_s=start_s,
        end_s=start_s + 1,
        label_ids=(1,),
        frame_pts_s=tuple(level / 100 for level in levels),
        num_real_frames=len(levels),
        height_px=size[0],
        width_px=size[1],
        members=gray_members([pictures[level] for level in levels]),
    )


def made(
    clips: Sequence[EncodedClip], solver: Solver, *, frames: int = 4, tail: str = "pad", fields: str = "T"
) -> list[FlowSample]:
    sampler = FlowSampler(
        FLOW.model_copy(update={"fields": fields}), Clips(frames=frames, fps=4, tail=tail), solve=solver
    )

    def given() -> Generator[EncodedClip, None, Outcome]:
        yield from clips
        return DONE

    def samples() -> Generator[FlowSample, None, None]:
        assert (yield from sampler.samples("v", given(), expected=[clip.clip_id for clip in clips])) == DONE

    return list(samples())


def pairs_of(sample: FlowSample) -> list[tuple[int, int]]:
    flow = decode_flow(sample.members, FLOW)
    return [(int(field[0, 0, 0]), int(field[0, 0, 1])) for field in flow]


def test_fields_in_order() -> None:
    (sample,) = made([clip([1, 2, 3, 4, 5])], Solver())
    assert pairs_of(sample) == [(1, 2), (2, 3), (3, 4), (4, 5)]
    assert sample.index_row["from_pts_s"] == [0.01, 0.02, 0.03, 0.04]
    assert sample.index_row["to_pts_s"] == [0.02, 0.03, 0.04, 0.05]
    assert sample.index_row["num_real_fields"] == 4
    assert sample.index_row["max_abs_px"] == 5


@pytest.mark.parametrize(
    ("tail", "fields", "expected"),
    [
        ("pad", "T", [(1, 2), (2, 3), (0, 0), (0, 0)]),
        ("loop", "T", [(1, 2), (2, 3), (0, 0), (1, 2)]),
        ("pad", "T-1", [(1, 2), (2, 3), (0, 0)]),
        ("loop", "T-1", [(1, 2), (2, 3), (0, 0)]),
    ],
)
def test_after_the_end(tail, fields, expected) -> None:
    (sample,) = made([clip([1, 2, 3])], Solver(), tail=tail, fields=fields)
    assert pairs_of(sample) == expected
    assert sample.index_row["num_real_fields"] == 2


def test_a_frame_that_stays_is_zero_flow_and_is_not_solved() -> None:
    solver = Solver()
    (sample,) = made([clip([1, 1, 2, 2, 2])], solver)
    assert pairs_of(sample) == [(0, 0), (1, 2), (0, 0), (0, 0)]
    assert solver.pairs == [(1, 2)]
    assert sample.index_row["num_real_fields"] == 4
    assert (sample.index_row["from_pts_s"][0], sample.index_row["to_pts_s"][0]) == (0.01, 0.01)


def test_tvl1_of_a_frame_and_itself_is_zero() -> None:
    """What is not solved is what would have come out."""
    frame = np.random.default_rng(0).integers(0, 256, (20, 30)).astype(np.uint8)
    assert not tvl1(frame, frame, params=TVL1Params(), backend="opencv").any()


def test_pairs_that_clips_share_are_solved_once() -> None:
    solver = Solver()
    clips = [clip(range(start, start + 5), start_s=start) for start in (1, 3, 5, 20)]
    samples = made(clips, solver)
    assert [pairs_of(sample)[0] for sample in samples] == [(1, 2), (3, 4), (5, 6), (20, 21)]
    assert [pairs_of(sample)[-1] for sample in samples] == [(4, 5), (6, 7), (8, 9), (23, 24)]
    assert len(solver.pairs) == len(set(solver.pairs)) == 8 + 4
    alone = [made([one], Solver())[0] for one in clips]
    assert [sample.message() for sample in samples] == [sample.message() for sample in alone]


def test_memory_is_bounded_by_what_overlaps() -> None:
    sampler = FlowSampler(FLOW, Clips(frames=4, fps=4), solve=Solver())

    def given() -> Generator[EncodedClip, None, Outcome]:
        for start in range(1, 100, 2):
            yield clip(range(start, start + 5), start_s=start)
            assert len(sampler._known) <= 4
        return DONE

    for _ in sampler.samples("v", given(), expected=[f"v@{start}" for start in range(1, 100, 2)]):
        pass


def test_a_second_video_shares_nothing_with_the_first() -> None:
    solver = Solver()
    sampler = FlowSampler(FLOW, Clips(frames=4, fps=4), solve=solver)

    def given() -> Generator[EncodedClip, None, Outcome]:
        yield clip([1, 2, 3, 4, 5])
        return DONE

    for video_id in "vw":
        (sample,) = sampler.samples(video_id, given(), expected=["v@0.0"])
        assert sample.index_row["video_id"] == video_id
    assert len(solver.pairs) == 8


def test_large_frames_are_solved_in_parts(monkeypatch) -> None:
    whole, parts = Solver(), Solver()
    (expected,) = made([clip(range(1, 10))], whole, frames=8)
    monkeypatch.setattr(flow_samples, "FLOW_BYTES", 3 * 8 * SIZE[0] * SIZE[1])
    (sample,) = made([clip(range(1, 10))], parts, frames=8)
    assert (whole.most, parts.most) == (8, 3)
    assert sample == expected
    monkeypatch.setattr(flow_samples, "FLOW_BYTES", 1)  # one pair at least
    assert made([clip(range(1, 10))], parts, frames=8) == [expected]


def test_clips_of_one_frame_are_counted() -> None:
    sampler = FlowSampler(FLOW, Clips(frames=4, fps=4), solve=Solver())

    def given() -> Generator[EncodedClip, None, Outcome]:
        yield clip([1, 2, 3, 4, 5])
        yield clip([9], start_s=2)
        return DONE

    assert len(list(sampler.samples("v", given(), expected=["v@0.0", "v@2"]))) == 1
    assert sampler.num_short == 1


@pytest.mark.parametrize("expected", [[], ["other"], ["v@0.0", "v@1.0"]])
def test_other_clips_than_expected(expected) -> None:
    sampler, closed = FlowSampler(FLOW, Clips(frames=4, fps=4), solve=Solver()), []

    def given() -> Generator[EncodedClip, None, Outcome]:
        try:
            yield clip([1, 2, 3, 4, 5])
            return DONE
        finally:
            closed.append(True)

    with pytest.raises(VideoError) as error:
        list(sampler.samples("v", given(), expected=expected))
    assert error.value.reason == "clips_differ"
    assert closed, "a decoder that is left half-way blocks the next video"


@pytest.mark.parametrize(
    ("lost", "reason"), [("decode_errors", ""), ("", "decode_errors"), ("segments_outside", "truncated")]
)
def test_damage_may_make_windows_come_and_go(lost, reason) -> None:
    """Other frames were looked at for the clips, so other windows may have been cut by the damage."""
    sampler = FlowSampler(FLOW, Clips(frames=4, fps=4), solve=Solver())

    def given() -> Generator[EncodedClip, None, Outcome]:
        yield clip([1, 2, 3, 4, 5])
        yield clip([6, 7, 8], start_s=1)
        return Outcome(0, 0, bool(reason), reason, "")

    samples = list(sampler.samples("v", given(), expected={"v@0.0", "v@2"}, lost=lost))
    assert [sample.index_row["clip_id"] for sample in samples] == ["v@0.0"]


def test_segments_outside_the_video_are_no_damage() -> None:
    def given() -> Generator[EncodedClip, None, Outcome]:
        yield clip([1, 2, 3, 4, 5])
        return Outcome(0, 0, True, "segments_outside", "")

    sampler = FlowSampler(FLOW, Clips(frames=4, fps=4), solve=Solver())
    with pytest.raises(VideoError, match="the file changed"):
        list(sampler.samples("v", given(), expected={"v@0.0", "v@2"}, lost="segments_outside"))


def test_frames_too_small_for_tvl1() -> None:
    with pytest.raises(VideoError, match="12 x 40") as error:
        made([clip([1, 2], size=(12, 40))], Solver())
    assert error.value.reason == "too_small"


def test_a_sample_through_a_spool() -> None:
    (sample,) = made([clip([1, 2, 3, 4, 5])], Solver())
    header, blobs = sample.message()
    assert FlowSample.from_message(header, blobs) == sample


@pytest.mark.parametrize(
    ("missing", "most", "runs"),
    [
        ([], 3, []),
        ([True], 3, [(0, 1)]),
        ([True, True, False, True], 3, [(0, 2), (3, 4)]),
        ([True] * 7, 3, [(0, 3), (3, 6), (6, 7)]),
        ([False, False], 1, []),
    ],
)
def test_runs(missing, most, runs) -> None:
    assert list(flow_samples._runs(missing, most)) == runs
