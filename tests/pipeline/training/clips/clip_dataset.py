"""A small dataset of stored clips and flow, written as their stages write them, in which motion alone tells classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from pipeline import receipts
from pipeline.flow.encode import clip_members, encode_field
from pipeline.graph import Plan, Product, Unit
from pipeline.shards import ShardWriter
from pipeline.stages import CODE_VERSIONS
from pipeline.store import Store
from pipeline.training.clips.task import ClipTask
from pipeline.training.task import Source
from pipeline.training.tasks import settings_of
from pipeline.units import LABELS_KEY, plan_units, read_manifest, write_manifest
from pipeline.video.encode import encode_clip, encode_frame
from schemas.clips import CLIP_INDEX_SCHEMA
from schemas.config import Clips, Flow
from schemas.flow import FLOW_INDEX_SCHEMA
from schemas.ledger import LedgerRow
from schemas.manifest import MANIFEST_SCHEMA
from schemas.receipt import Card

NAMES = ("left", "right", "up", "down")
SPEED_PX = {0: (0, -2), 1: (0, 2), 2: (-2, 0), 3: (2, 0)}  # label_id -> (down, right) a frame
FRAMES, FPS, SIZE = 6, 5.0, (32, 40)  # SIZE: height, width


@dataclass
class Video:
    video_id: str
    label_ids: tuple[int, ...]
    clips: Sequence[tuple[int, ...]] | None = None  # the labels of each; default: two with the video's own
    split: str | None = None
    status: str = "ok"
    size: tuple[int, int] = SIZE

    @property
    def clip_labels(self) -> Sequence[tuple[int, ...]]:
        if self.status in ("failed", "filtered"):
            return ()
        return [self.label_ids] * 2 if self.clips is None else self.clips


def videos_of(
    num: int, *, num_classes: int = 2, splits: Sequence[str | None] = ("train", "train", "val")
) -> list[Video]:
    """Videos of the classes in turn; `splits` go round, too, each for as many videos as there are classes."""
    return [
        Video(f"video-{n:03d}", (n % num_classes,), split=splits[n // num_classes % len(splits)]) for n in range(num)
    ]


def pixels(key: str, label_id: int, *, frames: int, size: tuple[int, int]) -> np.ndarray:
    """(T, H, W, 3) uint8: a texture of its own that drifts as its class says."""
    small = np.random.default_rng(list(key.encode())).integers(0, 256, (7, 9, 3), np.uint8)
    still = cv2.resize(small, size[::-1], interpolation=cv2.INTER_LINEAR)
    down, right = SPEED_PX[label_id]
    return np.stack([np.roll(still, (down * t, right * t), axis=(0, 1)) for t in range(frames)])


def px(key: str, label_id: int, *, frames: int = FRAMES, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(T, H, W, 2) float32: the drift, and noise."""
    noise = np.random.default_rng(list(key.encode())).normal(0, 0.5, (frames, *size, 2))
    down, right = SPEED_PX[label_id]
    return (noise + np.array([right, down])).astype(np.float32)


