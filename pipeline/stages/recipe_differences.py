"""Where the input of a net is not what its published recipe makes: a sentence for each difference.

Features come out all the same, and may be what is wanted; they are not those that the model's authors would get.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline import receipts
from pipeline.backbones.model import Model
from pipeline.backbones.preprocess import Preprocessing
from pipeline.backbones.spec import BackboneSpec
from pipeline.stages.clip_inputs import Upstream
from pipeline.store import Store
from schemas.config import Clips, Flow

FILTERS = {
    "bilinear": "bilinear without antialias",
    "area": "box average",
    "antialias": "bilinear with antialias",
}


def sampling_of(store: Store, upstream: Upstream) -> Clips:
    """How the frames were cut and sized that `upstream` holds, or that its flow was computed on."""
    if isinstance(upstream.settings, Clips):
        return upstream.settings
    clips = Clips.model_validate(receipts.read_card(store, f"clips/{upstream.settings.clips}").settings)
    return upstream.settings.sampling(clips)


def deviations(spec: BackboneSpec, model: Model, upstream: Upstream, sampling: Clips, *, frames: int) -> list[str]:
    """The differences to the recipe that the net was built with, as the model's file publishes it."""
    used = spec.preprocessing
    published = model.recipes[used.recipe]
    found = [*_overridden(used, published), *_resized(upstream.path, sampling, used, published)]
    if published.fps is not None and upstream.fps != published.fps:
        found.append(f"{upstream.path} has {upstream.fps:g} frames a second, and {used.recipe} takes {published.fps:g}")
    if frames != spec.frames:
        found.append(f"{frames} frames enter {spec.name} at once, and the published model takes {spec.frames}")
    if isinstance(upstream.settings, Flow):
        found += _quantised(upstream, upstream.settings, used)
    return found


def _overridden(used: Preprocessing, published: Preprocessing) -> Iterator[str]:
    """What the config's `preprocess` changes."""
    facts, recipe = used.facts(), published.facts()
    for key in facts:
        if key not in ("words", "mean_source") and facts[key] != recipe[key]:
            here, there = ("none" if value is None else value for value in (facts[key], recipe[key]))
            yield f"preprocess.{key} is {here} here, and {there} in {used.recipe}"


def _resized(path: str, stored: Clips, used: Preprocessing, published: Preprocessing) -> Iterator[str]:
    """What was done to the frames before they were stored, or before flow was computed on them."""
    name = used.recipe
    wanted, done = _rule(used.resize, used.short_side), _rule(stored.resize, stored.short_side)
    if done is not None and wanted is None:
        if _rule(published.resize, published.short_side) is None:
            yield f"the frames of {path} were brought to {done}, and {name} leaves them as they are in the video"
    elif done is not None and done != wanted:
        yield f"the frames of {path} were brought to {done}, and {name} brings the video's own to {wanted}"
    elif done is not None:
        if stored.filter != used.filter:
            by, wants = FILTERS[stored.filter], FILTERS[used.filter]
            yield f"the frames of {path} were resized by {by}, and {name} takes {wants}"
        if stored.short_side is not None and used.long_side != "even":
            yield (
                f"the other side of {path} was brought to the nearest even number, and {name} takes "
                f"{'it rounded down' if used.long_side == 'floor' else 'the nearest number'}"
            )
    if stored.crop is not None and done is None:
        yield f"the frames of {path} were cropped to {_by(stored.crop)} before any resize"


def _rule(resize: tuple[int, int] | None, short_side: int | None) -> str | None:
    if resize is not None:
        return f"{_by(resize)} (height×width), aspect ignored"
    return None if short_side is None else f"short side {short_side}, aspect kept"


def _quantised(upstream: Upstream, flow: Flow, used: Preprocessing) -> Iterator[str]:
    if flow.encoding != "npy" and flow.bound != used.bound_px:
        yield (
            f"{upstream.path} holds 256 levels of ±{flow.bound:g} px, and {used.recipe} cuts at ±{used.bound_px:g} px"
        )


def _by(size: tuple[int, ...]) -> str:
    return "×".join(map(str, size))
