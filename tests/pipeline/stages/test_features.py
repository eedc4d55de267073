"""The features stage on a small, real clips product: shards and receipts written as the clips stage writes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline import receipts
from pipeline.backbones import build
from pipeline.graph import Product, Unit
from pipeline.shards import ShardWriter
from pipeline.stages import CODE_VERSIONS, card_of, features
from pipeline.store import Store
from schemas.config import Clips, Features, Limits
from schemas.errors import ReelmillError
from schemas.ledger import LedgerRow
from schemas.receipt import Card, Receipt

UNIT = Unit(index=0, start_row=0, num_rows=5, rows_sha256="5" * 64)
LEDGER = [
    LedgerRow("a", "/videos/a.mp4", "ok", num_items=3),
    LedgerRow("b", "/videos/b.mp4", "failed", "corrupt", "its stream has no pictures"),
    LedgerRow("c", "/videos/c.mp4", "partial", "truncated", "ends early", 2),
    LedgerRow("d", "/videos/d.mp4", "filtered", "short", "too short"),
    LedgerRow("e", "/videos/e.mp4", "ok", num_items=1),
]
Members = dict[str, bytes]


def frames(seed: int, num_frames: int = 16, size: tuple[int, int] = (128, 171)) -> np.ndarray:
    """(T, H, W, 3) uint8 RGB: a coloured picture that drifts to the right."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), np.uint8)
    picture = cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.stack([np.roll(picture, 2 * t, axis=1) for t in range(num_frames)])


def sample(video_id: str, index: int, **kwargs: int) -> tuple[str, Members]:
    key = f"{video_id}-{index}"
    start_s = 3.2 * index
    facts = {
        "clip_id": key,
        "video_id": video_id,
        "start_s": start_s,
        "center_s": start_s + 1.6,
        "end_s": start_s + 3.2,
        "label_ids": [index, 7],
        "num_real_frames": 16,
        "height_px": 128,
        "width_px": 171,
    }
    members: Members = {}
    for t, rgb in enumerate(frames(sum(map(ord, key)), **kwargs)):
        members[f"{t:03d}.jpg"] = cv2.imencode(".jpg", rgb[..., ::-1])[1].tobytes()
    return key, {**members, "json": json.dumps(facts).encode()}


def clips_product(num_frames: int = 16) -> Product:
    settings = Clips(frames=num_frames, fps=5, resize=(128, 171)).model_dump(mode="json", by_alias=True)
    return Product("clips", "rgb16", settings, {}, 1)


def features_product(upstream: Product, **changes: object) -> Product:
    section = Features.model_validate(
        {"from": upstream.path, "model": "c3d", "weights": "random:1", "layer": "conv1a", "batch_size": 4, **changes}
    )
    return Product(
        "features",
        "c3d",
        section.model_dump(mode="json", by_alias=True),
        {upstream.path: upstream.fingerprint},
        CODE_VERSIONS["features"],
        "0" * 64,
    )


def write_clips(
    store: Store,
    samples: list[tuple[str, Members]],
    ledger: Sequence[LedgerRow] = LEDGER,
    *,
    num_frames: int = 16,
) -> None:
    """Commit a clips product of one unit."""
    product = clips_product(num_frames)
    card = Card(
        product=product.path,
        fingerprint=product.fingerprint,
        code_version=1,
        settings=dict(product.settings),
        upstream={},
        details={},
        versions={},
    )
    receipts.write_card(store, card)
    with receipts.begin(store, product, UNIT) as writer:
        shard = ShardWriter(writer.file("clips-000000.tar"))
        for key, members in samples:
            shard.add(key, members)
        shard.close()
        writer.commit(ledger, items=len(samples))


def all_samples() -> list[tuple[str, Members]]:
    return [sample("a", 0), sample("a", 1), sample("a", 2), sample("c", 0), sample("c", 1), sample("e", 0)]


@dataclass
class Opened:
    """A dataset with clips, and the stage that makes features of them. One model for all tests: C3D is large."""

    store: Store
    product: Product
    stage: features.FeatureStage
    card: Card

    def run(self, store: Store) -> tuple[Receipt, list[LedgerRow], pa.Table]:
        """Make the unit in another dataset with the same stage."""
        receipts.write_card(store, self.card)
        self.stage._store = store
        receipt = self.stage(UNIT)
        table = pq.read_table(store.path("features/c3d/part-000000.parquet"))
        return receipt, receipts.read_ledger(store, self.product.path, 0), table


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    store = Store(str(tmp_path_factory.mktemp("dataset")))
    write_clips(store, all_samples())
    product = features_product(clips_product())
    card = card_of(product, store)
    receipts.write_card(store, card)
    stage = features.open_stage(product, store, Limits())
    yield Opened(store, product, stage, card)
    stage.close()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "dataset"))


