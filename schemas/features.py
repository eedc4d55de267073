"""Feature rows: pooled vectors (`part-000000.parquet`), and the index of dense maps (`_index/000000.parquet`)."""

from __future__ import annotations

import pyarrow as pa

# what both have: a view of a window of a clip
_ROW = [
    pa.field("video_id", pa.string(), nullable=False),
    pa.field("clip_id", pa.string(), nullable=False),
    pa.field("view", pa.string(), nullable=False),  # "center"; see pipeline.backbones.views
    pa.field("start_s", pa.float64(), nullable=False),  # half-open [start_s, end_s) on the source's clock
    pa.field("center_s", pa.float64(), nullable=False),
    pa.field("end_s", pa.float64(), nullable=False),
    pa.field("label_ids", pa.list_(pa.int32()), nullable=False),
]


def feature_schema(dim: int, card_json: str) -> pa.Schema:
    """The Parquet schema of pooled vectors of `dim` floats; the product's card rides in the metadata."""
    embedding = pa.field("embedding", pa.list_(pa.float32(), dim), nullable=False)
    return pa.schema([*_ROW, embedding], metadata={"reelmill.card": card_json})


# One row per map. A cell of a map is what the net made of frames_per_step frames and px_per_row x px_per_column px:
# these are the steps from cell to cell, not what a cell sees, which is more and overlaps.
MAP_INDEX_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),  # of the sample; holds no dot
        *_ROW,
        pa.field("first_frame", pa.int32(), nullable=False),  # of the window, in the stored clip
        pa.field("num_frames", pa.int32(), nullable=False),
        pa.field("frame_height_px", pa.int32(), nullable=False),  # of the frames that the view was cut from
        pa.field("frame_width_px", pa.int32(), nullable=False),
        pa.field("top_px", pa.int32(), nullable=False),  # the view's place in them
        pa.field("left_px", pa.int32(), nullable=False),
        pa.field("height_px", pa.int32(), nullable=False),
        pa.field("width_px", pa.int32(), nullable=False),
        pa.field("channels", pa.int32(), nullable=False),  # the map is (channels, steps, map_height, map_width)
        pa.field("steps", pa.int32(), nullable=False),
        pa.field("map_height", pa.int32(), nullable=False),
        pa.field("map_width", pa.int32(), nullable=False),
        pa.field("frames_per_step", pa.float64(), nullable=False),
        pa.field("px_per_row", pa.float64(), nullable=False),
        pa.field("px_per_column", pa.float64(), nullable=False),
    ]
)
