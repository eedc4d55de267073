"""Videos in which squares do things, as dense maps that are committed as the features stage commits them.

A video is 64×48 px at 16 fps. One map covers 8 frames at 8 fps, a second, in 2 steps: 4 channels of 6×8 cells. The
actor's cells have a high channel 0, and channel 1 or 2 high by what it does; the rest is noise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline import receipts
from pipeline.graph import Plan, Product, Unit, digest
from pipeline.stages.feature_files import MapFile
from pipeline.stages.feature_rows import Row
from pipeline.store import Store
from pipeline.training.task import Source
from pipeline.units import plan_units, read_manifest, write_manifest
from schemas.config import Clips, Features
from schemas.ledger import LedgerRow
from schemas.manifest import MANIFEST_SCHEMA
from schemas.receipt import Card

ACTIONS = ("sit", "wave")
WIDTH, HEIGHT = 64, 48
CLIP_FPS, VIDEO_FPS = 8, 16
FRAMES, STEPS = 8, 2
CELL = 8  # px

Box = tuple[float, float, float, float]


@dataclass
class Actor:
    """A box that moves evenly from second 0 on, x1 y1 x2 y2 in shares of the frame, while it does something."""

    label: int
    box: Box
    speed: tuple[float, float] = (0.0, 0.0)  # shares of the frame a second
    start_s: float = 0.0
    end_s: float = 1e9

    def at(self, second: float) -> Box | None:
        if not self.start_s <= second < self.end_s:
            return None
        x, y = self.speed[0] * second, self.speed[1] * second
        return self.box[0] + x, self.box[1] + y, self.box[2] + x, self.box[3] + y


@dataclass
class Video:
    video_id: str
    actors: tuple[Actor, ...] = ()
    split: str | None = None
    seconds: int = 4
    starts_s: tuple[float, ...] | None = None  # of the windows; default: every second
    status: str = "ok"  # of its features
    channels: int = 4
    first_s: float = 0.0

    @property
    def windows(self) -> tuple[float, ...]:
        return self.starts_s if self.starts_s is not None else tuple(float(s) for s in range(self.seconds))


@dataclass
class World:
    """A dataset folder with products of maps."""

    root: Path
    clips: dict[str, Any] = field(default_factory=dict)  # changes to the clips section
    view_px: tuple[int, int, int, int] = (0, 0, HEIGHT, WIDTH)  # top, left, height, width
    features: dict[str, Product] = field(default_factory=dict)
    videos: list[Video] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return Store(str(self.root / "data"))

    @property
    def units(self) -> list[Unit]:
        return plan_units(read_manifest(self.store), 8)

    @property
    def whole(self) -> Unit:
        return Plan(products=(), units=tuple(self.units)).whole

    # ------------------------------------------------------------ products

    def write(
        self, videos: Sequence[Video], *, name: str = "maps", dtype: Any = np.float16, steps: int = STEPS
    ) -> None:
        """Write the manifest, the cards and one features product."""
        self.videos = list(videos)
        rows: list[dict[str, Any]] = [
            {
                "video_id": video.video_id,
                "uri": f"/videos/{video.video_id}.mp4",
                "split": video.split,
                "labels": [],
                "label_ids": [],
            }
            for video in videos
        ]
        write_manifest(self.store, pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA))
        section = {"frames": FRAMES, "fps": CLIP_FPS, "resize": (HEIGHT, WIDTH), "tail": "pad"} | self.clips
        clips = Clips.model_validate(section).model_dump(mode="json")
        base = Product(
            kind="clips", name="rgb" if name == "maps" else name, settings=clips, upstream={}, code_version=1
        )
        values = {"from": base.path, "model": "small_rgb", "weights": "random:0", "dense": True}
        settings = Features.model_validate(values).model_dump(mode="json", by_alias=True)
        product = Product("features", name, settings, {base.path: base.fingerprint}, 1)
        for one in (base, product):
            card = Card(
                product=one.path,
                fingerprint=one.fingerprint,
                code_version=1,
                settings=dict(one.settings),
                upstream=dict(one.upstream),
                details={},
                versions={},
            )
            receipts.write_card(self.store, card)
        self.features[name] = product
        for unit in self.units:
            self._write_unit(product, unit, videos[unit.start_row : unit.start_row + unit.num_rows], dtype, steps)

    def _write_unit(self, product: Product, unit: Unit, videos: Sequence[Video], dtype: Any, steps: int) -> None:
        ledger = []
        with receipts.begin(self.store, product, unit) as writer:
            with MapFile(writer.file(f"maps-{unit.index:06d}.tar"), layer="conv2", several=False) as file:
                for video in videos:
                    windows = video.windows if video.status in ("ok", "partial") else ()
                    for start_s in reversed(windows):  # readers must order them themselves
                        file.write(
                            self._row(video, start_s), make_map(video, start_s, self.view_px, steps).astype(dtype)
                        )
                    reason = "" if video.status == "ok" else "truncated"
                    uri = f"/videos/{video.video_id}.mp4"
                    ledger.append(LedgerRow(video.video_id, uri, video.status, reason, reason, len(windows)))  # type: ignore[arg-type]
                file.finish()
            writer.table(f"_index/{unit.index:06d}.parquet", file.index())
            writer.commit(ledger, items=sum(row.num_items for row in ledger))

    def _row(self, video: Video, start_s: float) -> Row:
        start_s += video.first_s
        end_s = min(start_s + FRAMES / CLIP_FPS, video.first_s + video.seconds)
        return Row(
            clip_id=f"{video.video_id}@{round(start_s * 1000)}",
            video_id=video.video_id,
            view="center",
            start_s=start_s,
            center_s=(start_s + end_s) / 2,
            end_s=end_s,
            label_ids=(),
            first_frame=0,
            num_frames=FRAMES,
            crop_px=self.view_px,
            frame_px=(HEIGHT, WIDTH),
        )

    # ------------------------------------------------------------ annotations

    def tubes(self, videos: Sequence[Video] | None = None, **changes: Any) -> dict[str, Any]:
        """Write tubes as json; returns the config section."""
        records = []
        for video in self.videos if videos is None else videos:
            tubes = []
            for actor in video.actors:
                frames = [k for k in range(video.seconds * VIDEO_FPS) if actor.at(k / VIDEO_FPS)]
                boxes = [actor.at(k / VIDEO_FPS) or (0, 0, 0, 0) for k in frames]
                xywh = [[x1 * WIDTH, y1 * HEIGHT, (x2 - x1) * WIDTH, (y2 - y1) * HEIGHT] for x1, y1, x2, y2 in boxes]
                tubes.append(
                    {
                        "label": ACTIONS[actor.label],
                        "start_frame": frames[0],
                        "end_frame": frames[-1] + 1,
                        "boxes_xywh": xywh,
                    }
                )
            size = {"num_frames": video.seconds * VIDEO_FPS, "fps": VIDEO_FPS, "width": WIDTH, "height": HEIGHT}
            records.append({"video": f"{video.video_id}.mp4", **size, "tubes": tubes} | changes)
        path = self.root / "tubes.json"
        path.write_text(json.dumps({"videos": records}))
        return {"kind": "tubes", "path": str(path)}

    def ava(self, videos: Sequence[Video] | None = None, *, more: str = "", start_s: int = 0) -> dict[str, Any]:
        """Write AVA's csv and action list, boxes at whole seconds and a half; returns the config section."""
        lines = []
        for video in self.videos if videos is None else videos:
            for second in range(video.seconds):
                found = [(actor, box) for actor in video.actors if (box := actor.at(second))]
                for actor, box in found:
                    edges = ",".join(f"{edge:.4f}" for edge in box)
                    lines.append(f"{video.video_id},{second + start_s:04d},{edges},{actor.label + 3}")
                if not found:
                    lines.append(f"{video.video_id},{second + start_s:04d},,,,,")
        (self.root / "train.csv").write_text("\n".join(lines) + "\n" + more)
        items = [f'item {{ name: "{name}" id: {place + 3} }}' for place, name in enumerate(ACTIONS)]
        (self.root / "list.pbtxt").write_text("\n".join(items))
        section = {"kind": "ava", "csv": str(self.root / "train.csv"), "labels": str(self.root / "list.pbtxt")}
        return section | ({"start_s": start_s} if start_s else {})

    # ------------------------------------------------------------ heads

    def head(self, annotations: dict[str, Any], **settings: Any) -> Product:
        values = {
            "kind": "roi",
            "features": list(self.features),
            "annotations": annotations,
            "hidden": 16,
            "pool": 3,
            "epochs": 6,
            "batch_size": 8,
            "lr": 0.01,
        } | settings
        upstream = {product.path: product.fingerprint for product in self.features.values()}
        return Product(kind="heads", name="who", settings=values, upstream=upstream, code_version=1)

    def source(self, product: Product) -> Source:
        return Source(product, self.whole, self.units, self.store)


