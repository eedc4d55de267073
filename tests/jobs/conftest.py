"""A config whose features stand already, so that heads can be trained without video."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
import yaml

from jobs import cli
from jobs.prepare import plan_config, prepare
from pipeline import receipts
from pipeline.config import load_config
from pipeline.stages import card_of, stage_module
from pipeline.store import Store
from pipeline.units import write_manifest
from schemas.config import Limits
from schemas.features import feature_schema
from schemas.ledger import LedgerRow
from schemas.manifest import MANIFEST_SCHEMA

NUM_VIDEOS = 61
HEAD = {"kind": "lstm", "features": ["c3d"], "hidden": 8, "epochs": 4, "batch_size": 6}


Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def reelmill() -> Program:
    """`reelmill WORDS…` by way of its command line, in this process: its exit status and what it says, without the
    seconds that a new process takes to import torch and ray."""

    def call(*words: object) -> subprocess.CompletedProcess[str]:
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.object(sys, "argv", ["reelmill", *map(str, words)]),
            mock.patch.dict(os.environ, {"COLUMNS": "200"}),  # undoes what a verb sets there, too
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            cli.main()
        return subprocess.CompletedProcess(words, int(ended.value.code or 0), out.getvalue(), err.getvalue())

    return call


@pytest.fixture
def head_config(tmp_path: Path) -> Path:
    """A config with the heads `actions` and `probe` on the features of 61 videos of three classes."""
    path = tmp_path / "config.yaml"
    config = {
        "dataset": str(tmp_path / "data"),
        "source": {"kind": "directory", "videos": str(tmp_path)},
        "clips": {"rgb16": {"frames": 16, "fps": 5}},
        "features": {"c3d": {"from": "clips/rgb16", "model": "c3d", "weights": "random:0"}},
        "heads": {"actions": HEAD, "probe": {"kind": "linear", "features": ["c3d"], "epochs": 4}},
    }
    path.write_text(yaml.safe_dump(config))
    write_features(path)
    return path


def write_features(config: Path) -> None:
    loaded = load_config(config)
    store = Store(loaded.dataset)
    ids = [f"video-{index:03d}" for index in range(NUM_VIDEOS)]
    rows = [
        {"video_id": video_id, "uri": f"/{video_id}.mp4", "labels": [f"class {n % 3}"], "label_ids": [n % 3]}
        for n, video_id in enumerate(ids)
    ]
    write_manifest(store, pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA))
    plan = plan_config(loaded, store)
    product, random = plan.product("features/c3d"), np.random.default_rng(0)
    for unit in plan.units:
        clips = []
        for n in range(unit.start_row, unit.start_row + unit.num_rows):
            clips += [_clip(ids[n], n % 3, start_s, random) for start_s in range(1 + n % 4)]
        ledger = [
            LedgerRow(video_id, f"/{video_id}.mp4", "ok", num_items=sum(c["video_id"] == video_id for c in clips))
            for video_id in ids[unit.start_row : unit.start_row + unit.num_rows]
        ]
        with receipts.begin(store, product, unit) as writer:
            writer.table(f"part-{unit.index:06d}.parquet", pa.Table.from_pylist(clips, schema=feature_schema(6, "{}")))
            writer.commit(ledger, items=len(clips))


def _clip(video_id: str, label_id: int, start_s: float, random: np.random.Generator) -> dict[str, object]:
    embedding = random.normal(size=6)
    embedding[label_id] += 2
    return {
        "video_id": video_id,
        "clip_id": f"{video_id}_{start_s}",
        "view": "center",
        "start_s": float(start_s),
        "center_s": start_s + 0.5,
        "end_s": start_s + 1.0,
        "label_ids": [label_id],
        "embedding": embedding.tolist(),
    }


@pytest.fixture(scope="session")
def make_products() -> Callable[[Path], None]:
    """Makes every product of a config without heads in this process: Ray is not what is tested."""

    def make(config: Path) -> None:
        prepared = prepare(load_config(config))
        for product in prepared.plan.products:
            receipts.write_card(prepared.store, card_of(product, prepared.store))
            stage = stage_module(product.kind).open_stage(product, prepared.store, Limits())
            for unit in prepared.plan.units:
                stage(unit)
            stage.close()

    return make
