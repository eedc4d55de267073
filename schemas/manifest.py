"""The manifest: one row per input video, in the order that fixes units for ever."""

from __future__ import annotations

import pyarrow as pa

from schemas.video_row import Segment, VideoRow

__all__ = ["MANIFEST_SCHEMA", "SEGMENT_FIELDS", "Segment", "VideoRow"]

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