def make_map(video: Video, start_s: float, view_px: tuple[int, int, int, int], steps: int = STEPS) -> np.ndarray:
    """(C, T, H, W) of one window: the actors where they are in the middle of each step."""
    top, left, height, width = view_px
    rows, columns = height // CELL, width // CELL
    seed = [int(digest(video.video_id)[:8], 16), round(start_s * 1000)]
    values = np.random.default_rng(seed).normal(scale=0.1, size=(video.channels, steps, rows, columns))
    y = (top + (np.arange(rows) + 0.5) * CELL)[:, None] / HEIGHT
    x = (left + (np.arange(columns) + 0.5) * CELL)[None] / WIDTH
    for step in range(steps):
        second = start_s + (step + 0.5) * FRAMES / CLIP_FPS / steps
        for actor in video.actors:
            if box := actor.at(second):
                inside = (box[0] <= x) & (x < box[2]) & (box[1] <= y) & (y < box[3])
                values[0, step] += inside
                values[1 + actor.label, step] += inside
    return values


def some_videos(
    num: int, *, seconds: int = 4, splits: Sequence[str | None] = ("train", "train", "val", "test")
) -> list[Video]:
    """Videos with one actor each, of whole cells, some moving a cell a second."""
    random = np.random.default_rng(7)
    videos = []
    for index in range(num):
        width, height = (int(one) for one in random.integers(2, 4, size=2))
        x, y = int(random.integers(0, 8 - width - 1)), int(random.integers(0, 6 - height))
        box = (x / 8, y / 6, (x + width) / 8, (y + height) / 6)
        actor = Actor(index // len(splits) % 2, box, speed=(1 / 8 / seconds, 0.0))
        videos.append(Video(f"video-{index:03d}", (actor,), splits[index % len(splits)], seconds))
    return videos


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def make_videos() -> Callable[..., list[Video]]:
    return some_videos


@pytest.fixture
def parts() -> Any:
    """The types above, for tests that make their own videos."""
    return type("Parts", (), {"Actor": Actor, "Video": Video, "make_map": staticmethod(make_map)})
