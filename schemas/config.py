"""The config of one dataset: one pydantic model per section. Unknown keys are errors."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from schemas.budget import Budget
from schemas.extraction import Features as Features
from schemas.heads import ClipClassifierHead, FeatureHead, Head, HeadBase, RoIHead, SequenceSettings
from schemas.pools import Pools
from schemas.section import Section
from schemas.sources import ActivityNetSource, Source, Thumos14Source

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")  # product names become folder names and parts of paths


# ---------------------------------------------------------------- execution


class Units(Section):
    """The unit of work, of retry, of resume and of output (one shard a unit)."""

    videos_per_unit: int | None = Field(default=None, ge=1)  # default: 64, fewer in manifests under 2,048 rows
    # A unit ends before its videos hold more than this (10^9 bytes; at least one video), so that units of long videos
    # are not hours of work to lose, or to wait for at the end. A video whose size the manifest lacks counts nothing.
    gb_per_unit: float = Field(default=1.0, gt=0)

    def size(self, num_rows: int) -> int:
        """Rows per unit. Small manifests get small units, so that every core has work and progress shows."""
        if self.videos_per_unit is not None:
            return self.videos_per_unit
        return min(64, 1 << max(0, (num_rows // 32).bit_length() - 1))

    @property
    def bytes_per_unit(self) -> int:
        """Bytes of videos per unit."""
        return int(self.gb_per_unit * 1e9)


class Limits(Section):
    """What one video may cost before it becomes a failed ledger row. Never part of a fingerprint."""

    stall_s: float = Field(default=60.0, gt=0)  # seconds without one new decoded frame
    video_s: float = Field(default=7200.0, gt=0)  # seconds for one video altogether
    # private memory (heap, anonymous maps) of the decoder process beyond what it has at its start
    memory_gb: float = Field(default=4.0, gt=0)


# ---------------------------------------------------------------- products


class Clips(Section):
    """Windows of T frames at `fps`, taken on the source's presentation clock.

    Frame k of a clip that starts at s is the frame on display at s + k / fps.
    """

    frames: int = Field(ge=1)
    fps: float = Field(gt=0, le=1000)
    windows: Literal["stride", "uniform", "random", "segment"] = "stride"
    stride_s: float | None = Field(default=None, ge=0.001)  # stride: seconds between starts; default frames / fps
    num_clips: int | None = Field(default=None, ge=1)  # uniform, random: clips per video
    seed: int = 0  # random
    # the last window, where the video ends inside it: leave it out, repeat its last frame, or start it over.
    # A video shorter than one window always gives one clip, unless the policy is drop.
    tail: Literal["drop", "pad", "loop"] = "pad"
    resize: tuple[int, int] | None = None  # (height, width), aspect ignored
    short_side: int | None = Field(default=None, ge=8)  # aspect kept, the other side rounded to even
    crop: tuple[int, int] | None = None  # (height, width), centred, after the resize
    filter: Literal["bilinear", "area"] = "bilinear"  # bilinear: no antialias; area: box average when shrinking
    encoding: Literal["jpeg", "mp4", "npy"] = "jpeg"
    quality: int = Field(default=95, ge=1, le=100)  # jpeg
    crf: int = Field(default=18, ge=0, le=51)  # mp4

    @model_validator(mode="after")
    def _consistent(self) -> Clips:
        if self.resize and self.short_side:
            raise ValueError("give resize or short_side, not both")
        if self.windows in ("uniform", "random") and self.num_clips is None:
            raise ValueError(f"windows: {self.windows} needs num_clips")
        if self.windows == "stride" and self.num_clips is not None:
            raise ValueError("num_clips goes with windows: uniform or random")
        if self.windows != "stride" and self.stride_s is not None:
            raise ValueError("stride_s goes with windows: stride")
        for size in (self.resize, self.crop):
            if size and min(size) < 8:
                raise ValueError(f"frames under 8 px a side are not supported, got {list(size)}")
        size = self.crop or self.resize
        if self.encoding == "mp4" and size and (size[0] % 2 or size[1] % 2):
            raise ValueError(f"an mp4 holds even sizes only, and this one would be {list(size)} (height, width)")
        if self.resize and self.crop and (self.crop[0] > self.resize[0] or self.crop[1] > self.resize[1]):
            raise ValueError(f"crop {list(self.crop)} does not fit inside resize {list(self.resize)}")
        return self

    @property
    def length_s(self) -> float:
        """Seconds that one clip covers: frames / fps."""
        return self.frames / self.fps

    @property
    def step_s(self) -> float:
        """Seconds between the starts of neighbouring windows (windows: stride)."""
        return self.stride_s if self.stride_s is not None else self.length_s


class TVL1(Section):
    """The parameters of TV-L1 with OpenCV's names and defaults; pipeline.flow.TVL1Params says what they do."""

    tau: float = Field(default=0.25, gt=0)
    lambda_: float = Field(default=0.15, gt=0, alias="lambda")
    theta: float = Field(default=0.3, gt=0)
    num_scales: int = Field(default=5, ge=1)
    num_warps: int = Field(default=5, ge=1)
    epsilon: float = Field(default=0.01, gt=0)
    inner_iterations: int = Field(default=30, ge=1)
    outer_iterations: int = Field(default=10, ge=1)
    scale_step: float = Field(default=0.8, gt=0, lt=1)
    gamma: float = Field(default=0.0, ge=0)
    median_filtering: Literal[1, 3, 5] = 5


