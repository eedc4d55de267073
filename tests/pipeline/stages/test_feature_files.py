"""Vectors as Parquet and maps as WebDataset, from small real shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
from feature_dataset import (
    UNIT,
    Made,
    all_clips,
    clips_product,
    features_product,
    forward,
    make_features,
    stored_frames,
    write_clips,
    write_product,
)

from pipeline import receipts
from pipeline.stages import card_of, features
from pipeline.store import Store
from schemas.config import Limits
from schemas.errors import ReelmillError

pytestmark = pytest.mark.usefixtures("small_models")


def maps_of(made: Made) -> dict[str, dict[str, Any]]:
    """Read as anyone would, with webdataset."""
    url = made.store.path("features/f/maps-000000.tar")
    dataset = webdataset.WebDataset(url, shardshuffle=False, empty_check=False).decode()
    return {sample["__key__"]: sample for sample in dataset}


@pytest.mark.parametrize("dense", [False, True])
def test_batches_of_any_size_give_the_same_rows(store: Store, tmp_path: Path, dense: bool) -> None:
    clips = write_clips(store)
    settings = {"crops": 3, "window": {"frames": 4, "stride": 2}, "dense": dense}
    alone = make_features(store, clips, batch_size=1, **settings)
    other = Store(str(tmp_path / "other"))
    write_product(other, clips, all_clips())
    together = make_features(other, clips, batch_size=64, **settings)
    if dense:
        a, b = maps_of(alone), maps_of(together)
        assert list(a) == list(b)
        for key in a:
            np.testing.assert_allclose(a[key]["npy"], b[key]["npy"], rtol=1e-4, atol=1e-4)
        return
    assert [{**row, "embedding": None} for row in alone.rows] == [{**row, "embedding": None} for row in together.rows]
    np.testing.assert_allclose(alone.matrix, together.matrix, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("settings", [{"crops": 10}, {"dense": True, "dtype": "float16", "flip": True}])
def test_the_same_bytes_again(store: Store, tmp_path: Path, settings: dict[str, Any]) -> None:
    clips = write_clips(store)
    other = Store(str(tmp_path / "other"))
    write_product(other, clips, all_clips())
    made = make_features(store, clips, **settings)
    assert made.files == make_features(other, clips, **settings).files
    assert made.files == make_features(store, clips, **settings).files


def test_maps(store: Store) -> None:
    made = make_features(store, write_clips(store), dense=True)
    maps = maps_of(made)
    assert list(maps) == ["a@0", "a@1", "b@0", "c@0", "c@1"]
    one = maps["a@1"]
    assert (one["npy"].shape, one["npy"].dtype, one["cls"]) == ((12, 4, 8, 8), np.float32, 1)
    expected = forward(stored_frames(1)[:, 4:20, 8:24], dense=True)
    np.testing.assert_allclose(one["npy"], expected, rtol=1e-4, atol=1e-4)
    about = {
        "key": "a@1",
        "clip_id": "a@1",
        "video_id": "a",
        "view": "center",
        "start_s": 1.6,
        "center_s": 2.4000000000000004,
        "end_s": 3.2,
        "label_ids": [1],
        "first_frame": 0,
        "num_frames": 8,
        "frame_height_px": 24,
        "frame_width_px": 32,
        "top_px": 4,
        "left_px": 8,
        "height_px": 16,
        "width_px": 16,
        "channels": 12,
        "steps": 4,
        "map_height": 8,
        "map_width": 8,
        "frames_per_step": 2.0,
        "px_per_row": 2.0,
        "px_per_column": 2.0,
    }
    assert one["json"] == {**about, "layer": "conv2"}
    index = pq.read_table(store.path("features/f/_index/000000.parquet")).to_pylist()
    assert index[1] == about
    assert len(index) == made.receipt.items == 5
    assert sorted(made.files) == [
        "_card.json",
        "_index/000000.parquet",
        "_ledger/000000.parquet",
        "_receipts/000000.json",
        "maps-000000.tar",
    ]
    assert made.card.details["dim"] == 12
    assert made.card.details["maps"]["shape"] == [12, 4, 8, 8]


def test_maps_of_windows_and_views_pooled_over_time_in_float16(store: Store) -> None:
    clips = write_clips(store)
    window = {"frames": 4, "stride": 4}
    whole = maps_of(make_features(store, clips, dense=True, window=window, flip=True))
    made = make_features(store, clips, dense=True, window=window, flip=True, time_pool="mean", dtype="float16")
    maps = maps_of(made)
    assert list(maps)[:5] == [
        "a@0-000000-center",
        "a@0-000000-center_flip",
        "a@0-000004-center",
        "a@0-000004-center_flip",
        "a@1-000000-center",
    ]
    assert made.card.details["maps"]["shape"] == [12, 1, 8, 8]
    for key, sample in maps.items():
        assert (sample["npy"].shape, sample["npy"].dtype) == ((12, 1, 8, 8), np.float16)
        mean = whole[key]["npy"].mean(axis=1, keepdims=True)
        np.testing.assert_allclose(sample["npy"], mean, rtol=1e-3, atol=1e-3)
        assert sample["json"]["frames_per_step"] == 4


def test_maps_beyond_float16_fail_their_video(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = write_clips(store)
    product = features_product(clips, dense=True, dtype="float16")
    receipts.write_card(store, card_of(product, store))
    stage = features.open_stage(product, store, Limits())
    real = stage._engine.run
    monkeypatch.setattr(
        stage._engine, "run", lambda inputs: (values * (1e6 if k == 2 else 1) for k, values in enumerate(real(inputs)))
    )
    stage(UNIT)
    row = receipts.read_ledger(store, product.path, 0)[1]
    assert row.status == "failed"
    assert row.message.startswith("clip b@0 gave ")
    assert row.message.endswith(" in conv2, more than float16 holds; set dtype: float32")


def test_a_video_with_a_broken_clip_leaves_no_map(store: Store) -> None:
    clips, samples = clips_product(), all_clips()
    samples[1][1]["003.jpg"] = b"no picture"
    write_product(store, clips, samples)
    made = make_features(store, clips, dense=True, flip=True)
    assert {sample["json"]["video_id"] for sample in maps_of(made).values()} == {"b", "c"}
    assert made.ledger[0].message.startswith("clip a@1 can't be used: ")
    assert [row.num_items for row in made.ledger] == [0, 2, 4]


def test_a_product_is_of_vectors_or_of_maps(store: Store) -> None:
    """Switched either way, and with what a run that was killed in between left."""
    clips = write_clips(store)
    vectors = make_features(store, clips).files
    maps = make_features(store, clips, dense=True).files
    assert {name for name in maps if "/" not in name} == {"_card.json", "maps-000000.tar"}
    root = Path(store.path("features/f"))
    for left in ("maps-000000.tar", "_index/000000.parquet"):  # killed after the receipt was taken back
        (root / left).with_suffix(".kept").write_bytes((root / left).read_bytes())
    assert {**make_features(store, clips).files}.keys() - vectors.keys() == {"maps-000000.kept", "_index/000000.kept"}
    for left in ("maps-000000.tar", "_index/000000.parquet"):
        (root / left).with_suffix(".kept").rename(root / left)
    receipts.retract(store, "features/f", 0)
    assert make_features(store, clips).files == vectors
    (root / "maps-000000.tar").write_bytes(b"")
    receipts.retract(store, "features/f", 0)
    (root / "part-000000.parquet").write_bytes(b"of a killed run")
    assert make_features(store, clips, dense=True).files == maps


def test_an_empty_unit_of_maps(store: Store) -> None:
    clips, samples = clips_product(), all_clips()
    for _, members in samples:
        members["000.jpg"] = b""
    write_product(store, clips, samples)
    made = make_features(store, clips, dense=True)
    assert maps_of(made) == {}
    assert pq.read_table(store.path("features/f/_index/000000.parquet")).num_rows == 0
    assert made.receipt.rows["failed"] == 3


def test_stale_clips_are_refused(store: Store) -> None:
    clips = write_clips(store)
    product = features_product(clips)
    receipts.write_card(store, card_of(product, store))
    stage = features.open_stage(product, store, Limits())
    changed = clips_product(fps=6)
    write_product(store, changed, all_clips())
    with pytest.raises(ReelmillError, match="clips/rgb unit 000000 is stale"):
        stage(UNIT)
    assert json.loads(Path(store.path("features/f/_card.json")).read_text())["code_version"] == 2
