"""Datasets whose clips and flow are really made, from videos that are written on the spot; and stored features."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pytest

from pipeline import receipts
from pipeline.export.features import export_features
from pipeline.graph import Plan, Product, make_plan
from pipeline.shards import read_shard
from pipeline.stages import CODE_VERSIONS, card_of, stage_module
from pipeline.store import Store
from pipeline.units import LABELS_KEY, plan_units, write_manifest
from pipeline.video.sample import Span, Window, Windows
from schemas.config import Clips, Config, Flow, Limits
from schemas.features import feature_schema
from schemas.ledger import LedgerRow
from schemas.manifest import MANIFEST_SCHEMA, SEGMENT_FIELDS, VideoRow

HEIGHT, WIDTH = 32, 48
CLIPS = {"frames": 5, "fps": 5}
FLOW = {"clips": "c", "backend": "opencv", "params": {"num_scales": 2, "num_warps": 2}}


def write_video(path: Path, *, num_frames: int, seed: int) -> Path:
    """25 fps: a coloured texture that moves half a pixel to the right with each frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (HEIGHT // 4, (WIDTH + num_frames) // 4 + 4, 3))
    scene = cv2.resize(noise.astype(np.uint8), None, fx=8, fy=4, interpolation=cv2.INTER_CUBIC)  # two columns a pixel
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        for index in range(num_frames):
            left = num_frames - index
            pixels = cv2.resize(scene[:, left : left + 2 * WIDTH], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


class Made:
    """A dataset with clips/c and flow/f."""

    def __init__(self, folder: Path, rows: Sequence[dict[str, Any]], of_clips: dict, of_flow: dict, size: int) -> None:
        self.store = Store(str(folder))
        manifest = pa.Table.from_pylist(list(rows), schema=MANIFEST_SCHEMA)
        write_manifest(self.store, manifest)
        document = {
            "dataset": str(folder),
            "source": {"kind": "directory", "videos": "/"},
            "clips": {"c": {**CLIPS, **of_clips}},
            "flow": {"f": {**FLOW, **of_flow}},
        }
        config = Config.model_validate(document)
        units = plan_units(manifest, size)
        self.plan = make_plan(config, units, code_version=CODE_VERSIONS.__getitem__, sha256=lambda name, features: "")
        self.clips, self.flow = self.plan.product("clips/c"), self.plan.product("flow/f")
        for product in (self.clips, self.flow):
            self.make(product)

    def make(self, product: Product) -> None:
        receipts.write_card(self.store, card_of(product, self.store))
        stage = stage_module(product.kind).open_stage(product, self.store, Limits())
        try:
            for unit in self.plan.units:
                stage(unit)
        finally:
            stage.close()

    def samples(self, product: Product) -> dict[str, dict[str, bytes]]:
        found: dict[str, dict[str, bytes]] = {}
        for unit in self.plan.units:
            with self.store.open(f"{product.path}/{product.kind}-{unit.index:06d}.tar") as file:
                found.update(read_shard(file))
        return found


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Made]:
    """made([28, 13]) has a video of 28 frames, `v0`, and one of 13, `v1`; None is a file that is not there.

    `rows` replaces columns of their manifest rows.
    """

    def make(
        num_frames: Sequence[int | None],
        *,
        clips: dict[str, Any] | None = None,
        flow: dict[str, Any] | None = None,
        rows: Sequence[dict[str, Any]] = (),
        per_unit: int = 2,
    ) -> Made:
        folder = tmp_path / f"made{len(list(tmp_path.glob('made*')))}"
        table = []
        for i, count in enumerate(num_frames):
            path = tmp_path / f"videos/{i}-{count}.mp4"
            if count is not None and not path.exists():
                write_video(path, num_frames=count, seed=i)
            own = rows[i] if i < len(rows) else {}
            table.append({"video_id": f"v{i}", "uri": str(path), "labels": [f"c{i}"], "label_ids": [i], **own})
        return Made(folder, table, clips or {}, flow or {}, per_unit)

    return make


@pytest.fixture
def tree() -> Callable[[Path], dict[str, str]]:
    """Relative path -> sha256 of each file below a folder."""

    def hashes(root: Path) -> dict[str, str]:
        files = (path for path in root.rglob("*") if path.is_file())
        return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    return hashes


# ---------------------------------------------------------------- features

Row = dict[str, Any]  # of schemas.features


class StoredFeatures:
    """A dataset with features products whose windows are those that the clips stage would cut.

    Column 0 of each embedding is its row's start_s, column 1 the number of its view, the others are random.
    """

    def __init__(
        self,
        folder: Path,
        ends_s: Sequence[float | None],
        *,
        clips: dict[str, Any],
        dims: dict[str, int],
        begin_s: float,
        views: Sequence[str],
        columns: Sequence[dict[str, Any]],
        edit: Callable[[str, list[Row]], list[Row]],
        of_flow: Sequence[str],
        labels: Sequence[str],
        per_unit: int,
        partial: Sequence[str],
    ) -> None:
        self.store, self.partial, self.edit, self.views = Store(str(folder)), partial, edit, views
        self.spec = Clips.model_validate(clips)
        self.span_s = [(Fraction(str(begin_s)), end and Fraction(str(end))) for end in ends_s]
        table = [
            {"video_id": f"v{i}", "uri": f"/v{i}.mp4", "labels": [], "label_ids": [], **dict(own)}
            for i, own in enumerate([*columns, *[{}] * (len(ends_s) - len(columns))])
        ]
        schema = MANIFEST_SCHEMA
        if any("segment_start_s" in row for row in table):
            schema = pa.schema([*MANIFEST_SCHEMA, *SEGMENT_FIELDS])
        manifest = pa.Table.from_pylist(table, schema=schema)
        write_manifest(self.store, manifest.replace_schema_metadata({LABELS_KEY: json.dumps(list(labels))}))
        self.rows = [VideoRow.from_dict(row) for row in manifest.to_pylist()]
        settings = self.spec.model_dump(mode="json", by_alias=True)
        of_clips = Product("clips", "c", settings, {}, 1)
        flow = Flow(clips="c").model_dump(mode="json", by_alias=True)
        of_fields = Product("flow", "f", flow, {"clips/c": of_clips.fingerprint}, 1)
        self.products = [
            Product("features", name, {"from": "flow/f" if name in of_flow else "clips/c"}, {"clips/c": "x"}, 1, name)
            for name in dims
        ]
        units = plan_units(manifest, per_unit)
        self.plan = Plan((of_clips, of_fields, *self.products), tuple(units))
        self.written: dict[str, dict[str, list[Row]]] = {}
        for seed, (product, dim) in enumerate(zip(self.products, dims.values(), strict=True)):
            self.written[product.name] = self.write(product, dim, np.random.default_rng(seed))

    def export(self, out: Path, *, target: str = "npy", products: Sequence[Product] | None = None, **options: Any):
        return export_features(self.store, self.plan, products or self.products, out=str(out), target=target, **options)

    @staticmethod
    def starts(out: Path, video_id: str) -> list[float]:
        """Column 0 of an exported file: the second, on the source's clock, at which each row's window starts."""
        return np.load(out / f"features/{video_id}.npy")[:, 0].tolist()

    def windows(self, index: int) -> list[Window]:
        begin, end = self.span_s[index]
        return [] if end is None else list(Windows(self.spec, self.rows[index], Span(begin, end, ())))

    def write(self, product: Product, dim: int, random: np.random.Generator) -> dict[str, list[Row]]:
        """Write all units; returns video_id -> its rows."""
        written: dict[str, list[Row]] = {}
        for unit in self.plan.units:
            ledger, unit_rows = [], []
            for index in range(unit.start_row, unit.start_row + unit.num_rows):
                video_id = self.rows[index].video_id
                rows = self.edit(product.name, self.rows_of(index, dim, random))
                status = "ok" if rows else "failed"
                status = "partial" if video_id in self.partial else status
                ledger.append(LedgerRow(video_id, "", status, num_items=len(rows)))
                unit_rows += rows
                if rows:
                    written[video_id] = rows
            with receipts.begin(self.store, product, unit) as writer:
                table = pa.Table.from_pylist(unit_rows, schema=feature_schema(dim, "{}"))
                writer.table(f"part-{unit.index:06d}.parquet", table)
                writer.commit(ledger, items=len(unit_rows))
        return written

    def rows_of(self, index: int, dim: int, random: np.random.Generator) -> list[Row]:
        rows = []
        for window in self.windows(index):
            for number, view in enumerate(self.views):
                start_s, end_s = float(window.start_s), float(window.end_s)
                embedding = random.normal(size=dim).astype(np.float32)
                embedding[:2] = start_s, number
                rows.append(
                    {
                        "video_id": self.rows[index].video_id,
                        "clip_id": window.clip_id(self.rows[index].video_id),
                        "view": view,
                        "start_s": start_s,
                        "center_s": (start_s + end_s) / 2,
                        "end_s": end_s,
                        "label_ids": [],
                        "embedding": embedding.tolist(),
                    }
                )
        return rows


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., StoredFeatures]:
    """stored([10.0, 7.3]) has features/a, 4 columns, of a video that ends at 10 s and of one that ends at 7.3 s.

    None is a video that failed. `edit` takes a product's name and the rows of a video and gives those to be written.
    """

    def make(ends_s: Sequence[float | None], **changed: Any) -> StoredFeatures:
        settings = {
            "clips": {"frames": 16, "fps": 5},
            "dims": {"a": 4},
            "begin_s": 0.0,
            "views": ("center",),
            "columns": (),
            "edit": lambda name, rows: rows,
            "of_flow": (),
            "labels": (),
            "per_unit": 2,
            "partial": (),
            **changed,
        }
        return StoredFeatures(tmp_path / f"stored{len(list(tmp_path.glob('stored*')))}", ends_s, **settings)

    return make
