"""What a synthetic dataset is made of: every setting, checked once, here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from pipeline.synth.motion import CATALOGUE
from schemas.errors import UsageError

MIN_SIDE_PX = 48  # under this an actor is a smudge and its motion can't be seen


@dataclass(frozen=True, kw_only=True)
class SynthSpec:
    """All settings of one dataset; equal settings and package versions give equal bytes.

    Raises UsageError, one sentence, where a value is out of range.
    """

    num_classes: int = 8  # the first of `motion.CATALOGUE`
    videos_per_class: int = 10  # trimmed videos
    num_untrimmed: int = 0
    width_px: int = 176
    height_px: int = 144
    fps: float = 25.0
    duration_s: float = 4.0  # of a trimmed video; segments of untrimmed ones are around this long
    untrimmed_s: float = 30.0
    seed: int = 0
    split: tuple[float, float, float] = (0.6, 0.2, 0.2)  # train, val, test shares
    num_actors: int = 1
    backgrounds: str | None = None  # a folder of images and videos; None: procedural textures
    camera_jitter_px: float = 0.0  # amplitude of a smooth global shift, the same for every class
    flow: bool = False  # also write true flow
    crf: int = 18
    gop: int = 50  # frames between key frames

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_frames()
        if len(self.split) != 3 or min(self.split) < 0 or abs(sum(self.split) - 1) > 1e-6:
            raise UsageError(f"split must be three shares of train, val and test that sum to 1, got {self.split}")

    def _check_counts(self) -> None:
        if not 1 <= self.num_classes <= len(CATALOGUE):
            raise UsageError(f"classes must be between 1 and {len(CATALOGUE)}, got {self.num_classes}")
        if self.videos_per_class < 0 or self.num_untrimmed < 0:
            raise UsageError(f"counts of videos can't be negative: {self.videos_per_class}, {self.num_untrimmed}")
        if self.videos_per_class == 0 and self.num_untrimmed == 0:
            raise UsageError("nothing to make: ask for trimmed videos per class, untrimmed videos, or both")
        if self.seed < 0:
            raise UsageError(f"seed must be 0 or more, got {self.seed}")
        if not 1 <= self.num_actors <= 8:
            raise UsageError(f"actors must be between 1 and 8, got {self.num_actors}")

    def _check_frames(self) -> None:
        size = (self.width_px, self.height_px)
        if min(size) < MIN_SIDE_PX or self.width_px % 2 or self.height_px % 2:
            raise UsageError(f"size must be even and at least {MIN_SIDE_PX} a side, got {size[0]}x{size[1]}")
        if not 1 <= self.fps <= 240:
            raise UsageError(f"fps must be between 1 and 240, got {self.fps}")
        if self.num_frames(self.duration_s) < 4:
            raise UsageError(f"{self.duration_s} s at {self.fps} fps is under 4 frames; ask for longer videos")
        if self.num_untrimmed and self.untrimmed_s < 2 * self.duration_s:
            raise UsageError(
                f"an untrimmed video of {self.untrimmed_s} s has no room for segments of about {self.duration_s} s; "
                "make it at least twice as long"
            )
        if not 0 <= self.crf <= 51 or self.gop < 1:
            raise UsageError(f"crf must be 0 to 51 and gop 1 or more, got {self.crf} and {self.gop}")
        if not 0 <= self.camera_jitter_px <= min(size) / 8:
            raise UsageError(f"camera jitter must be 0 to {min(size) / 8:g} px here, got {self.camera_jitter_px}")

    @property
    def classes(self) -> tuple[str, ...]:
        return CATALOGUE[: self.num_classes]

    @property
    def rate(self) -> Fraction:
        """Frames per second as an exact fraction; 29.97 and 23.976 become n·1000/1001."""
        for base in (24, 30, 60, 120):
            if abs(self.fps - base * 1000 / 1001) < 0.005:
                return Fraction(base * 1000, 1001)
        return Fraction(self.fps).limit_denominator(1000)

    @property
    def short_px(self) -> int:
        """The short side of a frame: the unit of speeds and of actor sizes."""
        return min(self.width_px, self.height_px)

    def num_frames(self, seconds: float) -> int:
        return round(seconds * self.rate)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "split": list(self.split)}
