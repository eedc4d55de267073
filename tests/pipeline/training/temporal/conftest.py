"""Made-up features of untrimmed videos in which two things happen now and then, and their annotations in files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.graph import Product
from pipeline.training.tasks import settings_of
from pipeline.training.temporal.dataset import TemporalData, load_temporal
from schemas.heads import TemporalSettings

NAMES = ("jump", "run", "swim", "wave")  # of the manifest's labels
STEP_S, WINDOW_S = 1.6, 3.2
SUBSETS = {"train": "training", "val": "validation", "test": "testing"}


def write_json(path: Path, videos: Sequence[Any], **more: Any) -> str:
    """The segments of `videos` as ActivityNet json; `more` are further entries of its database."""
    entries: dict[str, Any] = {}
    for video in videos:
        annotations = [{"segment": [start, end], "label": NAMES[k]} for start, end, k in video.segments]
        entries[video.video_id] = {"subset": SUBSETS.get(video.split, "none"), "annotations": annotations}
    path.write_text(json.dumps({"database": entries | more}))
    return str(path)


@pytest.fixture
def make_segment_task(video: Any) -> Callable[..., list[Any]]:
    """`jump` and `run` of 3 to 8 steps each, never two at once; a video has one to three of them, or none."""

    def make(num_videos: int, *, dim: int = 8, seed: int = 0, splits: Sequence[str | None] = (None,)) -> list[Any]:
        random = np.random.default_rng(seed)
        looks = random.normal(size=(2, dim)) * 1.5
        videos = []
        for index in range(num_videos):
            num_steps = int(random.integers(20, 36))
            clips = random.normal(scale=0.3, size=(num_steps, dim))
            segments, at = [], int(random.integers(0, 6))
            for _ in range(index % 4):
                length, label = int(random.integers(3, 9)), int(random.integers(0, 2))
                if at + length >= num_steps:
                    break
                clips[at : at + length] += looks[label]
                # step t is the instant at the middle of window t, WINDOW_S / 2 after its beginning
                start_s, end_s = (t * STEP_S + WINDOW_S / 2 for t in (at - 0.5, at + length - 0.5))
                segments.append((start_s, end_s, label))
                at += length + int(random.integers(2, 6))
            videos.append(
                video(
                    f"video-{index:04d}",
                    tuple(sorted({label for *_, label in segments})),
                    clips.astype(np.float32),
                    splits[index // 4 % len(splits)],
                    step_s=STEP_S,
                    segments=tuple(segments),
                )
            )
        return videos

    return make


@pytest.fixture
def write_activitynet(tmp_path: Path) -> Callable[..., str]:
    """Writes the segments of videos as ActivityNet json and gives its path."""
    return lambda videos, **more: write_json(tmp_path / "truth.json", videos, **more)


@pytest.fixture
def head_of(dataset: Any) -> Callable[..., Product]:
    """A small temporal head on all feature products of the dataset."""

    def make(kind: str = "actionformer", **settings: Any) -> Product:
        small: dict[str, Any] = {"levels": 3} if kind == "actionformer" else {"anchors": [3, 4, 6, 8]}
        values = {"channels": 16, "epochs": 3, "warmup_epochs": 1, **small, **settings}
        return replace(dataset.head("h"), settings={"kind": kind, "features": list(dataset.features), **values})

    return make


@pytest.fixture
def load(dataset: Any) -> Callable[[Product], TemporalData]:
    """What a head would be trained on."""

    def read(product: Product) -> TemporalData:
        settings = settings_of(product.settings)
        assert isinstance(settings, TemporalSettings)
        return load_temporal(dataset.source(product), settings)

    return read
