"""Clips in any order: what enters the net is what the features stage gives it, or what a seed makes of that."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch
from clip_dataset import FRAMES, SIZE, ClipDataset, Video, px, videos_of

from pipeline import backbones
from pipeline.backbones.network import Network
from pipeline.flow.encode import decode_stored
from pipeline.shards import read_sample, read_shard
from pipeline.stages.clip_inputs import ClipInputs, read_upstream
from pipeline.stages.clip_stream import clip_of
from pipeline.store import Store
from pipeline.training.clips.augment import augmented, draw
from pipeline.training.clips.dataset import StoredClip
from pipeline.training.clips.loader import ClipLoader, Wanted
from schemas.config import Features
from schemas.errors import StorageError
from schemas.heads import Augment
from schemas.preprocess import PreprocessSection

AUGMENT = Augment(crop_scale=(0.6, 0.9), flip=True, brightness=0.3, contrast=0.3)


def net_of(kind: str, **preprocess: Any) -> Network:
    model = "small_rgb" if kind == "clips" else "small_flow"
    return backbones.build(model, weights="random:0", preprocess=PreprocessSection.model_validate(preprocess))


def open_loader(
    dataset: ClipDataset, net: Network, *, size: tuple[int, int] = SIZE, augment: Augment = AUGMENT
) -> closing[ClipLoader]:
    (path,) = dataset.products
    upstream = read_upstream(dataset.store, path)
    return closing(ClipLoader(dataset.store, upstream, net.spec.preprocessing, size=size, augment=augment))


def stored(dataset: ClipDataset) -> tuple[StoredClip, ...]:
    return dataset.task().data.clips


@pytest.mark.parametrize(
    ("kind", "settings", "preprocess", "size"),
    [
        ("clips", {}, {}, SIZE),
        ("clips", {"encoding": "npy"}, {"crop": [24, 28]}, (24, 28)),
        ("clips", {}, {"resize": [48, 50], "crop": [40, 44]}, (40, 44)),
        ("flow", {}, {}, SIZE),
        ("flow", {"encoding": "jpeg", "bound": 8}, {"crop": [24, 28]}, (24, 28)),
        ("flow", {"encoding": "npy"}, {}, SIZE),
    ],
)
def test_the_centre_view_is_that_of_the_features_stage(
    clips: ClipDataset, kind: str, settings: dict[str, Any], preprocess: dict[str, Any], size: tuple[int, int]
) -> None:
    """What enters the net, after `normalise`, to the bit: for every clip of every unit, backwards."""
    product = clips.write(videos_of(6), kind=kind, **settings)
    net = net_of(kind, **preprocess)
    section = Features.model_validate({"from": product.path, "model": net.spec.name, "weights": "random:0"})
    upstream = read_upstream(clips.store, product.path)
    inputs, meanings = ClipInputs(upstream, net.spec, section), upstream.level_meanings
    expected = {}
    for unit in clips.units:
        with clips.store.open(f"{product.path}/{kind}-{unit.index:06d}.tar") as shard:
            for key, members in read_shard(shard):
                clip = clip_of(key, members)
                ((_, pixels),) = inputs.rows(clip, inputs.decode(clip, members))
                meaning = None if meanings is None else torch.from_numpy(meanings)
                batch = torch.from_numpy(np.ascontiguousarray(pixels))[None]
                expected[key] = net.spec.preprocessing.normalise(batch, meaning=meaning)
    wanted = [Wanted(clip, None) for clip in reversed(stored(clips))]
    assert len(wanted) == len(expected) == 12
    with open_loader(clips, net, size=size) as loader:
        for one in wanted:
            found = net.spec.preprocessing.normalise(torch.from_numpy(loader.read(one))[None])
            assert torch.equal(found, expected[one.clip.clip_id])
    assert len({value.numpy().tobytes() for value in expected.values()}) == 12


def test_levels_of_flow_become_px_before_they_are_scaled(clips: ClipDataset) -> None:
    clips.write(videos_of(6), kind="flow", bound=10)
    clip = stored(clips)[0]
    with open_loader(clips, net_of("flow"), augment=Augment(crop_scale=(1, 1))) as loader:
        plain = loader.read(Wanted(clip, None))
    assert plain.dtype == np.float32
    np.testing.assert_allclose(plain, px("video-000_0", 0), atol=10 / 255 + 1e-6)
    half = Augment(crop_scale=(0.5, 0.5))
    with open_loader(clips, net_of("flow"), augment=half) as loader:
        enlarged = loader.read(Wanted(clip, 3))
    assert enlarged.shape == plain.shape
    assert abs(float(enlarged[..., 0].mean()) + 4) < 0.3, "a picture twice as large moves twice as far: -2 px to -4"


def test_a_mirrored_clip_of_flow_goes_the_other_way(clips: ClipDataset) -> None:
    clips.write(videos_of(6), kind="flow")
    clip = stored(clips)[0]
    augment = Augment(crop_scale=(1, 1), flip=True)
    with open_loader(clips, net_of("flow"), augment=augment) as loader:
        plain = loader.read(Wanted(clip, None))
        found = [loader.read(Wanted(clip, seed)) for seed in range(8)]
    mirrored = plain[:, :, ::-1] * np.array([-1, 1], np.float32)
    kinds = ["mirrored" if np.array_equal(one, mirrored) else "plain" for one in found]
    assert set(kinds) == {"mirrored", "plain"}
    assert all(np.array_equal(one, plain) for one, kind in zip(found, kinds, strict=True) if kind == "plain")


def test_an_augmented_clip_is_a_function_of_its_seed(clips: ClipDataset) -> None:
    clips.write(videos_of(6))
    clip, other = stored(clips)[:2]
    with open_loader(clips, net_of("clips")) as loader:
        found = [loader.read(Wanted(clip, seed)) for seed in (1, 2)]
        loader.read(Wanted(other, 1))
        again = [loader.read(Wanted(clip, seed)) for seed in (2, 1)]
        whole = loader.read(Wanted(clip, None))
    np.testing.assert_array_equal(found[0], again[1])
    np.testing.assert_array_equal(found[1], again[0])
    assert not np.array_equal(found[0], found[1])
    drawn = draw(AUGMENT, frame=SIZE, size=SIZE, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(found[0], augmented(whole, drawn, size=SIZE))


def test_training_crops_come_from_the_frames_that_the_recipe_resizes_to(clips: ClipDataset) -> None:
    clips.write(videos_of(6))
    clip = stored(clips)[0]
    net, augment = net_of("clips", resize=[64, 80], crop=[48, 48]), Augment(crop_scale=(0.5, 0.5))
    with open_loader(clips, net, size=(48, 48), augment=augment) as loader:
        found = loader.read(Wanted(clip, 5))
    with open_loader(clips, net_of("clips", resize=[64, 80])) as loader:
        whole = loader.read(Wanted(clip, 5))
        assert whole.shape == (FRAMES, *SIZE, 3)
    frames = net.spec.preprocessing.fit(_decoded(clips, clip))
    drawn = draw(augment, frame=(64, 80), size=(48, 48), rng=np.random.default_rng(5))
    np.testing.assert_array_equal(found, augmented(frames, drawn, size=(48, 48)))


def _decoded(dataset: ClipDataset, clip: StoredClip) -> np.ndarray:
    upstream = read_upstream(dataset.store, "clips/rgb")
    with dataset.store.open(f"clips/rgb/clips-{clip.unit:06d}.tar") as shard:
        return upstream.decode(read_sample(shard, clip.span))


# ---------------------------------------------------------------- batches


def test_a_batch_is_its_clips_side_by_side(clips: ClipDataset) -> None:
    clips.write(videos_of(6))
    wanted = [Wanted(clip, None) for clip in stored(clips)]
    with open_loader(clips, net_of("clips")) as loader:
        batches = list(loader.batches(wanted[at : at + 5] for at in range(0, 12, 5)))
        one_by_one = np.stack([loader.read(one) for one in wanted])
    assert [len(batch) for batch in batches] == [5, 5, 2]
    assert batches[0].dtype == torch.uint8
    np.testing.assert_array_equal(torch.cat(batches).numpy(), one_by_one)


def test_who_stops_in_the_middle_leaves_no_thread_and_no_open_shard(
    clips: ClipDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips.write(videos_of(15))
    found = stored(clips)
    opened: list[Any] = []
    plain = Store.open

    def noting(self: Store, path: str) -> Any:
        opened.append(plain(self, path))
        return opened[-1]

    monkeypatch.setattr(Store, "open", noting)
    with open_loader(clips, net_of("clips")) as loader:
        opened.clear()  # the card's
        batches = loader.batches([Wanted(clip, None)] for clip in found)
        next(batches)
        batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("clips")]
    assert opened
    assert all(file.closed for file in opened)


# ---------------------------------------------------------------- bad input


def _damage(dataset: ClipDataset, clip: StoredClip, what: bytes, by: bytes) -> None:
    path = dataset.root / f"clips/rgb/clips-{clip.unit:06d}.tar"
    data = bytearray(path.read_bytes())
    place = data.index(what, clip.span.start, clip.span.stop)
    data[place : place + len(by)] = by
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("what", "by"),
    [(b"\xff\xd8\xff", b"\0" * 300), (b"video-003_1.000.jpg", b"video-003_1.900.jpg"), (b"ustar", b"\1" * 20)],
)
def test_a_damaged_sample_is_named(clips: ClipDataset, what: bytes, by: bytes) -> None:
    clips.write(videos_of(6))
    found = stored(clips)
    clip = next(clip for clip in found if clip.clip_id == "video-003_1")
    _damage(clips, clip, what, by)
    with open_loader(clips, net_of("clips")) as loader, pytest.raises(StorageError) as error:
        list(loader.batches([Wanted(one, None)] for one in found))
    assert str(error.value).startswith("clips/rgb: clip video-003_1 can't be used: ")
    assert "\n" not in str(error.value)


def test_a_shard_that_goes_while_it_is_read_is_named(clips: ClipDataset) -> None:
    clips.write(videos_of(6))
    clip = stored(clips)[0]
    (clips.root / "clips/rgb/clips-000000.tar").unlink()
    with open_loader(clips, net_of("clips")) as loader, pytest.raises(StorageError, match="clip video-000_0 can't be"):
        loader.read(Wanted(clip, None))


def test_frames_of_another_size_than_the_index_says_are_named(clips: ClipDataset) -> None:
    clips.write([*videos_of(5), Video("video-005", (1,), split="val", size=(36, 40))])
    clip = stored_any(clips)[-1]
    lie = StoredClip(clip.unit, clip.span, clip.clip_id, clip.video_id, clip.label_ids, SIZE)
    with open_loader(clips, net_of("clips")) as loader, pytest.raises(StorageError) as error:
        loader.read(Wanted(lie, None))
    assert str(error.value) == (
        "clips/rgb: clip video-005_1 can't be used: it holds (6, 36, 40, 3), and its index and card say (6, 32, 40, 3) "
        "(T, H, W, C)"
    )


def stored_any(dataset: ClipDataset) -> tuple[StoredClip, ...]:
    """Of clips of several sizes."""
    return dataset.task(preprocess={"crop": [32, 32]}).data.clips


def test_decode_stored_of_npy_is_px(clips: ClipDataset) -> None:
    """What the loader leaves as it is where there are no levels."""
    clips.write(videos_of(6), kind="flow", encoding="npy")
    clip = stored(clips)[0]
    upstream = read_upstream(clips.store, "flow/tvl1")
    with clips.store.open("flow/tvl1/flow-000000.tar") as shard:
        members = read_sample(shard, clip.span)
    with open_loader(clips, net_of("flow")) as loader:
        np.testing.assert_array_equal(loader.read(Wanted(clip, None)), decode_stored(members, upstream.settings))  # type: ignore[arg-type]
