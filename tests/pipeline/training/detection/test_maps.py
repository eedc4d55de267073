"""Maps on storage: where they lie, which instants they answer for, at which step, and what can't stand side by side."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import receipts
from pipeline.training.detection.loader import MapLoader
from pipeline.training.detection.maps import Maps, read_maps
from schemas.errors import ReelmillError, StorageError


def read(world: Any) -> Maps:
    upstream = {product.path: product.fingerprint for product in world.features.values()}
    return read_maps(world.store, upstream, world.units, where="heads/who")[0]


def test_maps_stand_by_video_and_start(world: Any, parts: Any) -> None:
    videos = [parts.Video(f"v{index:02d}", seconds=3) for index in range(10)]  # two units
    videos[4].status = "failed"
    world.write(videos)
    maps = read(world)
    assert maps.video_ids == tuple(f"v{index:02d}" for index in range(10) if index != 4)
    assert maps.offsets.tolist() == [3 * index for index in range(10)]
    assert maps.windows[3:6].tolist() == [[0, 0.5, 1], [1, 1.5, 2], [2, 2.5, 3]]
    assert maps.keys[3:6] == ("v01@0", "v01@1000", "v01@2000")
    assert maps.unit[[0, 20, 21, 26]].tolist() == [0, 0, 1, 1]
    assert maps.shape == (2, 6, 8)
    assert maps.blocks == (4,)
    assert maps.step_s == 0.5


def test_a_map_is_read_alone(world: Any, parts: Any) -> None:
    actor = parts.Actor(1, (0.25, 0.5, 0.75, 1.0))
    videos = [parts.Video(f"v{index:02d}", (actor,), seconds=2) for index in range(9)]
    world.write(videos)
    world.write(videos, name="more", dtype=np.float32)
    maps = read(world)
    assert maps.blocks == (4, 4)
    with closing(MapLoader(world.store, maps)) as loader:
        (found, other) = loader.batches([np.array([17, 2]), np.array([3])])
    assert found.shape == (2, 8, 2, 6, 8)
    assert found.dtype == np.float32
    for values, (index, start_s) in zip([*found, *other], [(8, 1.0), (1, 0.0), (1, 1.0)], strict=True):
        expected = parts.make_map(videos[index], start_s, world.view_px)
        assert np.array_equal(values[:4], expected.astype(np.float16).astype(np.float32))
        assert np.array_equal(values[4:], expected.astype(np.float32))


@pytest.mark.parametrize(
    ("second", "start_s"),
    [(0.0, 0.0), (0.7, 0.0), (0.75, 0.0), (0.8, 0.5), (1.2, 0.5), (1.5, None), (3.0, 3.0), (3.9, 3.0), (4.0, None)],
)
def test_the_window_that_is_centred_nearest_answers(
    world: Any, parts: Any, second: float, start_s: float | None
) -> None:
    """Windows of a second at 0, 0.5 and 3; of two equally near the earlier one; ends are not theirs."""
    world.write([parts.Video("a", starts_s=(0.0, 0.5, 3.0), seconds=4)])
    maps = read(world)
    (row,) = maps.answer(0, np.array([second]))
    assert (None if row < 0 else maps.windows[row, 0]) == start_s


def test_the_step_of_an_instant(world: Any, parts: Any) -> None:
    """A window from second 3 on of 8 frames at 8 fps in 2 steps of 4 frames: their middles are 3.25 and 3.75."""
    world.write([parts.Video("a", starts_s=(3.0,), seconds=4)])
    maps = read(world)
    second = np.array([3.25, 3.75, 3.5, 3.0])
    assert maps.step_at(np.zeros(4, np.int64), second).tolist() == [0.0, 1.0, 0.5, -0.5]


def test_a_view_is_told_in_shares_of_the_videos_frame(world: Any, parts: Any) -> None:
    """Clips of 48×64 are the middle of frames of 60×80, and the view is their left half."""
    world.clips = {"resize": (60, 80), "crop": (48, 64)}
    world.view_px = (0, 0, 48, 32)
    world.write([parts.Video("a")])
    assert np.allclose(read(world).view, [8 / 80, 6 / 60, 40 / 80, 54 / 60])


def test_a_crop_of_frames_of_unknown_size_is_refused(world: Any, parts: Any) -> None:
    world.clips = {"resize": None, "short_side": 60, "crop": (48, 64)}
    world.write([parts.Video("a")])
    with pytest.raises(ReelmillError, match=r"clips/rgb is cropped to 48×64 .* so annotated boxes can't be placed"):
        read(world)


# ---------------------------------------------------------------- what is refused


def test_products_of_other_windows(world: Any, parts: Any) -> None:
    world.write([parts.Video("a"), parts.Video("b")])
    world.write([parts.Video("a"), parts.Video("b", starts_s=(0.0, 1.0, 2.5, 3.0))], name="more")
    with pytest.raises(ReelmillError, match=r"features/maps and features/more were cut differently: .* of video b "):
        read(world)


def test_products_of_other_steps(world: Any, parts: Any) -> None:
    world.write([parts.Video("a")])
    world.write([parts.Video("a")], name="more", steps=4)
    with pytest.raises(ReelmillError, match=r"their maps are of 2×6×8 and 4×6×8 \(steps×rows×columns\)"):
        read(world)


def test_products_of_other_rates(world: Any, parts: Any) -> None:
    world.write([parts.Video("a")])
    world.clips = {"fps": 4}
    world.write([parts.Video("a")], name="more")
    with pytest.raises(ReelmillError, match=r"a step of their maps is 0\.5 s and 1 s; .* of one stride only"):
        read(world)


def test_views_that_cover_other_parts(world: Any, parts: Any) -> None:
    world.view_px = (0, 0, 48, 32)
    world.write([parts.Video("a")])
    world.view_px = (0, 32, 48, 32)
    world.write([parts.Video("a")], name="more")
    with pytest.raises(ReelmillError, match=r"cover different parts of the frames of video a; give both the same crop"):
        read(world)


def test_maps_of_several_sizes(world: Any, parts: Any) -> None:
    world.write([parts.Video("a"), parts.Video("b", channels=5)])
    with pytest.raises(ReelmillError, match=r"several sizes \(video a: 4×2×6×8, video b: 5×2×6×8; .* preprocess\.crop"):
        read(world)


def test_vectors(world: Any, parts: Any) -> None:
    world.write([parts.Video("a")])
    product = world.features["maps"]
    ledger = receipts.read_ledger(world.store, product.path, 0)
    receipts.retract(world.store, product.path, 0)  # what stands would be kept
    with receipts.begin(world.store, product, world.units[0]) as writer:
        writer.file("part-000000.parquet").write(b"")
        writer.commit(ledger, items=0)
    with pytest.raises(ReelmillError, match=r"features/maps: holds vectors, .* with dense: true"):
        read(world)


def test_no_maps_at_all(world: Any, parts: Any) -> None:
    world.write([parts.Video("a", status="failed")])
    with pytest.raises(ReelmillError, match="heads/who: no video has maps; see the ledger"):
        read(world)


def test_damage_is_named(world: Any, parts: Any) -> None:
    world.write([parts.Video("a")])
    path = Path(world.store.path("features/maps/maps-000000.tar"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReelmillError, match=r"maps-000000\.tar is missing or damaged"):
        read(world)
    at = whole.index(b"\x93NUMPY")
    path.write_bytes(whole[:at] + b"\0" * 6 + whole[at + 6 :])
    with (
        closing(MapLoader(world.store, read(world))) as loader,
        pytest.raises(StorageError, match="features/maps: map a@3000 can't be used"),
    ):
        list(loader.batches([np.arange(4)]))
