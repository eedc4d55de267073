"""The `heads` section: what is trained on stored features, on stored maps, or (clip_classifier) on stored clips."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from schemas.annotation_files import BoxAnnotations, ManifestAnnotations, SegmentAnnotations
from schemas.budget import Allowance
from schemas.preprocess import Preprocess, PreprocessSection
from schemas.section import Section

Task = Literal["classification", "temporal", "detection", "clips"]
Overlap = Annotated[float, Field(gt=0, le=1)]  # an intersection over union
Positive = Annotated[float, Field(gt=0)]


class Holdout(Section):
    """How a source without val or test rows is split: by a hash of video_id, so that growth moves no video."""

    fraction: float = Field(default=0.2, gt=0, lt=1)
    seed: int = 0


class HeadBase(Section):
    """How any head is trained."""

    epochs: int = Field(default=60, ge=1)
    batch_size: int = Field(default=32, ge=1)
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    optimizer: Literal["adamw", "sgd"] = "adamw"  # sgd: Nesterov momentum of 0.9
    schedule: Literal["cosine", "step", "constant"] = (
        "cosine"  # step: a tenth after 60 % and again after 85 % of epochs
    )
    warmup_epochs: int = Field(default=0, ge=0)  # lr rises in equal steps, an epoch each
    patience: int = Field(default=15, ge=1)  # epochs without a better validation before stopping
    seed: int = 0
    holdout: Holdout = Holdout()

    @property
    def sources(self) -> tuple[str, ...]:
        """The products that this head is trained on, as `features/<name>` or `clips/<name>`."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> HeadBase:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs: {self.warmup_epochs} leaves none of the {self.epochs} epochs to train in")
        return self


class FeatureHead(HeadBase):
    features: tuple[str, ...] = Field(min_length=1)
    normalise: Literal["none", "l2", "standard"] = "standard"  # standard: train mean and std, per dimension

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(f"features/{name}" for name in self.features)

    @model_validator(mode="after")
    def _each_once(self) -> FeatureHead:
        twice = [name for place, name in enumerate(self.features) if name in self.features[:place]]
        if twice:
            raise ValueError(f"features: {twice[0]!r} stands here twice")
        return self


# ---------------------------------------------------------------- classes of whole videos


class SequenceSettings(FeatureHead):
    """A head that reads the clips of a video in time order."""

    # single: one class a video. multi: any number of classes a video. dense: any number at each clip's centre
    labels: Literal["single", "multi", "dense"] = "single"
    annotations: SegmentAnnotations | None = None  # dense: whose segments; default: the manifest's own
    missing: Allowance = 0  # dense: annotated videos without features

    @model_validator(mode="after")
    def _annotated(self) -> SequenceSettings:
        if self.annotations is not None and self.labels != "dense":
            raise ValueError(
                "annotations: these go with labels: dense; the labels of whole videos come from the source"
            )
        if self.labels == "dense" and getattr(self, "output", "many-to-many") == "many-to-one":
            raise ValueError("labels: dense needs a class for each clip; set output: many-to-many")
        return self


class LSTMHead(SequenceSettings):
    """LRCN's LSTM over a video's clips in time order."""

    kind: Literal["lstm"]
    output: Literal["many-to-one", "many-to-many"] = "many-to-one"
    hidden: int = Field(default=256, ge=1)
    layers: int = Field(default=1, ge=1)
    dropout: float = Field(default=0.5, ge=0, lt=1)
    linear_probe: bool = True  # train a linear probe beside it, for the comparison


class GRUHead(SequenceSettings):
    """The same with gated recurrent units."""

    kind: Literal["gru"]
    output: Literal["many-to-one", "many-to-many"] = "many-to-one"
    hidden: int = Field(default=256, ge=1)
    layers: int = Field(default=1, ge=1)
    dropout: float = Field(default=0.5, ge=0, lt=1)


class LinearHead(SequenceSettings):
    """A linear layer on each clip, its scores averaged: the multi-clip test."""

    kind: Literal["linear"]