def product_bytes(store: Store) -> dict[str, bytes]:
    root = Path(store.path("features/c3d"))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# ---------------------------------------------------------------- one unit


def test_a_unit(opened: Opened, store: Store) -> None:
    write_clips(store, all_samples())
    receipt, ledger, table = opened.run(store)
    assert receipt.items == 6
    assert receipt.rows == {"ok": 2, "partial": 1, "failed": 1, "filtered": 1}
    assert [(row.video_id, row.status, row.reason, row.num_items) for row in ledger] == [
        ("a", "ok", "", 3),
        ("b", "failed", "upstream", 0),
        ("c", "partial", "truncated", 2),
        ("d", "filtered", "upstream", 0),
        ("e", "ok", "", 1),
    ]
    assert ledger[1].message == "clips/rgb16: its stream has no pictures"
    assert table["clip_id"].to_pylist() == ["a-0", "a-1", "a-2", "c-0", "c-1", "e-0"]
    assert table["label_ids"].to_pylist()[2] == [2, 7]
    assert set(table["view"].to_pylist()) == {"center"}
    assert table["start_s"].to_pylist()[1] == 3.2
    assert table["end_s"].to_pylist()[1] == 6.4
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 64)
    assert json.loads(table.schema.metadata[b"reelmill.card"]) == opened.card.model_dump(mode="json")


def test_the_vectors_are_the_model_s(opened: Opened, store: Store) -> None:
    """Each row against a plain forward of that clip alone, in fp32, from the stored JPEGs."""
    write_clips(store, all_samples())
    _, _, table = opened.run(store)
    net = build("c3d", weights="random:1")
    for row in (1, 5):
        _, members = all_samples()[row]
        stored = [cv2.imdecode(np.frombuffer(members[f"{t:03d}.jpg"], np.uint8), 1) for t in range(16)]
        pixels = np.stack(stored)[None, :, 8:120, 29:141].astype(np.float32)  # BGR, as C3D wants it
        x = torch.from_numpy(pixels - np.float32((95.13514237, 102.86287664, 107.75984221))).permute(0, 4, 1, 2, 3)
        with torch.inference_mode():
            expected = net.features(x.contiguous(), layer="conv1a")[0].numpy()
            swapped = net.features(x.flip(1).contiguous(), layer="conv1a")[0].numpy()
        found = np.array(table["embedding"][row].as_py())
        cosine = found @ expected / np.linalg.norm(found) / np.linalg.norm(expected)
        assert cosine >= 0.9995
        assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
        assert np.abs(swapped - expected).max() > 0.05 * np.abs(expected).max(), "the bar would see swapped colours"


def test_same_bytes_whoever_makes_them(opened: Opened, store: Store, tmp_path: Path) -> None:
    other = Store(str(tmp_path / "other"))
    for one in (store, other):
        write_clips(one, all_samples())
        opened.run(one)
    assert product_bytes(store) == product_bytes(other)
    assert sorted(product_bytes(store)) == [
        "_card.json",
        "_ledger/000000.parquet",
        "_receipts/000000.json",
        "part-000000.parquet",
    ]


def test_a_broken_clip_fails_its_video_only(opened: Opened, store: Store) -> None:
    samples = all_samples()
    samples[1][1]["009.jpg"] = b"no picture at all"
    write_clips(store, samples)
    receipt, ledger, table = opened.run(store)
    assert table["clip_id"].to_pylist() == ["c-0", "c-1", "e-0"]
    assert receipt.rows == {"ok": 1, "partial": 1, "failed": 2, "filtered": 1}
    assert (ledger[0].status, ledger[0].reason, ledger[0].num_items) == ("failed", "clip", 0)
    assert ledger[0].message.startswith("clip a-1 can't be used: ")
    assert "009.jpg" in ledger[0].message


def test_a_clip_of_another_length_fails_its_video(opened: Opened, store: Store) -> None:
    samples = all_samples()
    samples[5] = sample("e", 0, num_frames=9)
    write_clips(store, samples)
    _, ledger, table = opened.run(store)
    assert ledger[4].status == "failed"
    assert ledger[4].message == (
        "clip e-0 can't be used: it holds 9×128×171×3, and its json and the card of clips/rgb16 say 16×128×171×3 "
        "(frames×height×width×channels): the shard was damaged after it was written"
    )
    assert table.num_rows == 5


