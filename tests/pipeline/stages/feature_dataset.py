"""Small clips and flow products, committed as their stages commit them, and features made of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import torch

from pipeline import receipts
from pipeline.backbones import build
from pipeline.flow.encode import clip_members, encode_field
from pipeline.graph import Product, Unit
from pipeline.shards import ShardWriter
from pipeline.stages import CODE_VERSIONS, card_of, features
from pipeline.store import Store
from pipeline.video.encode import decode_frames, encode_clip, encode_frame
from schemas.config import Clips, Features, Flow, Limits
from schemas.ledger import LedgerRow
from schemas.receipt import Card, Receipt

FRAMES = 8
FPS = 5.0
SIZE = (24, 32)  # height, width
CLIP_S = FRAMES / FPS
VIDEOS = {"a": 2, "b": 1, "c": 2}  # video_id -> clips
UNIT = Unit(index=0, start_row=0, num_rows=len(VIDEOS), rows_sha256="5" * 64)
Members = dict[str, bytes]
Sample = tuple[str, Members]


def picture(seed: int, num_channels: int = 3, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, C) uint8, smooth."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 6, num_channels), np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_LINEAR)


def pixels(video_id: str, index: int, *, num_frames: int = FRAMES, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(T, H, W, 3) uint8 RGB that drifts to the right."""
    still = picture(100 * ord(video_id[0]) + index, size=size)
    return np.stack([np.roll(still, t, axis=1) for t in range(num_frames)])


def px(video_id: str, index: int, *, num_frames: int = FRAMES) -> np.ndarray:
    """(T, H, W, 2) float32 flow."""
    still = picture(100 * ord(video_id[0]) + index, num_channels=2).astype(np.float32) / 8 - 16
    return np.stack([still * (t + 1) / num_frames for t in range(num_frames)])


def facts(video_id: str, index: int, *, num_real: int = FRAMES, size: tuple[int, int] = SIZE) -> dict[str, Any]:
    start_s = CLIP_S * index
    end_s = start_s + num_real / FPS
    return {
        "clip_id": f"{video_id}@{index}",
        "video_id": video_id,
        "start_s": start_s,
        "center_s": (start_s + end_s) / 2,
        "end_s": end_s,
        "label_ids": [index],
        "height_px": size[0],
        "width_px": size[1],
    }


def clip_sample(video_id: str, index: int, *, num_real: int = FRAMES, **changes: Any) -> Sample:
    """A jpeg clip; `changes` go to `pixels`."""
    spec = Clips(frames=FRAMES, fps=FPS)
    frames = pixels(video_id, index, **changes)
    size = frames.shape[1], frames.shape[2]
    row = {**facts(video_id, index, num_real=num_real, size=size), "num_real_frames": num_real}
    members = encode_clip([encode_frame(rgb, spec) for rgb in frames], spec)
    return row["clip_id"], {**members, "json": json.dumps(row).encode()}


def flow_sample(video_id: str, index: int, spec: Flow, *, num_real: int = FRAMES) -> Sample:
    fields = [encode_field(one, spec) for one in px(video_id, index)]
    row = {**facts(video_id, index, num_real=num_real), "num_real_fields": num_real - (num_real < FRAMES)}
    members = clip_members(fields, spec, height=SIZE[0], width=SIZE[1])
    return row["clip_id"], {**members, "json": json.dumps(row).encode()}


def all_clips() -> list[Sample]:
    return [clip_sample(video_id, index) for video_id, count in VIDEOS.items() for index in range(count)]


def clips_product(**changes: Any) -> Product:
    section = Clips.model_validate({"frames": FRAMES, "fps": FPS, "resize": SIZE, **changes})
    return Product("clips", "rgb", section.model_dump(mode="json", by_alias=True), {}, 1)


def flow_product(spec: Flow, clips: Product) -> Product:
    return Product("flow", "tvl1", spec.model_dump(mode="json", by_alias=True), {clips.path: clips.fingerprint}, 1)


