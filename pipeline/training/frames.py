"""Single frames for pictures: what a video shows at a second, from the clips that features were made of."""

from __future__ import annotations

import tarfile
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline import receipts
from pipeline.shards import Span, read_sample, sample_spans
from pipeline.store import Store
from pipeline.video.encode import Encoding, decode_frames
from schemas.config import Clips, Features, Flow
from schemas.errors import ReelmillError

UNITS_KEPT = 4  # whose clips are held in memory: pictures go from video to video
COLUMNS = ["clip_id", "video_id", "start_s", "end_s", "frame_pts_s", "num_real_frames"]


@dataclass(frozen=True, slots=True)
class _Clip:
    """A clip of one video and where it lies."""

    span: Span
    start_s: float
    end_s: float
    pts_s: list[float]  # of its real frames


class FrameReader:
    """Frames of the clips product that a features product was made from; of features of flow, the flow's clips.

    A picture must not fail for want of frames: where the clips are gone, were made anew with other settings or are
    damaged, there simply are none. Nothing is read before the first frame is asked for.
    """

    def __init__(self, store: Store, features: str) -> None:
        """`features` is a product's path, such as "features/c3d"."""
        self._store = store
        self._path, self._encoding = _clips_under(store, features)
        self._units: dict[str, int] | None = None  # of each video
        self._unit = lru_cache(UNITS_KEPT)(self._read_unit)

    def at(self, video_id: str, second: float) -> NDArray[np.uint8] | None:
        """The frame (H, W, 3) uint8 RGB on display at a second of the source's clock, as the clips have it (resized,
        cropped); None where no clip covers that second, or there is no such frame to be had."""
        if self._units is None:
            self._units = self._find_videos()
        unit = self._units.get(video_id)
        if unit is None:
            return None
        clips = [clip for clip in self._unit(unit).get(video_id, ()) if clip.start_s <= second < clip.end_s]
        # which frame of each clip; the latest of those is nearest to what the video itself shows
        places = [max(0, bisect_right(clip.pts_s, second) - 1) for clip in clips]
        shown = [(clip.pts_s[place], -n) for n, (clip, place) in enumerate(zip(clips, places, strict=True))]
        if not shown:
            return None
        best = -max(shown)[1]
        return self._read_frame(unit, clips[best], places[best])

    def _find_videos(self) -> dict[str, int]:
        """The unit of each video that has clips."""
        units: dict[str, int] = {}
        for unit in receipts.committed_units(self._store, self._path) if self._path else ():
            table = self._read_index(unit, ["video_id"])
            if table is not None:
                units |= dict.fromkeys(table["video_id"].unique().to_pylist(), unit)
        return units

    def _read_unit(self, unit: int) -> dict[str, list[_Clip]]:
        """The clips of each video of a unit."""
        table = self._read_index(unit, COLUMNS)
        try:
            with self._store.open(self._shard(unit)) as file:
                spans = dict(sample_spans(file))
        except (FileNotFoundError, tarfile.TarError):
            return {}
        found: dict[str, list[_Clip]] = {}
        for row in table.filter(pc.field("num_real_frames") > 0).to_pylist() if table is not None else ():
            if row["clip_id"] in spans:
                pts_s = row["frame_pts_s"][: row["num_real_frames"]]
                clip = _Clip(spans[row["clip_id"]], row["start_s"], row["end_s"], pts_s)
                found.setdefault(row["video_id"], []).append(clip)
        return found

    def _read_index(self, unit: int, columns: list[str]) -> pa.Table | None:
        data = self._store.read_or_none(f"{self._path}/_index/{unit:06d}.parquet")
        try:
            return pq.read_table(BytesIO(data), columns=columns) if data is not None else None
        except (OSError, pa.ArrowInvalid):  # damaged: a storage that fails has been told by the reading
            return None

    def _read_frame(self, unit: int, clip: _Clip, place: int) -> NDArray[np.uint8] | None:
        try:
            with self._store.open(self._shard(unit)) as file:
                members = read_sample(file, clip.span)
            if self._encoding == "jpeg":  # one picture instead of all
                name = f"{place:03d}.jpg"
                members, place = {name: members[name]}, 0
            return cast(NDArray[np.uint8], decode_frames(members, self._encoding)[place])
        except (FileNotFoundError, tarfile.TarError, ReelmillError, LookupError):
            return None

    def _shard(self, unit: int) -> str:
        return f"{self._path}/clips-{unit:06d}.tar"


def _clips_under(store: Store, features: str) -> tuple[str, Encoding]:
    """The clips product and its encoding; "" where it is gone or is not what the features were made of."""
    try:
        card = receipts.read_card(store, features)
        source = Features.model_validate(card.settings).source
        if source.startswith("flow/"):
            fingerprint, card = card.upstream[source], receipts.read_card(store, source)
            if card.fingerprint != fingerprint:
                return "", "jpeg"
            source = f"clips/{Flow.model_validate(card.settings).clips}"
        clips = receipts.read_card(store, source)
        if clips.fingerprint != card.upstream[source]:
            return "", "jpeg"
        return source, Clips.model_validate(clips.settings).encoding
    except (ReelmillError, LookupError, ValueError):
        return "", "jpeg"