MIN_FLOW_SIDE_PX = 16  # TV-L1 takes no smaller frames


class Flow(Section):
    """TV-L1 flow in the windows of a clips product, from the videos' own frames.

    Field k is the motion, in px, from the frame on display at start_s + k / fps to the one at start_s + (k + 1) / fps.
    """

    clips: str  # the name of a clips product
    # px: a component of this length or more gets the last of the 256 levels. npy is not quantised; there it only says
    # what counts as saturated.
    bound: float = Field(default=20.0, gt=0, le=16384)
    encoding: Literal["jpeg", "png", "npy"] = "jpeg"  # npy: float16
    quality: int = Field(default=95, ge=1, le=100)  # jpeg
    fps: float | None = Field(default=None, gt=0, le=1000)  # default: the clips'
    # T: one field for each frame of the window; the last one ends at the window's end. T-1: between its frames only.
    fields: Literal["T", "T-1"] = "T"
    # Frames are brought to this size before flow. Default: the clips' size; a resize or short_side of its own leaves
    # out the clips' crop, a crop of its own is cut from the clips' size.
    resize: tuple[int, int] | None = None
    short_side: int | None = Field(default=None, ge=MIN_FLOW_SIDE_PX)
    crop: tuple[int, int] | None = None
    filter: Literal["bilinear", "area"] | None = None
    params: TVL1 = TVL1()
    backend: Literal["auto", "cpu", "cuda", "opencv"] = "auto"

    def sampling(self, clips: Clips) -> Clips:
        """The windows of `clips`, with the size and filter of the frames that flow is computed on."""
        own_size = self.resize is not None or self.short_side is not None
        size = self if own_size else clips
        crop = self.crop or (None if own_size else clips.crop)
        return Clips.model_validate(
            {
                **clips.model_dump(),
                "resize": size.resize,
                "short_side": size.short_side,
                "crop": crop,
                "filter": self.filter or clips.filter,
                "encoding": "npy",
            }
        )

    def rate_fps(self, clips: Clips) -> float:
        """Frames a second on which flow is computed."""
        return clips.fps if self.fps is None else self.fps

    def num_fields(self, clips: Clips) -> int:
        """Fields of each clip."""
        return int(self._num_frames(clips)) - (self.fields == "T-1")

    def problem(self, clips: Clips) -> str | None:
        """Why flow can't be made of `clips`: `key: sentence`; None where it can."""
        try:
            frames = self.sampling(clips)
        except ValidationError as error:
            return f": {error.errors()[0]['ctx']['error']}"  # of Clips._consistent: each value is sound by itself
        size = frames.crop or frames.resize or (frames.short_side and (frames.short_side,))
        if size and min(size) < MIN_FLOW_SIDE_PX:
            return (
                f": its frames would be {' x '.join(map(str, size))} px, and TV-L1 takes {MIN_FLOW_SIDE_PX} px a side "
                "or more; give it a larger resize, short_side or crop of its own"
            )
        num_frames = self._num_frames(clips)
        if num_frames.denominator != 1:
            whole = max(1, round(num_frames))
            return (
                f".fps: clips of {clips.length_s:g} s hold {float(num_frames):g} frames at {self.fps:g} fps, which is "
                f"no whole number; {whole / clips.length_s:.6g} would give {whole}"
            )
        if self.num_fields(clips) < 1:
            return ".fields: clips of one frame have no field between two frames; set fields: T, or take longer clips"
        if self.params.gamma and self.backend == "cuda":
            return ".params.gamma: the cuda backend has no illumination term; set gamma: 0, or take backend: cpu"
        return None

    def _num_frames(self, clips: Clips) -> Fraction:
        # as decimals, like all numbers of a config: 2.56 s at 25 fps are 64 frames
        return clips.frames * Fraction(str(self.rate_fps(clips))) / Fraction(str(clips.fps))


