"""The files of a unit's features: vectors as Parquet, maps as WebDataset with an index. Memory is one row group."""

from __future__ import annotations

import json
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.npy import to_npy
from pipeline.shards import ShardWriter
from pipeline.stages.feature_rows import Row
from schemas.features import MAP_INDEX_SCHEMA

ROWS_PER_GROUP = 1024  # 16 MB of fc6


class VectorFile:
    """`part-000000.parquet`: a (D,) float32 vector a row. Without a row it is a valid, empty table."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._schema = schema
        # no statistics and no dictionary of the floats: both cost time and say nothing
        plain = [field.name for field in schema if field.name != "embedding"]
        self._sink = pa.PythonFile(file, mode="w")
        self._parquet = pq.ParquetWriter(
            self._sink, schema, compression="zstd", use_dictionary=plain, write_statistics=plain
        )
        self._group: list[tuple[Row, np.ndarray]] = []

    def write(self, row: Row, values: np.ndarray) -> None:
        self._group.append((row, values))
        if len(self._group) == ROWS_PER_GROUP:
            self._write_group()

    def finish(self) -> None:
        self._write_group()
        self._parquet.close()

    def __enter__(self) -> VectorFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._parquet.close()  # before its file goes, also when the unit fails; does nothing after `finish`

    def _write_group(self) -> None:
        if not self._group:
            return
        rows = [row for row, _ in self._group]
        values = np.stack([vector for _, vector in self._group])  # (rows, D)
        columns = [
            pa.array([row.video_id for row in rows], pa.string()),
            pa.array([row.clip_id for row in rows], pa.string()),
            pa.array([row.view for row in rows], pa.string()),
            pa.array([row.start_s for row in rows], pa.float64()),
            pa.array([row.center_s for row in rows], pa.float64()),
            pa.array([row.end_s for row in rows], pa.float64()),
            pa.array([row.label_ids for row in rows], pa.list_(pa.int32())),
            pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), type=self._schema.field("embedding").type),
        ]
        self._parquet.write_table(pa.Table.from_arrays(columns, schema=self._schema), row_group_size=ROWS_PER_GROUP)
        self._group = []


class MapFile:
    """`maps-000000.tar`: KEY.npy (C, T, H, W), KEY.cls where there is exactly one label, KEY.json with the facts.

    `several` says that a clip has several rows: then the first frame and the view are part of the key.
    """

    def __init__(self, file: BinaryIO, *, layer: str, several: bool) -> None:
        self._shard = ShardWriter(file)
        self._layer, self._several = layer, several
        self._index: list[dict[str, Any]] = []

    def write(self, row: Row, values: np.ndarray) -> None:
        key = f"{row.clip_id}-{row.first_frame:06d}-{row.view}" if self._several else row.clip_id
        facts = self._facts(key, row, values)
        members = {"npy": to_npy(values)}
        if len(row.label_ids) == 1:
            members["cls"] = str(row.label_ids[0]).encode("ascii")
        members["json"] = json.dumps({**facts, "layer": self._layer}, ensure_ascii=False).encode()
        self._shard.add(key, members)
        self._index.append(facts)

    def index(self) -> pa.Table:
        """The facts of all maps."""
        return pa.Table.from_pylist(self._index, schema=MAP_INDEX_SCHEMA)

    def finish(self) -> None:
        self._shard.close()

    def __enter__(self) -> MapFile:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._shard.__exit__(kind, error, trace)

    def _facts(self, key: str, row: Row, values: np.ndarray) -> dict[str, Any]:
        """The fields of schemas.features.MAP_INDEX_SCHEMA, in its order."""
        top_px, left_px, height_px, width_px = row.crop_px
        channels, steps, map_height, map_width = values.shape
        return {
            "key": key,
            "clip_id": row.clip_id,
            "video_id": row.video_id,
            "view": row.view,
            "start_s": row.start_s,
            "center_s": row.center_s,
            "end_s": row.end_s,
            "label_ids": list(row.label_ids),
            "first_frame": row.first_frame,
            "num_frames": row.num_frames,
            "frame_height_px": row.frame_px[0],
            "frame_width_px": row.frame_px[1],
            "top_px": top_px,
            "left_px": left_px,
            "height_px": height_px,
            "width_px": width_px,
            "channels": channels,
            "steps": steps,
            "map_height": map_height,
            "map_width": map_width,
            "frames_per_step": row.num_frames / steps,
            "px_per_row": height_px / map_height,
            "px_per_column": width_px / map_width,
        }