class MeanPoolHead(SequenceSettings):
    """Two layers on the mean over a video's clips."""

    kind: Literal["mean_pool"]
    hidden: int = Field(default=256, ge=1)
    dropout: float = Field(default=0.5, ge=0, lt=1)

    @model_validator(mode="after")
    def _whole_videos(self) -> MeanPoolHead:
        if self.labels == "dense":
            raise ValueError("mean_pool has one answer a video, so labels can't be dense; take linear, lstm or gru")
        return self


class LateFusionHead(SequenceSettings):
    """Two streams or more, a branch on each feature product, fused by their class probabilities."""

    kind: Literal["late_fusion"]
    branch: Literal["linear", "mean_pool", "lstm", "gru"] = "linear"
    fusion: Literal["average", "learned"] = "average"  # learned: log-linear, from the product rule on
    hidden: int = Field(default=256, ge=1)
    dropout: float = Field(default=0.5, ge=0, lt=1)

    @model_validator(mode="after")
    def _streams(self) -> LateFusionHead:
        if len(self.features) < 2:
            raise ValueError("late_fusion fuses two feature products or more; one alone needs no fusion")
        if self.labels == "dense":
            raise ValueError("late_fusion has one answer a video, so labels can't be dense; take linear, lstm or gru")
        return self


# ---------------------------------------------------------------- segments in time


class SoftNMS(Section):
    """How detections that overlap are thinned out (Bodla et al. 2017, in one dimension)."""

    method: Literal["gaussian", "linear", "hard"] = "gaussian"
    sigma: float = Field(default=0.5, gt=0)  # gaussian
    tiou: float = Field(default=0.5, gt=0, le=1)  # linear, hard: overlaps from here on count
    agnostic: bool = False  # over all classes together
    min_score: float = Field(default=0.001, ge=0, lt=1)
    keep: int = Field(default=200, ge=1)  # detections a video


class TemporalSettings(FeatureHead):
    """A head that finds labelled segments."""

    annotations: SegmentAnnotations = ManifestAnnotations(kind="manifest")
    missing: Allowance = 0  # annotated videos without features
    protocol: Literal["activitynet", "thumos"] = "activitynet"  # of the metric
    tiou: tuple[Overlap, ...] = Field(default=(0.3, 0.4, 0.5, 0.6, 0.7), min_length=1)  # and of the best epoch's choice
    nms: SoftNMS = SoftNMS()
    pre_nms: int = Field(default=2000, ge=1)  # detections a video that enter it