def test_a_missing_clip_fails_its_video(opened: Opened, store: Store) -> None:
    write_clips(store, [*all_samples()[:2], *all_samples()[3:5]])  # one of a's three; all of e's
    _, ledger, table = opened.run(store)
    assert ledger[0].message.startswith("2 of its 3 clips are in the shard")
    assert ledger[4].message.startswith("0 of its 1 clips are in the shard")
    assert table["clip_id"].to_pylist() == ["c-0", "c-1"]


def test_features_that_are_not_finite_fail_their_video(
    opened: Opened, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = opened.stage._engine.run

    def poisoned(clips: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for place, values in enumerate(real(clips)):
            if place == 3:
                values[10] = np.inf
            yield values

    monkeypatch.setattr(opened.stage._engine, "run", poisoned)
    write_clips(store, all_samples())
    _, ledger, table = opened.run(store)
    assert ledger[2].status == "failed"
    assert ledger[2].message == "clip c-0 gave NaN or Inf in conv1a"
    assert set(table["video_id"].to_pylist()) == {"a", "e"}


def test_an_empty_unit_gives_a_valid_empty_table(opened: Opened, store: Store) -> None:
    ledger = [LedgerRow(row.video_id, row.uri, "failed", "corrupt", "no pictures") for row in LEDGER]
    write_clips(store, [], ledger)
    receipt, _, table = opened.run(store)
    assert receipt.items == table.num_rows == 0
    assert receipt.rows["failed"] == 5
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 64)


def test_a_sample_nobody_can_place_stops_the_unit(opened: Opened, store: Store) -> None:
    samples = all_samples()
    samples[3][1]["json"] = b"{}"
    write_clips(store, samples)
    with pytest.raises(ReelmillError, match="sample c-0: its json is missing or damaged"):
        opened.run(store)
    assert receipts.load(store, "features/c3d", 0) is None
    assert set(product_bytes(store)) == {"_card.json"}, "nothing half-written"


def test_a_clip_that_the_ledger_does_not_count_stops_the_unit(opened: Opened, store: Store) -> None:
    write_clips(store, [*all_samples(), sample("b", 0)])
    with pytest.raises(ReelmillError, match="clip b-0 is of a video that the ledger of its product doesn't count"):
        opened.run(store)


def test_a_damaged_shard_stops_the_unit(opened: Opened, store: Store) -> None:
    write_clips(store, all_samples())
    shard = Path(store.path("clips/rgb16/clips-000000.tar"))
    shard.write_bytes(shard.read_bytes()[:100_000])
    with pytest.raises(ReelmillError, match=r"clips-000000\.tar is missing or damaged \(unexpected end of data\)"):
        opened.run(store)
    shard.unlink()
    with pytest.raises(ReelmillError, match=r"clips-000000\.tar is missing or damaged"):
        opened.run(store)


def test_upstream_must_stand(opened: Opened, store: Store) -> None:
    write_clips(store, all_samples())
    receipts.retract(store, "clips/rgb16", 0)
    with pytest.raises(ReelmillError, match="clips/rgb16 unit 000000 is not made yet"):
        opened.run(store)


# ---------------------------------------------------------------- the card


def test_the_card(opened: Opened) -> None:
    details = opened.card.details
    assert (details["model"], details["layer"], details["dim"]) == ("c3d", "conv1a", 64)
    assert details["weights"]["words"] == "random weights, seed 1: asked for by name"
    assert details["weights"]["unused"] == []
    assert details["preprocessing"]["crop"] == [112, 112]
    assert details["views"] == {"views": 1, "crops": 1, "flip": False, "rows": "one row a view", "frame_px": [128, 171]}
    assert details["window"] == {"frames": 16, "words": "each clip of clips/rgb16 whole"}
    assert details["deviations"] == []
    assert "minus the mean [95.1351, 102.863, 107.76]" in details["preprocessing"]["words"]
    assert details["precision"]["asked"] == "auto"
    assert details["precision"]["why"]
    assert details["precision"]["difference_to_fp32"]["cosine_min"] >= 0.9995
    assert details["threads"] == torch.get_num_threads()
    assert json.loads(json.dumps(details)) == details, "plain JSON values"


def test_a_card_of_other_settings_is_refused(opened: Opened) -> None:
    other = features_product(clips_product(), layer="fc7")
    with pytest.raises(ReelmillError, match="features/c3d: its card is of other settings"):
        features.open_stage(other, opened.store, Limits())


def test_the_meter_knows_what_a_unit_cost(opened: Opened, metered, store: Store) -> None:
    write_clips(store, all_samples())
    work = metered(opened.stage, lambda: opened.run(store)[0])
    assert (work.videos, work.items, work.reasons) == (5, 6, {"upstream": 1, "truncated": 1})
    assert work.bytes_in == Path(store.path("clips/rgb16/clips-000000.tar")).stat().st_size
    assert work.source_s > 0