@dataclass
class ClipDataset:
    """A dataset folder with a clips product, or a flow product, of all videos of its manifest."""

    root: Path
    videos_per_unit: int = 5
    frames: int = FRAMES
    products: dict[str, Product] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return Store(str(self.root))

    @property
    def units(self) -> list[Unit]:
        return plan_units(read_manifest(self.store), self.videos_per_unit)

    @property
    def whole(self) -> Unit:
        return Plan(products=(), units=tuple(self.units)).whole

    def write(self, videos: Sequence[Video], *, kind: str = "clips", **settings: Any) -> Product:
        """The manifest, and one product `clips/rgb` or `flow/tvl1`."""
        rows = [
            {
                "video_id": video.video_id,
                "uri": f"/videos/{video.video_id}.mp4",
                "split": video.split,
                "labels": [NAMES[label_id] for label_id in video.label_ids],
                "label_ids": list(video.label_ids),
            }
            for video in videos
        ]
        schema = MANIFEST_SCHEMA.with_metadata({LABELS_KEY: json.dumps(NAMES).encode()})
        write_manifest(self.store, pa.Table.from_pylist(rows, schema=schema))
        clips = Clips.model_validate({"frames": self.frames, "fps": FPS, **(settings if kind == "clips" else {})})
        product = Product("clips", "rgb", clips.model_dump(mode="json", by_alias=True), {}, CODE_VERSIONS["clips"])
        self._write_card(product)
        spec: Clips | Flow = clips
        if kind == "flow":
            spec = Flow.model_validate({"clips": "rgb", "encoding": "png", **settings})
            upstream = {product.path: product.fingerprint}
            plain = spec.model_dump(mode="json", by_alias=True)
            product = Product("flow", "tvl1", plain, upstream, CODE_VERSIONS["flow"])
            self._write_card(product)
        self.products[product.path] = product
        for unit in self.units:
            self.write_unit(product, unit, videos[unit.start_row : unit.start_row + unit.num_rows], spec)
        return product

    def _write_card(self, product: Product) -> None:
        card = Card(
            product=product.path,
            fingerprint=product.fingerprint,
            code_version=product.code_version,
            settings=dict(product.settings),
            upstream=dict(product.upstream),
            details={"sampling": {"num_fields": self.frames, "fps": FPS}} if product.kind == "flow" else {},
            versions={},
        )
        receipts.write_card(self.store, card)

    def write_unit(self, product: Product, unit: Unit, videos: Sequence[Video], spec: Clips | Flow) -> None:
        index, ledger = [], []
        with receipts.begin(self.store, product, unit) as writer:
            with ShardWriter(writer.file(f"{product.kind}-{unit.index:06d}.tar")) as shard:
                for video in videos:
                    for place, label_ids in enumerate(video.clip_labels):
                        row, members = _sample(video, place, label_ids, spec, self.frames)
                        index.append(row)
                        shard.add(row["clip_id"], {**members, "json": json.dumps(row).encode()})
                    reason = "" if video.status == "ok" else "truncated"
                    uri, num = f"/videos/{video.video_id}.mp4", len(video.clip_labels)
                    ledger.append(LedgerRow(video.video_id, uri, video.status, reason, reason, num))  # type: ignore[arg-type]
            schema = CLIP_INDEX_SCHEMA if isinstance(spec, Clips) else FLOW_INDEX_SCHEMA
            writer.table(f"_index/{unit.index:06d}.parquet", pa.Table.from_pylist(index, schema=schema))
            writer.commit(ledger, items=len(index))

    def head(self, name: str = "net", **settings: Any) -> Product:
        """A clip_classifier on the one product."""
        (upstream,) = self.products.values()
        values = {
            "kind": "clip_classifier",
            "from": upstream.path,
            "model": "small_rgb" if upstream.kind == "clips" else "small_flow",
            "weights": "random:0",
            "epochs": 3,
            "batch_size": 8,
            **settings,
        }
        plain = settings_of(values).model_dump(mode="json", by_alias=True)
        return Product("heads", name, plain, {upstream.path: upstream.fingerprint}, CODE_VERSIONS["heads"], "0" * 64)

    def source(self, product: Product) -> Source:
        return Source(product, self.whole, self.units, self.store)

    def task(self, **settings: Any) -> ClipTask:
        product = self.head(**settings)
        return ClipTask(self.source(product), settings_of(product.settings))  # type: ignore[arg-type]


def _sample(
    video: Video, place: int, label_ids: tuple[int, ...], spec: Clips | Flow, frames: int
) -> tuple[dict[str, Any], dict[str, bytes]]:
    start_s = place * frames / FPS
    key = f"{video.video_id}_{place}"
    label_id = label_ids[0] if label_ids else 0
    row: dict[str, Any] = {
        "clip_id": key,
        "video_id": video.video_id,
        "start_s": start_s,
        "center_s": start_s + frames / FPS / 2,
        "end_s": start_s + frames / FPS,
        "label_ids": list(label_ids),
        "height_px": video.size[0],
        "width_px": video.size[1],
    }
    seconds = [start_s + t / FPS for t in range(frames)]
    if isinstance(spec, Clips):
        drawn = pixels(key, label_id, frames=frames, size=video.size)
        encoded = [encode_frame(rgb, spec) for rgb in drawn]
        return {**row, "frame_pts_s": seconds, "num_real_frames": frames}, encode_clip(encoded, spec)
    fields = [encode_field(one, spec) for one in px(key, label_id, frames=frames, size=video.size)]
    row |= {"fps": FPS, "from_pts_s": seconds, "to_pts_s": seconds, "num_real_fields": frames, "bound_px": spec.bound}
    row |= {"saturated": 0.0, "rmse_px": 0.0, "max_abs_px": 4.0}
    return row, clip_members(fields, spec, height=video.size[0], width=video.size[1])
