"""The `preprocess` section of features: how stored frames become a network's input."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from schemas.section import Section

Filter = Literal["bilinear", "area", "antialias"]


class PreprocessSection(Section):
    """A published recipe by name, and what is to differ from it. Order: resize, crop, colours, range, mean, std."""

    recipe: str | None = None  # default: the model's own
    resize: tuple[int, int] | Literal["none"] | None = None  # (height, width), aspect ignored; none: as they are stored
    short_side: int | None = Field(default=None, ge=8)  # aspect kept
    # bilinear: without antialias (OpenCV's); area: box average; antialias: triangle over the source's area (Pillow's)
    filter: Filter | None = None
    crop: tuple[int, int] | Literal["none"] | None = None  # (height, width); none: the whole frame
    colour: Literal["RGB", "BGR"] | None = None
    range: tuple[float, float] | None = None  # what 0 and 255 become
    # in units of `range`, in the order of `colour`; one number a channel, or a .npy volume of (T, H, W, C)
    mean: tuple[float, ...] | str | None = None
    std: tuple[float, ...] | None = None
    bound: float | None = Field(default=None, gt=0)  # flow: px that are cut, and become 1

    @model_validator(mode="after")
    def _consistent(self) -> PreprocessSection:
        if self.resize and self.short_side:
            raise ValueError("give resize or short_side, not both")
        for size in (self.resize, self.crop):
            if isinstance(size, tuple) and min(size) < 8:
                raise ValueError(f"frames under 8 px a side are not supported, got {list(size)}")
        if self.std is not None and min(self.std, default=0) <= 0:
            raise ValueError(f"std must be above 0, got {list(self.std)}")
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError(f"range goes from a lower to a higher number, got {list(self.range)}")
        return self


def _by_name(value: Any) -> Any:
    return {"recipe": value} if isinstance(value, str) else value


Preprocess = Annotated[PreprocessSection, BeforeValidator(_by_name)]  # `preprocess: deepmind` names a recipe