class ActionFormerHead(TemporalSettings):
    """One-stage, anchor-free, multi-scale (the family of Zhang et al. 2022)."""

    kind: Literal["actionformer"]
    channels: int = Field(default=128, ge=8)
    levels: int = Field(default=5, ge=1, le=10)
    heads: int = Field(default=4, ge=1)
    window: int = Field(default=9, ge=1)  # steps that attention sees: odd, as many before as after
    dropout: float = Field(default=0.2, ge=0, lt=1)
    epochs: int = Field(default=40, ge=1)
    batch_size: int = Field(default=4, ge=1)
    warmup_epochs: int = Field(default=5, ge=0)  # a quarter of the epochs at most, unless it is said

    @model_validator(mode="before")
    @classmethod
    def _short_trainings_warm_up_less(cls, values: Any) -> Any:
        if isinstance(values, dict) and "warmup_epochs" not in values and isinstance(values.get("epochs"), int):
            return {**values, "warmup_epochs": max(0, min(5, values["epochs"] // 4))}
        return values

    @model_validator(mode="after")
    def _divides(self) -> ActionFormerHead:
        if self.channels % self.heads:
            raise ValueError(f"channels: {self.channels} can't be shared evenly by heads: {self.heads}")
        if self.window % 2 == 0:
            raise ValueError(f"window: an odd number of steps, got {self.window}")
        return self


class TALNetHead(TemporalSettings):
    """Two-stage: proposals from a tower per anchor scale, then classification of segments (Chao et al. 2018)."""

    kind: Literal["talnet"]
    channels: int = Field(default=128, ge=8)
    anchors: tuple[Positive, ...] = Field(
        default=(1, 2, 3, 4, 5, 6, 8, 11, 16), min_length=1
    )  # lengths, in anchor_steps
    anchor_steps: float = Field(default=1.0, gt=0)  # feature steps
    context: bool = True
    proposals: int = Field(default=300, ge=1)
    dropout: float = Field(default=0.5, ge=0, lt=1)
    epochs: int = Field(default=40, ge=1)
    batch_size: int = Field(default=4, ge=1)


# ---------------------------------------------------------------- boxes in space and time


class Linking(Section):
    """How detections of a video's keyframes become tubes: by class score and overlap, from keyframe to keyframe."""

    min_score: float = Field(default=0.05, ge=0, le=1)  # of a class in a keyframe
    min_iou: float = Field(default=0.2, ge=0, le=1)  # of a box and the last one of its tube
    max_gap: int = Field(default=2, ge=0)  # keyframes that a tube may miss
    min_keyframes: int = Field(default=1, ge=1)
    trim: bool = True  # its ends, where the class is not on (Viterbi)


class RoIHead(FeatureHead):
    """Who does what, where, in keyframes; and linked over time, in tubes. On dense maps."""

    kind: Literal["roi"]
    annotations: BoxAnnotations
    missing: Allowance = 0  # annotated keyframes without maps
    # learned: from the maps. truth: the annotated boxes. else a csv of person boxes in AVA's form, with scores
    proposals: str = "learned"
    min_box_score: float = Field(default=0.8, ge=0, le=1)  # of a csv's boxes
    normalise: Literal["none", "standard"] = "standard"  # per channel
    hidden: int = Field(default=128, ge=8)
    pool: int = Field(default=7, ge=1)
    max_boxes: int = Field(default=20, ge=1)  # a keyframe
    nms_iou: float = Field(default=0.5, gt=0, le=1)
    min_score: float = Field(default=0.01, ge=0, lt=1)
    iou: float = Field(default=0.5, gt=0, lt=1)  # of the metric
    linking: Linking = Linking()
    lr: float = Field(default=3e-3, gt=0)
    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=8, ge=1)


# ---------------------------------------------------------------- the feature network itself


class Augment(Section):
    """What is done to a training clip: to all of its frames alike."""

    crop_scale: tuple[float, float] = (0.8, 1.0)  # share of the frame's sides that a random crop keeps
    flip: bool = False  # half of the clips mirrored (flow's x changes its sign); not where left and right are classes
    brightness: float = Field(default=0.0, ge=0, lt=1)
    contrast: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _range(self) -> Augment:
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"crop_scale: two shares in (0, 1], the smaller first, got {list(self.crop_scale)}")
        return self


class ClipClassifierHead(HeadBase):
    """Trains a registered backbone on stored clips or flow; what comes out is weights for the features section."""

    kind: Literal["clip_classifier"]
    source: str = Field(alias="from")  # clips/<name>, or flow/<name> for a model that takes flow
    model: str
    weights: str  # to start from: a checkpoint, or "random:SEED" to train from scratch
    model_options: dict[str, str | int | float | bool] = Field(default_factory=dict)
    preprocess: Preprocess = PreprocessSection()
    augment: Augment = Augment()
    freeze: tuple[str, ...] = ()  # layers, by the names that `features: layer` takes: these and all before stay
    precision: Literal["fp32", "bf16"] = "fp32"  # of the arithmetic; weights are fp32
    epochs: int = Field(default=30, ge=1)
    batch_size: int = Field(default=16, ge=1)

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.source,)


Head = Annotated[
    LSTMHead
    | GRUHead
    | LinearHead
    | MeanPoolHead
    | LateFusionHead
    | ActionFormerHead
    | TALNetHead
    | RoIHead
    | ClipClassifierHead,
    Field(discriminator="kind"),
]


def task_of(head: HeadBase) -> Task:
    """What a head is trained to do."""
    if isinstance(head, ClipClassifierHead):
        return "clips"
    if isinstance(head, RoIHead):
        return "detection"
    return "temporal" if isinstance(head, TemporalSettings) else "classification"
