"""The clip index (`_index/000000.parquet` of a clips product) and the KEY.json of each sample."""

from __future__ import annotations

import pyarrow as pa

CLIP_INDEX_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),  # also the WebDataset key; holds no dot
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),  # half-open [start_s, end_s) on the source's clock
        pa.field("center_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64(), nullable=False),
        pa.field("label_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("frame_pts_s", pa.list_(pa.float64()), nullable=False),  # source timestamp of each stored frame
        pa.field("num_real_frames", pa.int32(), nullable=False),  # frames before tail padding or looping begins
        pa.field("height_px", pa.int32(), nullable=False),
        pa.field("width_px", pa.int32(), nullable=False),
    ]
)
