"""From the samples of a clips or flow product to what enters a net: windows of each clip, views of each window.

    members -> frames (T,H,W,C) -> resized as the recipe says -> windows of T' frames -> crops and mirror images

Windows and views are slices of one array of frames: nothing is copied before a batch is put together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline import receipts
from pipeline.backbones.spec import BackboneSpec
from pipeline.backbones.views import cut, views_of
from pipeline.flow.encode import decode_stored, level_meanings
from pipeline.stages.clip_stream import Clip, Members
from pipeline.stages.feature_rows import Row
from pipeline.store import Store
from pipeline.video.encode import decode_frames
from pipeline.video.sample import exact
from schemas.config import Clips, Features, Flow
from schemas.errors import ReelmillError


@dataclass(frozen=True, slots=True)
class Upstream:
    """What features are made of: a clips or a flow product, as its card says."""

    path: str
    fingerprint: str
    frames: int  # of each clip; of flow: fields
    fps: float
    settings: Clips | Flow

    @property
    def shard_name(self) -> str:
        return self.path.partition("/")[0]  # clips-000000.tar, flow-000000.tar

    @property
    def num_channels(self) -> int:
        return 3 if isinstance(self.settings, Clips) else 2

    @property
    def itemsize(self) -> int:
        """Bytes of each value once it is decoded: uint8 of pictures, float32 of stored px."""
        return 4 if isinstance(self.settings, Flow) and self.settings.encoding == "npy" else 1

    @property
    def level_meanings(self) -> np.ndarray | None:
        """(256,) float32 px of flow's levels; None where the stored values speak for themselves."""
        return None if isinstance(self.settings, Clips) else level_meanings(self.settings)

    def decode(self, members: Members) -> np.ndarray:
        """(T, H, W, C) uint8 RGB, or flow's uint8 levels or float32 px. Raises ReelmillError for a damaged sample."""
        if isinstance(self.settings, Flow):
            return decode_stored(members, self.settings)
        frames = decode_frames(members, self.settings.encoding, at_most=self.frames)
        if frames.dtype != np.uint8:
            raise ReelmillError(f"its frames are {frames.dtype}, not uint8: the shard was damaged after it was written")
        return frames


def read_upstream(store: Store, path: str) -> Upstream:
    """Raises ReelmillError where the product has no card."""
    card = receipts.read_card(store, path)
    if path.startswith("clips/"):
        clips = Clips.model_validate(card.settings)
        return Upstream(path, card.fingerprint, clips.frames, clips.fps, clips)
    sampling: dict[str, Any] = card.details["sampling"]
    flow = Flow.model_validate(card.settings)
    return Upstream(path, card.fingerprint, sampling["num_fields"], sampling["fps"], flow)


def window_starts(num_frames: int, num_real: int, settings: Features) -> range:
    """The first frame of each window in a clip of `num_frames`, of which the first `num_real` are no padding."""
    if settings.window is None:
        return range(1)
    last = min(num_frames - settings.window.frames, num_real - 1)
    return range(0, last + 1, settings.window.stride)


class ClipInputs:
    """Frames and rows of an upstream product's clips, for one net."""

    def __init__(self, upstream: Upstream, spec: BackboneSpec, settings: Features) -> None:
        self._upstream, self._spec, self._settings = upstream, spec, settings
        self._num_frames = settings.num_frames(upstream.frames)

    def num_bytes(self, clip: Clip) -> int:
        """Of the frames of a clip, as `decode` will give them."""
        height, width = self._spec.preprocessing.target(clip.height_px, clip.width_px)
        pixels = max(height * width, clip.height_px * clip.width_px)
        return self._upstream.frames * pixels * self._upstream.num_channels * self._upstream.itemsize

    def decode(self, clip: Clip, members: Members) -> np.ndarray:
        """(T, H, W, C) frames at the size from which views are cut.

        Raises ReelmillError for a sample that is damaged, and for frames of a size that the net can't take.
        """
        frames = self._upstream.decode(members)
        upstream = self._upstream
        said = upstream.frames, clip.height_px, clip.width_px, upstream.num_channels
        if frames.shape != said:
            raise ReelmillError(
                f"it holds {_by(frames.shape)}, and its json and the card of {upstream.path} say {_by(said)} "
                "(frames×height×width×channels): the shard was damaged after it was written"
            )
        frames = self._spec.preprocessing.fit(frames)
        height, width = self._spec.preprocessing.crop or frames.shape[1:3]
        self._spec.require_input(self._num_frames, (height, width))
        return frames

    def rows(self, clip: Clip, frames: np.ndarray) -> Iterator[tuple[Row, np.ndarray]]:
        """The rows of a clip, by window and then by view, each with the (T', h, w, C) that enters the net."""
        crop = self._spec.preprocessing.crop
        size = frames.shape[1], frames.shape[2]
        views = views_of(size, crop, crops=self._settings.crops, flip=self._settings.flip)
        for first in window_starts(len(frames), clip.num_real, self._settings):
            start_s, center_s, end_s = self._seconds(clip, first)
            parts = cut(frames[first : first + self._num_frames], crop, views)
            for view, pixels in zip(views, parts, strict=True):
                row = Row(
                    clip_id=clip.clip_id,
                    video_id=clip.video_id,
                    view=view.name,
                    start_s=start_s,
                    center_s=center_s,
                    end_s=end_s,
                    label_ids=clip.label_ids,
                    first_frame=first,
                    num_frames=self._num_frames,
                    crop_px=(view.top, view.left, *(crop or size)),
                    frame_px=size,
                )
                yield row, pixels

    def _seconds(self, clip: Clip, first: int) -> tuple[float, float, float]:
        """start, centre and end of a window. It ends where the clip ends, at the latest: padding is no video."""
        if self._settings.window is None:
            return clip.start_s, clip.center_s, clip.end_s
        fps, clip_start_s = exact(self._upstream.fps), exact(clip.start_s)
        start_s = clip_start_s + first / fps
        end_s = min(start_s + self._num_frames / fps, exact(clip.end_s))
        return float(start_s), float((start_s + end_s) / 2), float(end_s)


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
