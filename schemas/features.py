"""Pooled feature rows (`part-000000.parquet`)."""

from __future__ import annotations

import pyarrow as pa


def feature_schema(dim: int, card_json: str) -> pa.Schema:
    """The Parquet schema of pooled vectors of `dim` floats; the product's card rides in the metadata."""
    return pa.schema(
        [
            pa.field("video_id", pa.string(), nullable=False),
            pa.field("clip_id", pa.string(), nullable=False),
            pa.field("view", pa.string(), nullable=False),  # "center", later crops and flips
            pa.field("start_s", pa.float64(), nullable=False),
            pa.field("center_s", pa.float64(), nullable=False),
            pa.field("end_s", pa.float64(), nullable=False),
            pa.field("label_ids", pa.list_(pa.int32()), nullable=False),
            pa.field("embedding", pa.list_(pa.float32(), dim), nullable=False),
        ],
        metadata={"reelmill.card": card_json},
    )