# ---------------------------------------------------------------- the whole


class Config(Section):
    dataset: str
    source: Source
    units: Units = Units()
    pools: Pools = Pools()
    limits: Limits = Limits()
    budget: Budget = Budget()
    clips: dict[str, Clips] = Field(default_factory=dict)
    flow: dict[str, Flow] = Field(default_factory=dict)
    features: dict[str, Features] = Field(default_factory=dict)
    heads: dict[str, Head] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names(self) -> Config:
        for section in ("clips", "flow", "features", "heads"):
            for name in getattr(self, section):
                if not NAME.fullmatch(name):
                    raise ValueError(f"{section}.{name}: a name has letters, digits, _ and - only")
        for name, flow in self.flow.items():
            self._check_flow(name, flow)
        for name, feature in self.features.items():
            self._check_features(name, feature)
        for name, head in self.heads.items():
            self._check_head(name, head)
        return self

    def _check_flow(self, name: str, flow: Flow) -> None:
        if flow.clips not in self.clips:
            have = ", ".join(self.clips) or "no clips"
            raise ValueError(f"flow.{name}.clips: nothing is named {flow.clips!r}; this config has {have}")
        problem = flow.problem(self.clips[flow.clips])
        if problem:
            raise ValueError(f"flow.{name}{problem}")

    def _check_head(self, name: str, head: HeadBase) -> None:
        if isinstance(head, ClipClassifierHead):
            section, _, source = head.source.partition("/")
            if section not in ("clips", "flow") or source not in getattr(self, section):
                have = ", ".join([f"clips/{clips}" for clips in self.clips] + [f"flow/{flow}" for flow in self.flow])
                raise ValueError(
                    f"heads.{name}.from: nothing is named {head.source!r}; this config has {have or 'no clips'}"
                )
        if not isinstance(head, FeatureHead):
            return
        for feature_name in head.features:
            if feature_name not in self.features:
                have = ", ".join(self.features) or "no features"
                raise ValueError(f"heads.{name}.features: nothing is named {feature_name!r}; this config has {have}")
            self._check_trainable(f"heads.{name}.features: {feature_name}", self.features[feature_name], head)
        annotations = getattr(head, "annotations", None)
        is_dense = isinstance(head, SequenceSettings) and head.labels == "dense"
        takes_the_manifests = annotations.kind == "manifest" if annotations is not None else is_dense
        if takes_the_manifests and not isinstance(self.source, ActivityNetSource | Thumos14Source):
            raise ValueError(
                f"heads.{name}.annotations: a {self.source.kind} source has no segments; name the file that has them, "
                "e.g. {kind: activitynet, json: …}"
            )

    def _check_trainable(self, where: str, features: Features, head: HeadBase) -> None:
        if features.dense != isinstance(head, RoIHead):
            if features.dense:
                raise ValueError(f"{where} is maps (dense: true), and this head takes vectors")
            raise ValueError(f"{where} is vectors, and this head takes maps; set dense: true")
        if features.crops > 1 or features.flip:
            raise ValueError(
                f"{where} has several views of each clip (crops, flip), and heads are trained on the centre one alone; "
                "make features without them for this head"
            )

    def _check_features(self, name: str, features: Features) -> None:
        sources = {f"clips/{clips}": settings.frames for clips, settings in self.clips.items()}
        for flow, settings in self.flow.items():
            sources[f"flow/{flow}"] = settings.num_fields(self.clips[settings.clips])
        if features.source not in sources:
            have = ", ".join(sources) or "no clips"
            raise ValueError(f"features.{name}.from: nothing is named {features.source!r}; this config has {have}")
        num_frames = sources[features.source]
        if features.num_frames(num_frames) > num_frames:
            raise ValueError(
                f"features.{name}.window: windows of {features.num_frames(num_frames)} frames do not fit inside the "
                f"clips of {features.source}, which hold {num_frames}"
            )