def features_product(upstream: Product, **changes: Any) -> Product:
    model = "small_rgb" if upstream.kind == "clips" else "small_flow"
    section = Features.model_validate(
        {"from": upstream.path, "model": model, "weights": "random:1", "precision": "fp32", **changes}
    )
    return Product(
        "features",
        "f",
        section.model_dump(mode="json", by_alias=True),
        {upstream.path: upstream.fingerprint},
        CODE_VERSIONS["features"],
        "0" * 64,
    )


def write_product(
    store: Store, product: Product, samples: Sequence[Sample], details: dict[str, Any] | None = None
) -> None:
    """Commit a unit of a clips or flow product, with its card."""
    write_card(store, product, details)
    receipts.retract(store, product.path, UNIT.index)  # a test may write the same unit with other samples
    with receipts.begin(store, product, UNIT) as writer:
        with ShardWriter(writer.file(f"{product.kind}-000000.tar")) as shard:
            for key, members in samples:
                shard.add(key, members)
        ledger = [LedgerRow(video_id, f"/{video_id}.mp4", "ok", num_items=count) for video_id, count in VIDEOS.items()]
        writer.commit(ledger, items=sum(VIDEOS.values()))


def write_card(store: Store, product: Product, details: dict[str, Any] | None = None) -> None:
    card = Card(
        product=product.path,
        fingerprint=product.fingerprint,
        code_version=1,
        settings=dict(product.settings),
        upstream=dict(product.upstream),
        details=details or {},
        versions={},
    )
    receipts.write_card(store, card)


def write_flow(store: Store, **settings: Any) -> Product:
    """Clips, as a card alone, and the flow of all of them."""
    clips, spec = clips_product(), Flow.model_validate({"clips": "rgb", "encoding": "png", **settings})
    write_card(store, clips)
    product = flow_product(spec, clips)
    samples = [flow_sample(video_id, index, spec) for video_id, count in VIDEOS.items() for index in range(count)]
    write_product(store, product, samples, {"sampling": {"num_fields": FRAMES, "fps": FPS}})
    return product


@dataclass
class Made:
    """A unit of features, read back."""

    store: Store
    receipt: Receipt
    card: Card
    ledger: list[LedgerRow] = field(default_factory=list)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Of the Parquet file, embeddings as float32 arrays."""
        rows = pq.read_table(self.store.path("features/f/part-000000.parquet")).to_pylist()
        return [{**row, "embedding": np.array(row["embedding"], np.float32)} for row in rows]

    @property
    def matrix(self) -> np.ndarray:
        return np.stack([row["embedding"] for row in self.rows])

    @property
    def files(self) -> dict[str, bytes]:
        root = Path(self.store.path("features/f"))
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def make_features(store: Store, upstream: Product, **settings: Any) -> Made:
    """Describe and make the unit's features, as a run does."""
    product = features_product(upstream, **settings)
    card = card_of(product, store)
    receipts.write_card(store, card)
    stage = features.open_stage(product, store, Limits())
    receipt = stage(UNIT)
    stage.close()
    return Made(store, receipt, card, receipts.read_ledger(store, product.path, 0))


def forward(frames: np.ndarray, *, layer: str = "conv2", dense: bool = False) -> np.ndarray:
    """A plain forward of cropped RGB frames (T, 16, 16, 3)."""
    x = torch.from_numpy(np.ascontiguousarray(frames)).float().permute(3, 0, 1, 2)[None] * (2 / 255) - 1
    return build("small_rgb", weights="random:1").features(x, layer=layer, dense=dense)[0].numpy()


def stored_frames(place: int = 0) -> np.ndarray:
    return decode_frames(all_clips()[place][1], "jpeg")


def write_clips(store: Store) -> Product:
    """All clips, committed."""
    product = clips_product()
    write_product(store, product, all_clips())
    return product
