"""What maps were made of: the rate, the windows and the crop of their clips, from the cards of the products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline import receipts
from pipeline.stages.clip_inputs import read_upstream
from pipeline.store import Store
from schemas.config import Clips, Features, Flow
from schemas.errors import ReelmillError

WHOLE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Origin:
    """The clips, or the flow, under a features product of maps."""

    fps: float  # frames or fields a second of a window
    frame: tuple[float, float, float, float]  # x1 y1 x2 y2: where a clip's frame lies in the video's, in shares of it
    starts_with_video: bool  # a video's first window begins where the video, or the row's part of it, does
    ends_with_video: bool  # and its last one ends where that ends

    def view(self, inside: NDArray[np.float64]) -> NDArray[np.float64]:
        """Boxes (M, 4) in shares of a clip's frame, in shares of the video's."""
        x1, y1, x2, y2 = self.frame
        return inside * [x2 - x1, y2 - y1, x2 - x1, y2 - y1] + [x1, y1, x1, y1]


def read_origin(store: Store, path: str) -> Origin:
    """Of a features product. Raises ReelmillError where a card is missing, or where nobody knows which part of the
    video's frames the clips have kept."""
    features = Features.model_validate(receipts.read_card(store, path).settings)
    source = features.source
    upstream = read_upstream(store, source)
    if isinstance(upstream.settings, Flow):
        windows = read_upstream(store, f"clips/{upstream.settings.clips}").settings
        assert isinstance(windows, Clips)
        clips = upstream.settings.sampling(windows)
    else:
        clips = upstream.settings
    covers = clips.tail != "drop" and clips.step_s <= clips.length_s and features.window is None
    return Origin(
        fps=upstream.fps,
        frame=_kept_part(clips, source),
        starts_with_video=clips.windows == "stride",
        ends_with_video=clips.windows == "stride" and covers,
    )


def _kept_part(clips: Clips, source: str) -> tuple[float, float, float, float]:
    if clips.crop is None:
        return WHOLE
    if clips.resize is None:
        raise ReelmillError(
            f"{source} is cropped to {clips.crop[0]}×{clips.crop[1]} (height×width) from frames of unknown size, so "
            "annotated boxes can't be placed in it; store the clips without crop (a features section can crop, too: "
            "preprocess.crop), or with a resize before it"
        )
    (height, width), (all_height, all_width) = clips.crop, clips.resize
    top, left = (all_height - height) // 2, (all_width - width) // 2
    return left / all_width, top / all_height, (left + width) / all_width, (top + height) / all_height
