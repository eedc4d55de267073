"""Which rows of a unit count: a video's rows wait until all of its clips are through, for a problem leaves none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from pipeline.stages.clip_stream import Clip
from pipeline.stages.spool import Spool
from schemas.errors import ReelmillError


@dataclass(frozen=True, slots=True)
class Row:
    """One row: a view of a window of a clip."""

    clip_id: str
    video_id: str
    view: str
    start_s: float  # of the window: half-open, on the source's clock
    center_s: float
    end_s: float
    label_ids: tuple[int, ...]
    first_frame: int  # of the window, in the stored clip
    num_frames: int
    crop_px: tuple[int, int, int, int]  # top, left, height, width of the view
    frame_px: tuple[int, int]  # height, width of the frames it was cut from


@dataclass(frozen=True, slots=True)
class _Waiting:
    row: Row
    values: np.ndarray

    def message(self) -> tuple[dict[str, Any], list[bytes]]:
        header = {"row": asdict(self.row), "shape": self.values.shape, "dtype": str(self.values.dtype)}
        return header, [self.values.tobytes()]

    @classmethod
    def from_message(cls, header: dict[str, Any], blobs: Sequence[bytes]) -> _Waiting:
        row: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in header["row"].items()
        }
        return cls(Row(**row), np.frombuffer(blobs[0], header["dtype"]).reshape(header["shape"]))


class RowWriter(Protocol):
    """Writes rows of videos that are whole: vectors to Parquet, or maps to a tar."""

    def write(self, row: Row, values: np.ndarray) -> None: ...


class FeatureRows:
    """Takes the clips of one unit in shard order, each followed by its rows; hands on those of whole videos.

    `expected` maps each video_id to its number of clips; `problems`, once finished, holds a sentence for each video
    whose clips could not all be used.
    """

    def __init__(self, writer: RowWriter, spool: Spool, *, expected: Mapping[str, int]) -> None:
        self._writer, self._spool = writer, spool
        self._unseen = dict(expected)
        self._video_id: str | None = None  # of the video that is being read
        self._num_clips = 0
        self.num_rows: Counter[str] = Counter()  # of each video
        self.problems: dict[str, str] = {}

    def clip(self, clip: Clip, problem: str = "") -> None:
        """The next clip, or the sentence that says why it can't be used.

        Raises ReelmillError where its video is not expected, or not expected any more.
        """
        if clip.video_id != self._video_id:
            self._finish_video()
            if clip.video_id not in self._unseen:
                raise ReelmillError(f"clip {clip.clip_id} is of a video that the ledger of its product doesn't count")
            self._video_id = clip.video_id
        self._num_clips += 1
        if problem:
            self.fail(clip.video_id, problem)

    def fail(self, video_id: str, problem: str) -> None:
        """The video gives no row; the first sentence counts."""
        self.problems.setdefault(video_id, problem)

    def row(self, row: Row, values: np.ndarray) -> None:
        """A row of the clip that came last."""
        if row.video_id not in self.problems:
            self._spool.add(_Waiting(row, values))

    def finish(self) -> None:
        """Hand on what is left."""
        self._finish_video()
        for video_id, num_clips in self._unseen.items():
            self._check_count(video_id, num_clips, 0)

    def _finish_video(self) -> None:
        if self._video_id is None:
            return
        self._check_count(self._video_id, self._unseen.pop(self._video_id), self._num_clips)
        if self._video_id not in self.problems:
            self.num_rows[self._video_id] = self._spool.num_messages
            for header, blobs in self._spool.messages():
                waiting = _Waiting.from_message(header, blobs)
                self._writer.write(waiting.row, waiting.values)
        self._spool.clear()
        self._video_id, self._num_clips = None, 0

    def _check_count(self, video_id: str, expected: int, found: int) -> None:
        if found != expected:
            self.fail(
                video_id,
                f"{found} of its {expected} clips are in the shard; the shard was damaged after it was written",
            )
