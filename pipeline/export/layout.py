"""Which folder the pictures of each clip go to, and under which numbers.

per clip    a folder a clip, with all that its sample holds
per video   a folder a video, its clips one after the other; what fills a clip up after the video's end is left out,
            so that N frames have N - 1 fields, as denseflow's have
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, Literal, get_args

from schemas.config import Clips, Flow

Per = Literal["video", "clip"]
PERS: tuple[Per, ...] = get_args(Per)
COLUMNS = ["clip_id", "video_id", "start_s", "end_s", "label_ids", "num_real_fields"]


@dataclass(frozen=True, slots=True)
class ClipRow:
    """The COLUMNS of schemas.flow."""

    clip_id: str
    video_id: str
    start_s: float
    end_s: float
    label_ids: tuple[int, ...]
    num_real_fields: int

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> ClipRow:
        return cls(**{**row, "label_ids": tuple(row["label_ids"])})


@dataclass(frozen=True, slots=True)
class Part:
    """The pictures of one clip in a folder: its first `num_fields` fields and its first `num_frames` frames."""

    clip_id: str
    first: int  # the number of the first of them, counted from 0
    num_fields: int
    num_frames: int


@dataclass(frozen=True, slots=True)
class Folder:
    name: str
    video_id: str
    label_ids: tuple[int, ...]
    parts: tuple[Part, ...]

    @property
    def num_fields(self) -> int:
        return sum(part.num_fields for part in self.parts)

    @property
    def num_frames(self) -> int:
        return sum(part.num_frames for part in self.parts)


class Layout:
    """The folders of a flow product, with its clips' frames or without."""

    def __init__(self, flow: Flow, clips: Clips, *, per: Per, frames: bool) -> None:
        self.per = per
        self._num_fields = flow.num_fields(clips)
        self._num_frames = clips.frames if frames else 0

    def folders(self, rows: Iterable[ClipRow]) -> Iterator[Folder]:
        """The folders of a unit's rows, which come in the index's order."""
        if self.per == "clip":
            for row in rows:
                part = Part(row.clip_id, 0, self._num_fields, self._num_frames)
                yield Folder(row.clip_id, row.video_id, row.label_ids, (part,))
            return
        for clips in by_video(rows):
            parts, first = [], 0
            for clip in clips:
                num_frames = min(self._num_frames, clip.num_real_fields + 1)
                parts.append(Part(clip.clip_id, first, clip.num_real_fields, num_frames))
                first += clip.num_real_fields  # but for a video's last clip there are as many frames
            yield Folder(clips[0].video_id, clips[0].video_id, clips[0].label_ids, tuple(parts))


def by_video(rows: Iterable[ClipRow]) -> Iterator[list[ClipRow]]:
    """The clips of each video, in time order."""
    for _, clips in groupby(rows, key=lambda row: row.video_id):
        yield sorted(clips, key=lambda row: row.start_s)


def why_not_one_folder(clips: Sequence[ClipRow], *, num_frames: int) -> str | None:
    """What keeps the clips of one video, in time order, from being one folder; None where nothing does.

    `num_frames` is how many a whole clip has, at the flow's rate: so many fields lead to the first frame of the next.
    """
    for before, after in pairwise(clips):
        space_us = round(after.start_s * 1e6) - round(before.end_s * 1e6)
        if space_us:
            return f"the clips of {before.video_id} {'overlap' if space_us < 0 else 'leave gaps'}"
        if before.num_real_fields != num_frames:
            return f"between the clips of {before.video_id} a field is not stored"
        if before.label_ids != after.label_ids:
            return f"the clips of {before.video_id} have different labels"
    return None
