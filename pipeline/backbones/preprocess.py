"""Preprocessing is part of a model: from stored frames to the numbers that enter it, in one order.

    RGB    resize -> crop -> colours -> range -> mean -> std
    flow   (frames are resized before flow is computed) -> crop -> px, cut at the bound -> divided by it

A recipe is a `Preprocessing` under the name of those who published it; a config may change any part of one.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from pipeline.backbones.identity import local_file
from schemas.errors import ReelmillError, UsageError
from schemas.preprocess import Filter, PreprocessSection

LEVELS = 255  # of rounded flow, beside 0


@dataclass(frozen=True, slots=True, eq=False)
class MeanVolume:
    """A mean for each place of the input."""

    path: str
    values: np.ndarray  # (T, H, W, C) float32, as large as the crop, C in the order of `colour`

    def __str__(self) -> str:
        return f"volume {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """A recipe. Sizes are (height, width) in px."""

    recipe: str
    modality: Literal["rgb", "flow"]
    fps: float | None  # of the published model's clips; None: it has no say
    resize: tuple[int, int] | None = None  # aspect ignored
    short_side: int | None = None  # aspect kept
    long_side: Literal["even", "floor", "round"] = "even"  # how the other side of short_side becomes whole
    filter: Filter = "bilinear"
    crop: tuple[int, int] | None = None  # the centre one's corner is rounded down; None: the whole frame
    colour: Literal["RGB", "BGR"] = "RGB"
    range: tuple[float, float] = (0.0, 255.0)  # what 0 and 255 become
    mean: tuple[float, ...] | MeanVolume = (0.0, 0.0, 0.0)  # in units of `range`, in the order of `colour`
    mean_source: str = ""
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    bound_px: float | None = None  # flow: cut at ± this, and divided by it
    is_rounded: bool = False  # flow: through whole levels, 128 + 255 px / (2 bound), where 0 px is not 0 but 1/255

    # ------------------------------------------------------------ frames, as numpy

    def fit(self, frames: np.ndarray) -> np.ndarray:
        """(T, H, W, C) stored frames at the size from which views are cut: uint8 RGB, or flow's uint8 levels or px.

        Raises ReelmillError for frames that can't be used: too small for the crop, or flow of another size.
        """
        channels = 3 if self.modality == "rgb" else 2
        if frames.ndim != 4 or frames.shape[3] != channels:
            raise ReelmillError(f"{self.modality} frames are (T, H, W, {channels}), got {frames.shape}")
        size = self.target(*frames.shape[1:3])
        if size != frames.shape[1:3]:
            if self.modality == "flow":
                raise ReelmillError(self._flow_size_sentence(frames.shape[1:3]))
            frames = np.stack([_resize(frame, size, self.filter) for frame in frames])
        if self.crop is not None and (size[0] < self.crop[0] or size[1] < self.crop[1]):
            raise ReelmillError(
                f"a crop of {_by(self.crop)} (height×width) does not fit inside frames of {_by(size)}; store larger "
                "clips, or set preprocess.short_side, resize or crop"
            )
        return frames

    def target(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that frames of this size are brought to before the crop; frames of the crop's size stay."""
        if (height, width) == self.crop:
            return height, width
        if self.resize is not None:
            return self.resize
        if self.short_side is None or self.short_side == min(height, width):
            return height, width
        long = self._whole(self.short_side * max(height, width) / min(height, width))
        return (self.short_side, long) if height <= width else (long, self.short_side)

    def _whole(self, side_px: float) -> int:
        if self.long_side == "even":
            return 2 * int(side_px / 2 + 0.5)  # ties go up, as where clips are stored
        return int(side_px) if self.long_side == "floor" else int(side_px + 0.5)

    def _flow_size_sentence(self, size: tuple[int, int]) -> str:
        wanted = f"short_side: {self.short_side}" if self.resize is None else f"resize: {list(self.resize)}"
        return (
            f"{self.recipe} computes flow on frames of {wanted}, and this flow is {_by(size)} (height×width): flow is "
            f"not resized after it was computed; set {wanted} in its flow section, or preprocess.resize: none here"
        )

    # ------------------------------------------------------------ tensors, on the device of the net

    def normalise(self, clips: Tensor, *, meaning: Tensor | None = None) -> Tensor:
        """(N, T, H, W, C) frames of a view -> (N, C, T, H, W) float32, channels last in memory.

        Of flow, `meaning` is the px that each of the 256 levels stands for; None where the clips are px.
        """
        if self.modality == "flow":
            assert self.bound_px is not None
            px = clips.float() if meaning is None else meaning[clips.int()]
            share = px.clamp(-self.bound_px, self.bound_px) / self.bound_px
            if self.is_rounded:
                share = (128 + LEVELS / 2 * share).round() * (2 / LEVELS) - 1
            return share.permute(0, 4, 1, 2, 3)
        # in place: each pass over fresh memory would cost a CPU as much again in page faults
        x = (clips.flip(-1) if self.colour == "BGR" else clips).to(torch.float32, copy=True)
        low, high = self.range
        if (low, high) != (0.0, 255.0):
            x.mul_((high - low) / 255).add_(low)
        if isinstance(self.mean, MeanVolume):
            x.sub_(torch.from_numpy(self.mean.values).to(x.device))
        elif any(self.mean):
            x.sub_(torch.tensor(self.mean, device=x.device))
        if any(std != 1 for std in self.std):
            x.div_(torch.tensor(self.std, device=x.device))
        return x.permute(0, 4, 1, 2, 3)

    # ------------------------------------------------------------ the card

    def facts(self) -> dict[str, Any]:
        """Every field, as plain JSON values, and all of it in one sentence."""
        facts = {name: getattr(self, name) for name in self.__slots__}
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in facts.items()}
        if isinstance(self.mean, MeanVolume):
            plain["mean"] = str(self.mean)
        return {**plain, "words": self.words()}

    def words(self) -> str:
        """The recipe in one sentence."""
        crop = "the whole frame is used" if self.crop is None else f"{_by(self.crop)} (height×width) are cropped"
        if self.modality == "flow":
            size = f"short side {self.short_side}" if self.resize is None else _by(self.resize)
            before = f"flow of frames of {size}" if self.resize or self.short_side else "flow of frames of any size"
            rounded = ", by way of whole levels, of which 128 is no motion" if self.is_rounded else ""
            cut = f"px are cut at ±{self.bound_px:g} and divided by it{rounded}"
            return f"{before}, computed after the resize; {crop}; {cut}"
        size = self._resize_words()
        if self.crop is not None:
            size = f"frames of the crop's size are used as they are, others: {size}"
        return (
            f"{size}; then {crop}; "
            f"{self.colour} order, values {self.range[0]:g} to {self.range[1]:g}, minus the mean "
            f"{self.mean if isinstance(self.mean, MeanVolume) else _numbers(self.mean)}"
            f"{f' ({self.mean_source})' if self.mean_source else ''}, divided by {_numbers(self.std)}"
        )

    def _resize_words(self) -> str:
        how = {
            "bilinear": "bilinear without antialias",
            "area": "box average",
            "antialias": "bilinear with antialias (Pillow)",
        }[self.filter]
        if self.resize is not None:
            return f"resized to {_by(self.resize)} (height×width), aspect ignored, {how}"
        if self.short_side is not None:
            rule = {"even": "to the nearest even number", "floor": "down", "round": "to the nearest number"}
            other = f"the other side rounded {rule[self.long_side]}"
            return f"resized to short side {self.short_side}, {other}, {how}"
        return "not resized"


