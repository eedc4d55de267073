"""Frames of stored clips at a second of their video: which one, and none where there is none to be had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline import receipts
from pipeline.graph import Product, Unit
from pipeline.shards import ShardWriter
from pipeline.store import Store
from pipeline.training.frames import FrameReader
from pipeline.video.encode import encode_clip, encode_frame
from schemas.clips import CLIP_INDEX_SCHEMA
from schemas.config import Clips, Features, Flow
from schemas.ledger import LedgerRow
from schemas.receipt import Card

FRAMES, FPS = 4, 2.0  # a clip is of 2 s
LAG_S = 0.125  # the source's frames stand a little before the clips' instants
UNITS = {"a": 0, "b": 0, "c": 1}  # video -> unit


def level(second: float) -> int:
    """How bright a frame is that the source shows from `second` on."""
    return round(second * 8)


class Stored:
    """A clips product of three videos with clips at 0, 1 and 5 s, the last of two real frames; features of it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.store = Store(str(folder))
        self.spec = Clips.model_validate(
            {"frames": FRAMES, "fps": FPS, "stride_s": 1.0, "resize": (16, 24), "encoding": "npy"} | settings
        )
        self.clips = Product("clips", "rgb", self.spec.model_dump(mode="json", by_alias=True), {}, 1)
        self.write_card(self.clips)
        for unit in sorted(set(UNITS.values())):
            self._write_unit(Unit(unit, 0, list(UNITS.values()).count(unit), "5" * 64))

    def _write_unit(self, unit: Unit) -> None:
        videos = [video for video, place in UNITS.items() if place == unit.index]
        index = []
        with receipts.begin(self.store, self.clips, unit) as writer:
            with ShardWriter(writer.file(f"clips-{unit.index:06d}.tar")) as shard:
                for video in videos:
                    for start_s, num_real in ((0.0, FRAMES), (1.0, FRAMES), (5.0, 2)):
                        pts_s = [start_s + min(k, num_real - 1) / FPS - LAG_S for k in range(FRAMES)]
                        row: dict[str, Any] = {
                            "clip_id": f"{video}@{start_s:g}".replace(".", "-"),
                            "video_id": video,
                            "start_s": start_s,
                            "center_s": start_s + num_real / FPS / 2,
                            "end_s": start_s + num_real / FPS,
                            "label_ids": [],
                            "frame_pts_s": pts_s,
                            "num_real_frames": num_real,
                            "height_px": 16,
                            "width_px": 24,
                        }
                        index.append(row)
                        frames = [self._picture(video, second) for second in pts_s]
                        members = encode_clip([encode_frame(frame, self.spec) for frame in frames], self.spec)
                        shard.add(row["clip_id"], {**members, "json": json.dumps(row).encode()})
            writer.table(f"_index/{unit.index:06d}.parquet", pa.Table.from_pylist(index, schema=CLIP_INDEX_SCHEMA))
            writer.commit([LedgerRow(video, video, "ok", num_items=3) for video in videos], items=len(index))

    @staticmethod
    def _picture(video: str, second: float) -> np.ndarray:
        picture = np.full((16, 24, 3), level(second + 1), np.uint8)
        picture[..., 0] += 80  # red: a swap of channels would show
        picture[..., 2] = 60 * ("abc".index(video) + 1)
        return picture

    def write_card(self, product: Product) -> None:
        card = Card(
            product=product.path,
            fingerprint=product.fingerprint,
            code_version=1,
            settings=dict(product.settings),
            upstream=dict(product.upstream),
            details={},
            versions={},
        )
        receipts.write_card(self.store, card)

    def features(self, source: Product) -> FrameReader:
        section = Features.model_validate({"from": source.path, "model": "c3d", "weights": "random:1"})
        settings = section.model_dump(mode="json", by_alias=True)
        self.write_card(Product("features", "c3d", settings, {source.path: source.fingerprint}, 1))
        return FrameReader(self.store, "features/c3d")

    def flow(self) -> Product:
        settings = Flow.model_validate({"clips": "rgb"}).model_dump(mode="json", by_alias=True)
        product = Product("flow", "tvl1", settings, {self.clips.path: self.clips.fingerprint}, 1)
        self.write_card(product)
        return product


def seen(picture: np.ndarray | None) -> tuple[str, float] | None:
    """The video and the second that a picture is of."""
    if picture is None:
        return None
    assert picture.shape == (16, 24, 3)
    assert picture.dtype == np.uint8
    red, green, blue = picture.reshape(-1, 3).mean(axis=0)
    assert abs(red - green - 80) < 4
    return "abc"[round(blue / 60) - 1], green / 8 - 1


