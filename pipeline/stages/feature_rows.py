"""Writes pooled features to Parquet as they come: memory is bounded by one video and one row group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.stages.clip_stream import Clip
from schemas.errors import ReelmillError

VIEW = "center"
ROWS_PER_GROUP = 1024  # 16 MB of fc6


class FeatureRows:
    """Collects the rows of one unit. A video with a problem leaves no row at all.

    `expected` maps each video_id to its number of clips; `problems`, once finished, holds a sentence for each video
    whose clips could not all be used.
    """

    def __init__(self, file: BinaryIO, schema: pa.Schema, *, expected: Mapping[str, int]) -> None:
        self._schema = schema
        # no statistics and no dictionary of the floats: both cost time and say nothing
        plain = [field.name for field in schema if field.name != "embedding"]
        self._sink = pa.PythonFile(file, mode="w")
        self._parquet = pq.ParquetWriter(
            self._sink, schema, compression="zstd", use_dictionary=plain, write_statistics=plain
        )
        self._unseen = dict(expected)
        self._video: list[tuple[Clip, np.ndarray]] = []  # of the video that is being read
        self._video_id: str | None = None
        self._ready: list[tuple[Clip, np.ndarray]] = []  # of videos that are complete
        self.num_rows = 0
        self.problems: dict[str, str] = {}

    def add(self, clip: Clip, result: np.ndarray | str) -> None:
        """The next clip in shard order: its (D,) float32 vector, or the sentence that fails its video.

        Raises ReelmillError for a clip of a video that is not expected, or not expected any more.
        """
        if clip.video_id != self._video_id:
            self._finish_video()
            if clip.video_id not in self._unseen:
                raise ReelmillError(f"clip {clip.clip_id} is of a video that the ledger of the clips doesn't count")
            self._video_id = clip.video_id
        if isinstance(result, str):
            self.problems.setdefault(clip.video_id, result)
        else:
            self._video.append((clip, result))

    def __enter__(self) -> FeatureRows:
        return self

    def __exit__(self, *_: object) -> None:
        self._parquet.close()  # before its file goes, also when the unit fails; does nothing after `finish`

    def finish(self) -> None:
        """Write what is left. The file is a valid, empty table where there was no row."""
        self._finish_video()
        for video_id, num_clips in self._unseen.items():
            self._check_count(video_id, num_clips, 0)
        self._write(len(self._ready))
        self._parquet.close()

    def _finish_video(self) -> None:
        if self._video_id is None:
            return
        self._check_count(self._video_id, self._unseen.pop(self._video_id), len(self._video))
        if self._video_id not in self.problems:
            self.num_rows += len(self._video)
            self._ready += self._video
        self._video, self._video_id = [], None
        while len(self._ready) >= ROWS_PER_GROUP:
            self._write(ROWS_PER_GROUP)

    def _check_count(self, video_id: str, expected: int, found: int) -> None:
        if found != expected:
            message = f"{found} of its {expected} clips are in the shard; the shard was damaged after it was written"
            self.problems.setdefault(video_id, message)

    def _write(self, num_rows: int) -> None:
        rows, self._ready = self._ready[:num_rows], self._ready[num_rows:]
        if not rows:
            return
        clips = [clip for clip, _ in rows]
        values = np.stack([vector for _, vector in rows])  # (rows, D)
        embedding = self._schema.field("embedding").type
        columns = [
            pa.array([clip.video_id for clip in clips], pa.string()),
            pa.array([clip.clip_id for clip in clips], pa.string()),
            pa.array([VIEW] * len(clips), pa.string()),
            pa.array([clip.start_s for clip in clips], pa.float64()),
            pa.array([clip.center_s for clip in clips], pa.float64()),
            pa.array([clip.end_s for clip in clips], pa.float64()),
            pa.array([clip.label_ids for clip in clips], pa.list_(pa.int32())),
            pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), type=embedding),
        ]
        self._parquet.write_table(pa.Table.from_arrays(columns, schema=self._schema), row_group_size=ROWS_PER_GROUP)
