"""Which videos a dataset has: ids, splits, labels, segments. Cheap, and a function of the settings alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.synth.motion import STILL
from pipeline.synth.spec import SynthSpec

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Frames [start, end) in which one actor performs `label`."""

    label: str
    start_frame: int
    end_frame: int
    actor: int | None  # None: all of them


@dataclass(frozen=True, slots=True)
class VideoPlan:
    """One video to make. `stretches` are in time order; between them every actor is still."""

    kind: Literal["trimmed", "untrimmed"]
    index: int  # among its kind; with the seed it fixes all random draws
    video_id: str  # 11 characters of a hash; says nothing about the class
    split: Split
    num_frames: int
    stretches: tuple[Stretch, ...]

    @property
    def label(self) -> str:
        """The class of a trimmed video."""
        return self.stretches[0].label


def plan_videos(spec: SynthSpec) -> list[VideoPlan]:
    """All videos: trimmed ones class by class, then untrimmed ones. Asking for more untrimmed keeps the first ones."""
    return [*_trimmed(spec), *_untrimmed(spec)]


def video_id(*parts: object) -> str:
    """An 11-character id in the manner of YouTube's."""
    number = int.from_bytes(hashlib.sha256(repr(parts).encode()).digest())
    letters = []
    for _ in range(11):
        number, digit = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[digit])
    return "".join(letters)


def split_of(index: int, total: int, shares: tuple[float, float, float]) -> Split:
    """The split of item `index` of `total`: the first ones train, then val, then test, by rounded shares."""
    if index < round(total * shares[0]):
        return "train"
    return "val" if index < round(total * (shares[0] + shares[1])) else "test"


def _trimmed(spec: SynthSpec) -> Iterator[VideoPlan]:
    num_frames = spec.num_frames(spec.duration_s)
    for label_id, label in enumerate(spec.classes):
        for nth in range(spec.videos_per_class):
            index = label_id * spec.videos_per_class + nth
            yield VideoPlan(
                kind="trimmed",
                index=index,
                video_id=video_id("trimmed", spec.seed, index),
                split=split_of(nth, spec.videos_per_class, spec.split),
                num_frames=num_frames,
                stretches=(Stretch(label, 0, num_frames, None),),
            )


def _untrimmed(spec: SynthSpec) -> Iterator[VideoPlan]:
    rng = np.random.default_rng([spec.seed, 2])
    deck = _deck([label for label in spec.classes if label != STILL], rng)
    for index in range(spec.num_untrimmed):
        num_frames = spec.num_frames(spec.untrimmed_s)
        yield VideoPlan(
            kind="untrimmed",
            index=index,
            video_id=video_id("untrimmed", spec.seed, index),
            split=split_of(index, spec.num_untrimmed, spec.split),
            num_frames=num_frames,
            stretches=tuple(_stretches(spec, num_frames, deck, rng)),
        )


def _deck(labels: list[str], rng: np.random.Generator) -> Iterator[str]:
    """Endless labels in which each class comes equally often."""
    while True:
        yield from (labels[i] for i in rng.permutation(len(labels)))


def _stretches(spec: SynthSpec, num_frames: int, deck: Iterator[str], rng: np.random.Generator) -> Iterator[Stretch]:
    """Segments of 0.5 to 1.25 durations with still stretches of 0.25 to 0.75 between them."""
    done = 0
    while True:
        start = done + max(1, spec.num_frames(spec.duration_s * rng.uniform(0.25, 0.75)))
        end = start + max(4, spec.num_frames(spec.duration_s * rng.uniform(0.5, 1.25)))
        if end > num_frames and done:
            return
        end = min(end, num_frames)  # the first one always has room
        yield Stretch(next(deck), start, end, int(rng.integers(spec.num_actors)))
        done = end