def resolve(
    model: str,
    recipes: Mapping[str, Preprocessing],
    section: PreprocessSection | None = None,
    *,
    default: str | None = None,
) -> Preprocessing:
    """A model's default recipe, or what a config makes of one. `default` None is the first. Raises UsageError."""
    asked = section or PreprocessSection()
    name = asked.recipe or default or next(iter(recipes))
    if name not in recipes:
        raise UsageError(f"preprocess: {model} has no recipe {name!r}; it has {', '.join(recipes)}")
    recipe = recipes[name]
    channels = 3 if recipe.modality == "rgb" else 2
    for key, of in (("bound", "flow"), ("colour", "rgb"), ("range", "rgb"), ("mean", "rgb"), ("std", "rgb")):
        if getattr(asked, key) is not None and recipe.modality != of:
            raise UsageError(f"preprocess.{key}: this is for {of} models, and {model} takes {recipe.modality}")
    for key in ("mean", "std"):
        value = getattr(asked, key)
        if isinstance(value, tuple) and len(value) != channels:
            raise UsageError(f"preprocess.{key}: {channels} numbers, one a channel, got {len(value)}")
    changes: dict[str, Any] = {key: getattr(asked, key) for key in ("filter", "colour", "range", "std")}
    changes["bound_px"] = asked.bound
    changes = {key: value for key, value in changes.items() if value is not None}
    if asked.resize or asked.short_side:
        resize = asked.resize if isinstance(asked.resize, tuple) else None
        changes |= {"resize": resize, "short_side": asked.short_side}
    if asked.crop is not None:
        changes["crop"] = asked.crop if isinstance(asked.crop, tuple) else None
    if asked.mean is not None:
        mean = MeanVolume(asked.mean, read_mean(asked.mean)) if isinstance(asked.mean, str) else asked.mean
        changes |= {"mean": mean, "mean_source": ""}
    changed = replace(recipe, **changes)
    if isinstance(changed.mean, MeanVolume) and changed.mean.values.shape[1:3] != changed.crop:
        crop = "no crop is taken" if changed.crop is None else f"the crop is {list(changed.crop)}"
        raise UsageError(
            f"preprocess.mean: {changed.mean.path} has shape {changed.mean.values.shape}, and {crop}; the volume is "
            "already cropped: (frames, height, width, 3)"
        )
    return changed


def read_mean(path: str) -> np.ndarray:
    """A mean volume (T, H, W, C) float32 from a .npy file. Raises UsageError."""
    try:
        volume = np.load(local_file(path), allow_pickle=False)
    except OSError as error:
        raise UsageError(f"preprocess.mean: {path} can't be read ({error.strerror}); check the path") from None
    except (ValueError, EOFError, zipfile.BadZipFile):  # numpy's own sentence advises to unpickle the file
        raise UsageError(f"preprocess.mean: {path} is no .npy file of numbers, or a damaged one") from None
    if not isinstance(volume, np.ndarray) or volume.ndim != 4 or volume.shape[3] != 3:
        raise UsageError(
            f"preprocess.mean: {path} has shape {getattr(volume, 'shape', None)}; a mean volume is (frames, height, "
            "width, 3), already cropped"
        )
    if not np.issubdtype(volume.dtype, np.floating) or not np.isfinite(volume).all():
        raise UsageError(f"preprocess.mean: {path} must hold finite floats, got {volume.dtype}")
    return volume.astype(np.float32)


def _resize(frame: np.ndarray, size: tuple[int, int], how: Filter) -> np.ndarray:
    height, width = size
    if how == "antialias":
        from PIL import Image

        return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
    shrinks = height <= frame.shape[0] and width <= frame.shape[1]
    area = how == "area" and shrinks
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA if area else cv2.INTER_LINEAR)


def _by(size: tuple[int, ...]) -> str:
    return "×".join(map(str, size))


def _numbers(values: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in values) + "]"
