"""A dataset that is really made once, and copies of it to spoil: honestly, as bits rot, and with forged cards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pytest

from pipeline import backbones, receipts
from pipeline.graph import Plan, Product, make_plan, unit_fingerprint
from pipeline.stages import CODE_VERSIONS, card_of, stage_module
from pipeline.store import Store
from pipeline.units import plan_units, write_manifest
from pipeline.verify.stored import find
from schemas.config import Clips, Config, Features, Flow, Limits
from schemas.manifest import MANIFEST_SCHEMA

HEIGHT, WIDTH = 96, 128
# rows of few numbers; a net that has seen the world tells apart what random weights do not
NET = {"model": "efficientnet_lite0", "weights": "imagenet", "layer": "stage3", "precision": "fp32"}
SMALL = {"short_side": 64, "crop": [56, 56]}
CONFIG = {
    "source": {"kind": "directory", "videos": "/"},
    "clips": {"c": {"frames": 4, "fps": 5, "short_side": 72}},
    "flow": {
        "f": {"clips": "c", "fps": 15, "backend": "cpu", "short_side": 32, "params": {"num_scales": 2, "num_warps": 2}}
    },
    "features": {
        "v": {"from": "clips/c", **NET, "preprocess": SMALL},
        "m": {
            "from": "clips/c",
            **{**NET, "layer": "stage2", "dense": True, "dtype": "float16"},
            **{"preprocess": SMALL, "crops": 3, "window": {"frames": 2, "stride": 2}},
        },
    },
}


def write_video(path: Path, *, num_frames: int, seed: int) -> None:
    """25 fps: coloured shapes with fine texture, drifting."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    scene = cv2.resize(
        random.integers(0, 256, (8, 12, 3)).astype(np.uint8), (192, HEIGHT), interpolation=cv2.INTER_CUBIC
    )
    scene = cv2.add(scene, random.integers(0, 90, (HEIGHT, 192, 3)).astype(np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(scene[:, index : index + WIDTH]), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


class Dataset:
    """A dataset of two units; its products are made by their stages."""

    def __init__(self, folder: Path, rows: list[dict[str, Any]]) -> None:
        self.folder, self.store = folder, Store(str(folder))
        self.manifest = pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)

    def plan(self, config: dict[str, Any]) -> Plan:
        return make_plan(
            Config.model_validate({"dataset": str(self.folder), **config}),
            plan_units(self.manifest, 1),
            code_version=CODE_VERSIONS.__getitem__,
            sha256=lambda _, f: backbones.weights_sha256(f.model, f.weights, preprocess=f.preprocess),
        )

    def make(self, config: dict[str, Any], *only: str) -> None:
        plan = self.plan(config)
        for product in plan.products:
            if only and product.path not in only:
                continue
            receipts.write_card(self.store, card_of(product, self.store))
            stage = stage_module(product.kind).open_stage(product, self.store, Limits())
            for unit in plan.units:
                stage(unit)
            stage.close()

    def claim(self, path: str, **changes: Any) -> None:
        """Let a card claim other settings than those that its product was made with."""
        card = receipts.read_card(self.store, path)
        details = dict(card.details)
        if "weights" in changes:
            details["weights"] = {"sha256": backbones.weights_sha256(card.settings["model"], changes["weights"])}
        kind = {"clips": Clips, "flow": Flow, "features": Features}[path.partition("/")[0]]
        settings = kind.model_validate({**card.settings, **changes}).model_dump(mode="json", by_alias=True)
        self.forge(path, settings=settings, details=details)

    def forge(self, path: str, *, settings: dict[str, Any], details: dict[str, Any] | None = None) -> None:
        """Write other settings on a card, with fingerprints to match on receipts and cards downstream."""
        card = receipts.read_card(self.store, path)
        kind, name = path.split("/")
        details = details or card.details
        weights = details["weights"]["sha256"] if kind == "features" else None
        product = Product(kind, name, settings, card.upstream, card.code_version, weights)
        card = card.model_copy(update={"settings": settings, "details": details, "fingerprint": product.fingerprint})
        receipts.write_card(self.store, card)
        for unit in plan_units(self.manifest, 1):
            self.rewrite(
                f"{path}/_receipts/{unit.index:06d}.json", fingerprint=unit_fingerprint(card.fingerprint, unit)
            )
        for other in [name for name in find(self.store) if name != path]:
            if path in (below := receipts.read_card(self.store, other)).upstream:
                self.store.put(
                    f"{other}/_card.json",
                    below.model_copy(update={"upstream": {path: card.fingerprint}}).model_dump_json().encode(),
                )
                self.forge(other, settings=below.settings)

    def move_videos(self, folder: str) -> None:
        """Write the manifest, and what follows from it, as if the videos were in another folder."""
        rows = [{**row, "uri": f"{folder}/{Path(row['uri']).name}"} for row in self.manifest.to_pylist()]
        self.manifest = pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)
        write_manifest(self.store, self.manifest)
        for path in ("clips/c", "flow/f", "features/v", "features/m"):
            self.forge(path, settings=receipts.read_card(self.store, path).settings)

    def rewrite(self, path: str, **changes: Any) -> None:
        """Change fields of a JSON file."""
        document = {**json.loads(self.store.read(path)), **changes}
        self.store.put(path, json.dumps(document).encode())


@pytest.fixture
def config() -> dict[str, Any]:
    return CONFIG


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two videos; clips/c, flow/f, features/v (vectors) and features/m (maps)."""
    folder = tmp_path_factory.mktemp("verify")
    rows = []
    for index in range(2):
        path = folder / f"videos/{index}.mp4"
        write_video(path, num_frames=45, seed=index)
        size = path.stat().st_size
        rows.append(
            {"video_id": f"v{index}", "uri": str(path), "labels": [f"c{index}"], "label_ids": [index], "bytes": size}
        )
    dataset = Dataset(folder / "data", rows)
    write_manifest(dataset.store, dataset.manifest)
    dataset.make(CONFIG)
    return dataset


@pytest.fixture
def copy(fresh: Dataset, tmp_path: Path) -> Dataset:
    """A copy of the dataset, with the same videos."""
    shutil.copytree(fresh.folder, tmp_path / "data")
    return Dataset(tmp_path / "data", fresh.manifest.to_pylist())


@pytest.fixture
def verified() -> Callable[..., Any]:
    """verified(dataset, "clips/c") is the report of that product."""
    from pipeline.verify import verify

    def of(dataset: Dataset, path: str, **options: Any) -> Any:
        return verify(dataset.store, products=[path], **{"num_clips": 4, **options})[0]

    return of
