"""A small dataset on disk: a manifest and feature products, committed as the real stages commit them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline import receipts
from pipeline.graph import Plan, Product, Unit
from pipeline.store import Store
from pipeline.threads import using_torch_threads
from pipeline.training.task import Source
from pipeline.units import LABELS_KEY, plan_units, read_manifest, write_manifest
from schemas.features import feature_schema
from schemas.ledger import LedgerRow
from schemas.manifest import MANIFEST_SCHEMA, SEGMENT_FIELDS

STEP_S = 3.2  # from clip to clip
NAMES = ("jump", "run", "swim", "wave")


@dataclass
class Video:
    video_id: str
    label_ids: tuple[int, ...]
    clips: np.ndarray  # (T, D)
    split: str | None = None
    status: str = "ok"  # of its features
    start_s: float = 0.0
    step_s: float = STEP_S
    segments: tuple[tuple[float, float, int], ...] = ()  # start_s, end_s, label id


@dataclass
class Dataset:
    """A dataset folder with one or more feature products."""

    root: Path
    features: dict[str, Product] = field(default_factory=dict)
    videos_per_unit: int = 8

    @property
    def store(self) -> Store:
        return Store(str(self.root))

    @property
    def units(self) -> list[Unit]:
        return plan_units(read_manifest(self.store), self.videos_per_unit)

    @property
    def whole(self) -> Unit:
        return Plan(products=(), units=tuple(self.units)).whole

    def write(self, videos: Sequence[Video], *, name: str = "c3d", manifest: bool = True) -> None:
        """Write the manifest and one feature product."""
        if manifest:
            rows = [
                {
                    "video_id": video.video_id,
                    "uri": f"/videos/{video.video_id}.mp4",
                    "split": video.split,
                    "labels": [NAMES[label_id] for label_id in video.label_ids],
                    "label_ids": list(video.label_ids),
                    "segment_start_s": [start_s for start_s, _, _ in video.segments],
                    "segment_end_s": [end_s for _, end_s, _ in video.segments],
                    "segment_label_ids": [label_id for _, _, label_id in video.segments],
                }
                for video in videos
            ]
            fields = [*MANIFEST_SCHEMA, *(SEGMENT_FIELDS if any(video.segments for video in videos) else ())]
            schema = pa.schema(fields, metadata={LABELS_KEY: json.dumps(NAMES)})
            write_manifest(self.store, pa.Table.from_pylist(rows, schema=schema))
        product = Product(kind="features", name=name, settings={"name": name}, upstream={}, code_version=1)
        self.features[name] = product
        for unit in self.units:
            self._write_unit(product, unit, videos[unit.start_row : unit.start_row + unit.num_rows])

    def _write_unit(self, product: Product, unit: Unit, videos: Sequence[Video]) -> None:
        rows: list[dict[str, Any]] = []
        ledger = []
        for video in videos:
            num_clips = len(video.clips) if video.status in ("ok", "partial") else 0
            for index in range(num_clips):
                start_s = video.start_s + index * video.step_s
                rows.append(
                    {
                        "video_id": video.video_id,
                        "clip_id": f"{video.video_id}_{index:03d}",
                        "view": "center",
                        "start_s": start_s,
                        "center_s": start_s + 1.6,
                        "end_s": start_s + 3.2,
                        "label_ids": list(video.label_ids),
                        "embedding": video.clips[index].tolist(),
                    }
                )
            reason = "" if video.status == "ok" else "truncated"
            uri = f"/videos/{video.video_id}.mp4"
            ledger.append(LedgerRow(video.video_id, uri, video.status, reason, reason, num_clips))  # type: ignore[arg-type]
        rows.reverse()  # readers must order the clips themselves
        with receipts.begin(self.store, product, unit) as writer:
            schema = feature_schema(videos[0].clips.shape[1], "{}")
            writer.table(f"part-{unit.index:06d}.parquet", pa.Table.from_pylist(rows, schema=schema))
            writer.commit(ledger, items=len(rows))

    def source(self, product: Product) -> Source:
        """What the task of a head reads."""
        return Source(product, self.whole, self.units, self.store)

    def head(self, name: str = "actions", **settings: Any) -> Product:
        """A head on all feature products."""
        values = {
            "kind": "lstm",
            "features": list(self.features),
            "hidden": 16,
            "epochs": 6,
            "batch_size": 8,
        } | settings
        if values["kind"] == "linear":
            del values["hidden"]
        upstream = {product.path: product.fingerprint for product in self.features.values()}
        return Product(kind="heads", name=name, settings=values, upstream=upstream, code_version=1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small only lose by threads, and badly where others share the cores."""
    with using_torch_threads(1):
        yield


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(tmp_path / "data")


def order_task(num_videos: int, *, dim: int = 8, seed: int = 0, splits: Sequence[str | None] = (None,)) -> list[Video]:
    """Two classes with the same clips in opposite order: which comes first is all that tells them apart."""
    random = np.random.default_rng(seed)
    first, second = random.normal(size=(2, dim))
    videos = []
    for index in range(num_videos):
        label_id = index % 2
        half = int(random.integers(1, 5))
        clips = np.repeat([first, second] if label_id == 0 else [second, first], half, axis=0)
        clips = clips + random.normal(scale=0.3, size=clips.shape)
        split = splits[index // 2 % len(splits)]
        videos.append(Video(f"video-{index:04d}", (label_id,), clips.astype(np.float32), split))
    return videos


def activity_task(
    num_videos: int, *, dim: int = 8, seed: int = 0, splits: Sequence[str | None] = (None,)
) -> list[Video]:
    """Two things that may go on at once: `jump` shows in each of its clips; `run` only in the clip where it begins, and
    lasts to the end of the video. Segments begin and end between the centres of clips."""
    random = np.random.default_rng(seed)
    jumping, starting = random.normal(size=(2, dim))
    videos = []
    for index in range(num_videos):
        num_clips = int(random.integers(6, 12))
        clips = random.normal(scale=0.3, size=(num_clips, dim))
        first, run = int(random.integers(0, num_clips - 2)), int(random.integers(1, num_clips))
        last = first + int(random.integers(1, 3))  # jumps, one clip or two
        segments = [(first * STEP_S, last * STEP_S, 0)]
        clips[first:last] += jumping
        if index % 3:  # a third of the videos has no run
            segments.append((run * STEP_S, num_clips * STEP_S, 1))
            clips[run] += 2 * starting
        labels = tuple(sorted({label_id for _, _, label_id in segments}))
        split = splits[index // 3 % len(splits)]
        video = Video(f"video-{index:04d}", labels, clips.astype(np.float32), split)
        videos.append(replace(video, segments=tuple(segments)))
    return videos


@pytest.fixture
def make_activity_task() -> Callable[..., list[Video]]:
    return activity_task


@pytest.fixture
def make_order_task() -> Callable[..., list[Video]]:
    return order_task


@pytest.fixture
def video() -> type[Video]:
    return Video


# ---------------------------------------------------------------- kill -9


@pytest.fixture(scope="session")
def killed() -> Any:
    """The module of trainings in processes of their own: `train`, `train_on_two`."""
    sys.path.insert(0, str(Path(__file__).parent))  # where those processes look for it, too
    return import_module("killed_training")