@pytest.mark.parametrize(
    ("second", "pts_s"),
    [
        (0.0, -LAG_S),
        (0.49, 0.5 - LAG_S),  # the second clip has not begun; the frame that began at 0.375 s is no grid frame of it
        (0.9, 1.0 - LAG_S),
        (1.9, 2.0 - LAG_S),
        (2.5, 2.5 - LAG_S),  # in the second clip only
        (5.99, 5.5 - LAG_S),
    ],
)
def test_the_latest_stored_frame_that_is_on_display(tmp_path: Path, second: float, pts_s: float) -> None:
    data = Stored(tmp_path)
    assert seen(data.features(data.clips).at("b", second)) == ("b", pts_s)


@pytest.mark.parametrize("second", [-0.1, 3.0, 4.99, 6.0, 100.0])
def test_none_at_seconds_that_no_clip_covers(tmp_path: Path, second: float) -> None:
    data = Stored(tmp_path)
    assert data.features(data.clips).at("a", second) is None


@pytest.mark.parametrize("encoding", ["jpeg", "mp4", "npy"])
def test_each_encoding_and_each_unit(tmp_path: Path, encoding: str) -> None:
    data = Stored(tmp_path, encoding=encoding)
    reader = data.features(data.clips)
    for video in "abc":
        found = seen(reader.at(video, 2.6))
        assert found is not None
        assert found[0] == video
        assert found[1] == pytest.approx(2.5 - LAG_S, abs=0.4)


def test_features_of_flow_show_its_clips(tmp_path: Path) -> None:
    data = Stored(tmp_path)
    assert seen(data.features(data.flow()).at("c", 0.2)) == ("c", -LAG_S)


def test_unknown_videos_have_no_frames(tmp_path: Path) -> None:
    data = Stored(tmp_path)
    assert data.features(data.clips).at("d", 0.2) is None


def test_without_a_card_there_are_no_frames(tmp_path: Path) -> None:
    data = Stored(tmp_path)
    assert FrameReader(data.store, "features/none").at("a", 0.2) is None
    reader = data.features(data.clips)
    data.store.delete("clips/rgb/_card.json")
    assert reader.at("a", 0.2) is not None  # it was there when it was looked for
    assert FrameReader(data.store, "features/c3d").at("a", 0.2) is None


def test_clips_of_other_settings_are_not_what_the_features_saw(tmp_path: Path) -> None:
    data = Stored(tmp_path)
    data.features(data.clips)
    data.features(data.flow())
    again = data.spec.model_copy(update={"fps": 4.0}).model_dump(mode="json", by_alias=True)
    data.write_card(Product("clips", "rgb", again, {}, 1))
    assert FrameReader(data.store, "features/c3d").at("a", 0.2) is None  # of flow
    data.features(data.clips)
    assert FrameReader(data.store, "features/c3d").at("a", 0.2) is None


def test_flow_of_other_settings_is_not_what_the_features_saw(tmp_path: Path) -> None:
    data = Stored(tmp_path)
    flow = data.flow()
    data.features(flow)
    data.write_card(Product("flow", "tvl1", dict(flow.settings) | {"bound": 7}, dict(flow.upstream), 1))
    assert FrameReader(data.store, "features/c3d").at("a", 0.2) is None


@pytest.mark.parametrize("name", ["clips-000000.tar", "_index/000000.parquet"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_what_is_gone_or_damaged_has_no_frames(tmp_path: Path, name: str, damage: str) -> None:
    data = Stored(tmp_path)
    path = tmp_path / "clips/rgb" / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:700])
    reader = data.features(data.clips)
    assert reader.at("a", 0.2) is None
    assert seen(reader.at("c", 0.2)) == ("c", -LAG_S)  # of another unit


def test_a_damaged_picture_is_none(tmp_path: Path) -> None:
    data = Stored(tmp_path, encoding="jpeg")
    path = tmp_path / "clips/rgb/clips-000000.tar"
    path.write_bytes(path.read_bytes().replace(b"\xff\xd8\xff", b"\0\0\0", 1))  # the first jpeg of all
    reader = data.features(data.clips)
    assert reader.at("a", 0.2) is None
    assert reader.at("a", 0.6) is not None


def test_units_without_a_receipt_are_not_read(tmp_path: Path) -> None:
    data = Stored(tmp_path)
    data.store.delete(receipts.receipt_path("clips/rgb", 1))
    reader = data.features(data.clips)
    assert reader.at("a", 0.2) is not None
    assert reader.at("c", 0.2) is None
