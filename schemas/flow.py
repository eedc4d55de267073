"""The flow index (`_index/000000.parquet` of a flow product) and the KEY.json of each sample."""

from __future__ import annotations

import pyarrow as pa

FLOW_INDEX_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),  # the clip's own; also the WebDataset key, without a dot
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),  # half-open [start_s, end_s) on the source's clock
        pa.field("center_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64(), nullable=False),
        pa.field("label_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("fps", pa.float64(), nullable=False),  # field k: from start_s + k / fps to start_s + (k + 1) / fps
        # source timestamps of the two frames of each stored field, in its order; equal where the field is zero because
        # both are the same frame
        pa.field("from_pts_s", pa.list_(pa.float64()), nullable=False),
        pa.field("to_pts_s", pa.list_(pa.float64()), nullable=False),
        # fields before the video (or the segment) is over; those after them are zero (tail: pad) or come again from
        # the first on (tail: loop)
        pa.field("num_real_fields", pa.int32(), nullable=False),
        pa.field("height_px", pa.int32(), nullable=False),
        pa.field("width_px", pa.int32(), nullable=False),
        pa.field("bound_px", pa.float64(), nullable=False),
        # of the real fields
        pa.field("saturated", pa.float64(), nullable=False),  # share of components (u, v) beyond bound_px either way
        pa.field("rmse_px", pa.float64(), nullable=False),  # what is stored, read back, against what was computed
        pa.field("max_abs_px", pa.float64(), nullable=False),  # the bound that would cut nothing
    ]
)
