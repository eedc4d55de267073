"""Batches of keyframes: what is in them, how workers share them, and the normalisation."""

from typing import Any

import numpy as np
import torch

from pipeline.training.detection.batches import eval_batches, fit_channels, train_batches
from pipeline.training.detection.dataset import load_detection
from pipeline.training.normalise import Normaliser
from pipeline.training.task import Share
from pipeline.training.tasks import settings_of


def loaded(world: Any, videos: list[Any]) -> Any:
    world.write(videos, dtype=np.float32)
    product = world.head(world.ava())
    return load_detection(world.source(product), settings_of(product.settings))  # type: ignore[arg-type]


def test_mean_and_spread_are_those_of_the_training_maps(world: Any, make_videos: Any, parts: Any) -> None:
    videos = make_videos(24)
    data = loaded(world, videos)
    found = fit_channels("standard", world.store, data)
    maps = np.stack(
        [
            parts.make_map(v, s, world.view_px).astype(np.float32)
            for v in videos
            if v.split == "train"
            for s in v.windows
        ]
    ).astype(np.float64)
    assert np.allclose(found.mean, maps.mean(axis=(0, 2, 3, 4)), rtol=1e-6)
    assert np.allclose(found.std, maps.std(axis=(0, 2, 3, 4)), rtol=1e-6)
    batches = eval_batches(world.store, data, found, data.keys_of("train"))
    normal = torch.cat([batch.maps for batch in batches]).double()
    assert torch.allclose(normal.mean(dim=(0, 2, 3, 4)), torch.zeros(4, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(normal.std(dim=(0, 2, 3, 4), correction=0), torch.ones(4, dtype=torch.float64), atol=1e-5)


def test_two_workers_have_between_them_what_one_has(world: Any, make_videos: Any) -> None:
    data = loaded(world, make_videos(16, seconds=3))
    plain = Normaliser("none", np.zeros(4, np.float32), np.ones(4, np.float32))

    def epoch(rank: int, world_size: int) -> list[Any]:
        share = Share(seed=1, epoch=2, rank=rank, world_size=world_size)
        return list(train_batches(world.store, data, plain, share, batch_size=5))

    alone, first, second = epoch(0, 1), epoch(0, 2), epoch(1, 2)
    assert len(alone) == len(first) == len(second) == 5
    keys = np.concatenate([batch.keys for batch in alone])
    assert sorted(keys) == data.keys_of("train").tolist()
    for whole, one, other in zip(alone, first, second, strict=True):
        shared = [batch.keys[batch.weights.numpy() > 0] for batch in (one, other)]
        assert sorted(np.concatenate(shared)) == sorted(whole.keys)
        assert torch.equal(one.maps, whole.maps[::2])
        assert one.total == other.total == len(whole.keys)
    resumed = train_batches(world.store, data, plain, Share(seed=1, epoch=2, first_step=3), batch_size=5)
    assert [batch.keys.tolist() for batch in resumed] == [batch.keys.tolist() for batch in alone[3:]]


def test_a_keyframe_comes_with_its_own_map_and_boxes(world: Any, make_videos: Any, parts: Any) -> None:
    videos = make_videos(8)
    data = loaded(world, videos)
    plain = Normaliser("none", np.zeros(4, np.float32), np.ones(4, np.float32))
    (batch,) = eval_batches(world.store, data, plain, np.array([9, 2]))
    for row, key in enumerate((9, 2)):
        video, second = videos[data.keys.video[key]], data.keys.second[key]
        assert np.array_equal(batch.maps[row], parts.make_map(video, second, world.view_px).astype(np.float32))
        (box,) = batch.targets[row].box.tolist()
        assert np.allclose(box, video.actors[0].at(second), atol=1e-4)  # four digits in the csv
    assert batch.boxes is None
