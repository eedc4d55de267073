"""A clip's gray frames to its flow sample: pairs of frames to fields, fields to members.

Clips that overlap share pairs of source frames. A pair is computed once: its field is kept, as it is stored, until no
later clip of the video can hold it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, cast

import numpy as np

from pipeline.flow.encode import StoredField, clip_members, encode_field
from pipeline.video.encode import gray_frames
from pipeline.video.errors import VideoError
from pipeline.video.sample import Grid
from pipeline.video.wire import EncodedClip, Outcome
from schemas.config import MIN_FLOW_SIDE_PX, Clips, Flow

FLOW_BYTES = 128 << 20  # float32 fields that are held before they are stored; always one at least

NO_DAMAGE = {"", "segments_outside"}  # reasons of a video's outcome for which windows do not come and go

Solve = Callable[[np.ndarray], np.ndarray]  # (T,H,W) uint8 gray -> (T-1,H,W,2) float32 px
Pair = tuple[float, float]  # source timestamps, in seconds, of the two frames of a field


@dataclass(frozen=True, slots=True)
class FlowSample:
    """One sample of a flow shard."""

    index_row: dict[str, Any]  # schemas.flow.FLOW_INDEX_SCHEMA
    members: dict[str, bytes]  # "x.000.jpg", "y.000.jpg" … or "npy"

    def message(self) -> tuple[dict[str, Any], list[bytes]]:
        """(header, blobs), for a spool."""
        return {"index_row": self.index_row, "members": list(self.members)}, list(self.members.values())

    @classmethod
    def from_message(cls, header: dict[str, Any], blobs: Sequence[bytes]) -> FlowSample:
        return cls(header["index_row"], dict(zip(header["members"], blobs, strict=True)))


class FlowSampler:
    """Turns the gray clips of videos, one video at a time, into flow samples.

    `grid` is the one to ask of the decoder; `num_short` counts the clips of the last video that gave no sample because
    they hold fewer than two frames.
    """

    def __init__(self, flow: Flow, clips: Clips, *, solve: Solve) -> None:
        self.grid = Grid(flow.rate_fps(clips), flow.num_fields(clips) + 1)
        self.num_short = 0
        self._flow, self._loops, self._solve = flow, clips.tail == "loop", solve
        self._known: dict[Pair, StoredField] = {}
        self._stills: dict[tuple[int, int], StoredField] = {}  # the zero field of the last size

    def samples(
        self,
        video_id: str,
        clips: Generator[EncodedClip, None, Outcome],
        *,
        expected: Collection[str],
        lost: str = "",
    ) -> Generator[FlowSample, None, Outcome]:
        """The samples of one video, in order; returns what `clips` returns.

        `expected` are the ids of its clips, `lost` is the reason for which something of the video was lost when they
        were made. Raises VideoError as `clips` does, "too_small" for frames that TV-L1 does not take, and at the end
        "clips_differ" where the ids differ and the video is not damaged. Where it is, a window may be a clip or not by
        which frames were looked at: one that is no clip, or has no frame here, gives no sample.
        """
        self.num_short = num_found = num_others = 0
        self._known = {}
        with closing(clips):
            while True:
                try:
                    clip = next(clips)
                except StopIteration as stop:
                    outcome = cast(Outcome, stop.value)
                    break
                if clip.clip_id not in expected:
                    num_others += 1
                    continue
                num_found += 1
                _check_size(clip.height_px, clip.width_px)
                if len(clip.frame_pts_s) < 2:
                    self.num_short += 1
                else:
                    yield self._sample(video_id, clip)
        if (num_others or num_found < len(expected)) and not {lost, outcome.reason} - NO_DAMAGE:
            raise VideoError(
                "clips_differ",
                "its windows are not those of the clips any more: the file changed after they were made; run "
                "`reelmill index`, then the same command again",
            )
        return outcome

    def _sample(self, video_id: str, clip: EncodedClip) -> FlowSample:
        pairs = [(clip.frame_pts_s[a], clip.frame_pts_s[b]) for a, b in self._places(len(clip.frame_pts_s))]
        self._make_missing(clip, pairs)
        fields = [self._known[pair] for pair in pairs]
        num_real = len(clip.frame_pts_s) - 1
        real = fields[:num_real]
        row = {
            "clip_id": clip.clip_id,
            "video_id": video_id,
            "start_s": clip.start_s,
            "center_s": (clip.start_s + clip.end_s) / 2,
            "end_s": clip.end_s,
            "label_ids": list(clip.label_ids),
            "fps": self.grid.fps,
            "from_pts_s": [pair[0] for pair in pairs],
            "to_pts_s": [pair[1] for pair in pairs],
            "num_real_fields": num_real,
            "height_px": clip.height_px,
            "width_px": clip.width_px,
            "bound_px": self._flow.bound,
            "saturated": math.fsum(field.saturated for field in real) / num_real,
            "rmse_px": math.sqrt(math.fsum(field.mean_square_px for field in real) / num_real),
            "max_abs_px": max(field.max_abs_px for field in real),
        }
        members = clip_members(fields, self._flow, height=clip.height_px, width=clip.width_px)
        return FlowSample(row, members)

    def _places(self, num_frames: int) -> Iterator[tuple[int, int]]:
        """For each field the grid times of its two frames, of which `num_frames` are real."""
        last = num_frames - 1
        for k in range(self.grid.num_times - 1):
            first = k % num_frames if self._loops else min(k, last)
            yield first, min(first + 1, last)  # from the last frame to itself: the video is over

    def _make_missing(self, clip: EncodedClip, pairs: Sequence[Pair]) -> None:
        """Make `_known` hold the pairs of a clip, and let go of those that no later clip can hold."""
        first_s, shape = clip.frame_pts_s[0], (clip.height_px, clip.width_px)
        # clips come in order of start: a pair that begins before this one's first frame never comes again
        self._known = {pair: field for pair, field in self._known.items() if pair[0] >= first_s}
        for pair in pairs:
            if pair[0] == pair[1]:  # TV-L1 of a frame and itself is exactly zero, too
                self._known[pair] = self._still(shape)
        by_place = gray_frames(clip.members, height=clip.height_px, width=clip.width_px)
        frames = {clip.frame_pts_s[place]: frame for place, frame in by_place.items()}  # by timestamp, ascending
        times = list(frames)
        missing = [pair not in self._known for pair in pairwise(times)]
        for first, last in _runs(missing, max(1, FLOW_BYTES // (8 * shape[0] * shape[1]))):
            run = times[first : last + 1]
            fields = self._solve(np.stack([frames[time_s] for time_s in run]))
            for pair, field in zip(pairwise(run), fields, strict=True):
                self._known[pair] = encode_field(field, self._flow)

    def _still(self, shape: tuple[int, int]) -> StoredField:
        if shape not in self._stills:
            self._stills = {shape: encode_field(np.zeros((*shape, 2), np.float32), self._flow)}
        return self._stills[shape]


def _runs(missing: Sequence[bool], most: int) -> Iterator[tuple[int, int]]:
    """(first, last) frames of each run of at most `most` missing pairs; pair i is frames i and i + 1.

    >>> list(_runs([True, True, True, False, True], 2))
    [(0, 2), (2, 3), (4, 5)]
    """
    for is_missing, places in groupby(range(len(missing)), key=missing.__getitem__):
        run = list(places)
        if is_missing:
            for start in range(run[0], run[-1] + 1, most):
                yield start, min(start + most, run[-1] + 1)


def _check_size(height: int, width: int) -> None:
    if min(height, width) < MIN_FLOW_SIDE_PX:
        raise VideoError(
            "too_small",
            f"its frames are {height} x {width} px (height x width) and TV-L1 takes {MIN_FLOW_SIDE_PX} px a side or "
            "more; set resize or short_side",
        )
