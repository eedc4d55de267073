"""The `features` section: which model looks at what, and what is kept of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from schemas.preprocess import Preprocess, PreprocessSection
from schemas.section import Section


class SlidingWindow(Section):
    """Windows inside each stored clip: dense features of long videos without storing a frame twice."""

    frames: int = Field(ge=1)  # of each window
    stride: int = Field(ge=1)  # frames between the starts of neighbouring windows


class Features(Section):
    """What a named layer of a backbone says of each clip: pooled vectors, or with `dense` its maps."""

    source: str = Field(alias="from")  # clips/<name>, or flow/<name> for a model that takes flow
    model: str
    weights: str  # a file, or "random:SEED" to ask for random weights by name
    layer: str | None = None  # default: the model's own
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    batch_size: int = Field(default=16, ge=1)
    model_options: dict[str, str | int | float | bool] = Field(default_factory=dict)  # e.g. {pool5: symmetric}
    preprocess: Preprocess = PreprocessSection()  # a recipe's name, or what is to differ from the model's own
    crops: Literal[1, 3, 10] = 1  # 10: centre and corners, and their mirror images
    flip: bool = False  # mirror images, too
    window: SlidingWindow | None = None  # default: the whole clip
    dense: bool = False  # maps of C x T x H x W
    time_pool: Literal["none", "mean"] = "none"  # of the maps; mean: one map a window
    dtype: Literal["float16", "float32"] = "float32"  # of the maps

    @model_validator(mode="after")
    def _consistent(self) -> Features:
        for key, default in (("time_pool", "none"), ("dtype", "float32")):
            if not self.dense and getattr(self, key) != default:
                raise ValueError(f"{key}: {getattr(self, key)} is for maps, and this makes vectors; set dense: true")
        return self

    def num_frames(self, of_clip: int) -> int:
        """Frames that enter the net at once, of clips of so many."""
        return self.window.frames if self.window else of_clip
