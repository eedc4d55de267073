"""`reelmill export` as a user types it, on a dataset that is really made."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from jobs.export import main, shown_progress
from jobs.prepare import CONFIG_FILE, stored_plan
from pipeline import receipts
from pipeline.store import Store
from pipeline.synth import SynthSpec, make_dataset
from pipeline.units import write_manifest
from schemas.config import Config
from schemas.errors import UsageError
from schemas.features import feature_schema
from schemas.ledger import LedgerRow
from schemas.manifest import MANIFEST_SCHEMA

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
dataset: {out}
source: {{kind: kinetics, csv: {made}/trimmed/kinetics.csv, videos: {made}/trimmed/videos}}
clips:
  small: {{frames: 8, fps: 8, resize: [32, 40]}}
flow:
  tvl1: {{clips: small, backend: opencv, params: {{num_scales: 2, num_warps: 2}}}}
  fast: {{clips: small, backend: opencv, fps: 16, params: {{num_scales: 2, num_warps: 2}}}}
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, make_products: Callable[[Path], None]) -> Path:
    """Clips and flow of four synthetic videos of 2 s."""
    folder = tmp_path_factory.mktemp("export")
    report = make_dataset(folder / "made", SynthSpec(num_classes=2, videos_per_class=2, duration_s=2.0))
    config = folder / "config.yaml"
    text = CONFIG.format(out=folder / "out", made=folder / "made")
    config.write_text(text.replace("trimmed/kinetics.csv", str(report.kinetics_csv)))
    make_products(config)
    return folder / "out"


@pytest.fixture
def export(reelmill):
    def call(dataset: Path, *words: str | Path, to: str = "denseflow", product: str = "flow/tvl1"):
        return reelmill("export", dataset, "--to", to, "--product", product, *words)

    return call


def test_a_folder_a_video_and_lists(export, dataset, tmp_path) -> None:
    out = tmp_path / "frames"
    ended = export(dataset, "--out", out, "--start-index", "1")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"4 folders in {out}, one a video\n" in ended.stdout
    assert "numbered from 1" in ended.stdout
    assert "start_index=1" in ended.stdout
    lines = [line.split() for path in sorted(out.glob("*.txt")) for line in path.read_text().splitlines()]
    assert sorted(line[0] for line in lines) == sorted(path.name for path in out.iterdir() if path.is_dir())
    for folder, count, label in lines:
        assert label in ("0", "1")
        assert len(list((out / folder).glob("flow_x_*.jpg"))) == int(count) == 15
        assert len(list((out / folder).glob("img_*.jpg"))) == 16  # 8 a second
        assert (out / folder / "flow_y_00001.jpg").exists()
    again = export(dataset, "--out", out, "--start-index", "1")
    assert (again.returncode, again.stdout) == (0, ended.stdout)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"to": "tfrecord"},
            "there is no such target, only denseflow, opentad, actionformer, npy, mmaction2",
        ),
        ({"product": ["flow/x"]}, "has no such product, only clips/small, flow/fast, flow/tvl1"),
        ({"product": ["clips/small"]}, "denseflow's folders hold flow; give one of flow/fast, flow/tvl1"),
        ({"product": ["flow/fast"]}, "no stored frames go with the fields; export without them (--no-frames)"),
        ({"start_index": 2}, "--start-index 2: give 0"),
        ({"length": "valid"}, "--length goes with --to opentad, actionformer, npy, mmaction2, and not with denseflow"),
        ({"to": "npy", "per": "clip"}, "--per goes with --to denseflow, and not with npy; leave it out"),
        ({"to": "npy"}, "--product flow/tvl1: these tools read features; this dataset has none"),
        ({"product": ["flow/tvl1", "flow/fast"]}, "--product flow/fast: --to denseflow takes one product"),
        ({"out": str(ROOT / "README.md")}, "README.md is a file; give a folder"),
        ({"out": str(ROOT)}, "is not empty and holds no export"),
    ],
)
def test_mistakes_are_one_sentence(dataset, tmp_path, settings, sentence) -> None:
    words = {"to": "denseflow", "product": ["flow/tvl1"], "out": str(tmp_path / "out"), **settings}
    with pytest.raises(UsageError) as error:
        main(str(dataset), **words)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_mistake_as_a_user_sees_it(dataset, tmp_path) -> None:
    words = ("--to", "denseflow", "--product", "flow/tvl1", "--out", tmp_path / "out", "--start-index", "7")
    command = [sys.executable, "-m", "jobs.cli", "export", *map(str, (dataset, *words))]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == ("reelmill: --start-index 7: give 0, as denseflow counts, or 1, as mmaction2's readers do\n")


def test_no_frames(export, dataset, tmp_path) -> None:
    ended = export(dataset, "--out", tmp_path / "out", "--no-frames", "--per", "clip", product="flow/fast")
    assert ended.returncode == 0, ended.stderr
    assert "8 folders" in ended.stdout
    assert "no frames" in ended.stdout
    assert not list((tmp_path / "out").rglob("img_*"))


def test_a_folder_that_is_no_dataset(tmp_path) -> None:
    with pytest.raises(UsageError, match="not a dataset that `reelmill run` has made"):
        main(str(tmp_path), to="denseflow", product=["flow/tvl1"], out=str(tmp_path / "out"))


def test_progress_in_a_log(capsys, monkeypatch) -> None:
    monkeypatch.setattr("jobs.export.PLAIN_LINE_EVERY_S", 0)
    with shown_progress(1500) as progress:
        progress(64)
        progress(1000)
    assert capsys.readouterr().err.splitlines() == ["64/1,500 videos exported", "1,064/1,500 videos exported"]


# ---------------------------------------------------------------- features


@pytest.fixture(scope="module")
def features_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """features/rgb and features/gray, 2 columns each, of two videos of 4 s, as a run leaves them."""
    folder = tmp_path_factory.mktemp("features") / "out"
    store = Store(str(folder))
    rows = [{"video_id": name, "uri": f"/{name}", "labels": [], "label_ids": []} for name in ("v0", "v1")]
    write_manifest(store, pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA))
    of_clips = {"from": "clips/c", "model": "c3d", "weights": "random:0"}
    document = {
        "dataset": str(folder),
        "source": {"kind": "directory", "videos": "/"},
        "clips": {"c": {"frames": 8, "fps": 8}},
        "features": {"rgb": of_clips, "gray": of_clips},
    }
    config = Config.model_validate(document).model_dump(mode="json", by_alias=True)
    store.put(
        CONFIG_FILE,
        json.dumps({"config": config, "files_sha256": {"features/rgb": "1", "features/gray": "2"}}).encode(),
    )
    _, plan = stored_plan(str(folder))
    for product in (plan.product("features/rgb"), plan.product("features/gray")):
        for unit in plan.units:
            video_id = rows[unit.start_row]["video_id"]
            times = [{"start_s": float(t), "center_s": t + 0.5, "end_s": t + 1.0} for t in range(4)]
            table = [
                {"video_id": video_id, "clip_id": f"{video_id}@{t}", "view": "center", "label_ids": [], **time}
                | {"embedding": [float(t), float(product.name == "gray")]}
                for t, time in enumerate(times)
            ]
            with receipts.begin(store, product, unit) as writer:
                writer.table(
                    f"part-{unit.index:06d}.parquet", pa.Table.from_pylist(table, schema=feature_schema(2, "{}"))
                )
                writer.commit([LedgerRow(video_id, "", "ok", num_items=4)], items=4)
    return folder


@pytest.mark.parametrize("to", ["opentad", "actionformer", "npy", "mmaction2"])
def test_features_of_two_products(export, features_dataset, tmp_path, to) -> None:
    out = tmp_path / "out"
    ended = export(features_dataset, "--product", "features/gray", "--out", out, to=to, product="features/rgb")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "of 4 columns (features/rgb 2 | features/gray 2)" in ended.stdout
    if to == "mmaction2":
        assert len((out / "csv/v_v1.csv").read_text().splitlines()) == 101
        return
    expected = [[t, 0, t, 1] for t in range(4)]
    assert np.load(out / "features/v1.npy").tolist() == expected
    assert "row t is centred on (t * 8 + 4) / 8 s" in ended.stdout
    again = export(features_dataset, "--product", "features/gray", "--out", out, to=to, product="features/rgb")
    assert (again.returncode, again.stdout) == (0, ended.stdout)


def test_a_length_of_features(export, features_dataset, tmp_path) -> None:
    ended = export(features_dataset, "--out", tmp_path / "o", "--length", "6", to="npy", product="features/rgb")
    assert ended.returncode == 0, ended.stderr
    assert np.load(tmp_path / "o/features/v0.npy").shape == (6, 2)


def test_one_line_for_a_wrong_length(export, features_dataset, tmp_path) -> None:
    ended = export(features_dataset, "--out", tmp_path / "o", "--length", "most", to="npy", product="features/rgb")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("reelmill: --length most: give valid, padded or the number of rows")
