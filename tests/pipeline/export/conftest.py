"""Datasets whose clips and flow are really made, from videos that are written on the spot."""

from __future__ import annotations

import hashlib
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
from pipeline.graph import Product, make_plan
from pipeline.shards import read_shard
from pipeline.stages import CODE_VERSIONS, card_of, stage_module
from pipeline.store import Store
from pipeline.units import plan_units, write_manifest
from schemas.config import Config, Limits
from schemas.manifest import MANIFEST_SCHEMA

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
