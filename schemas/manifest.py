"""The manifest: one row per input video, in the order that fixes units for ever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),  # no dot, no slash; see pipeline.sources.ids
        pa.field("uri", pa.string(), nullable=False),  # absolute local path or a pyarrow filesystem URI
        pa.field("split", pa.string()),  # "train", "val", "test" or null where the source has none
        pa.field("labels", pa.list_(pa.string()), nullable=False),
        pa.field("label_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("start_s", pa.float64()),  # use only [start_s, end_s) of the file; null = from its start
        pa.field("end_s", pa.float64()),  # null = to its end
        pa.field("bytes", pa.int64()),
        pa.field("etag", pa.string()),  # changes when the file changes: storage's etag, or size-mtime
    ]
)

# A source may add the labelled segments of each video; all three columns, of equal length in each row.
SEGMENT_FIELDS = [
    pa.field("segment_start_s", pa.list_(pa.float64())),
    pa.field("segment_end_s", pa.list_(pa.float64())),
    pa.field("segment_label_ids", pa.list_(pa.int32())),
]


@dataclass(frozen=True, slots=True)
class Segment:
    """A labelled half-open window [start_s, end_s) of a video."""

    start_s: float
    end_s: float
    label_id: int


@dataclass(frozen=True, slots=True)
class VideoRow:
    """One manifest row as the stages see it."""

    video_id: str
    uri: str
    split: str | None
    labels: tuple[str, ...]
    label_ids: tuple[int, ...]
    start_s: float | None
    end_s: float | None
    segments: tuple[Segment, ...] = ()

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> VideoRow:
        """Build from one `Table.to_pylist()` row; columns this type does not know are ignored."""
        spans = zip(
            row.get("segment_start_s") or (),
            row.get("segment_end_s") or (),
            row.get("segment_label_ids") or (),
            strict=True,
        )
        return cls(
            video_id=row["video_id"],
            uri=row["uri"],
            split=row["split"],
            labels=tuple(row["labels"]),
            label_ids=tuple(row["label_ids"]),
            start_s=row["start_s"],
            end_s=row["end_s"],
            segments=tuple(Segment(s, e, label_id) for s, e, label_id in spans),
        )
