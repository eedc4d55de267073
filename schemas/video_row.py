"""One manifest row as the stages see it. Plain Python: the decoder process starts without arrow and pydantic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Segment:
    """A labelled half-open window [start_s, end_s) of a video."""

    start_s: float
    end_s: float
    label_id: int


@dataclass(frozen=True, slots=True)
class VideoRow:
    """One input video, or the part of it that a source names."""

    video_id: str
    uri: str
    split: str | None
    labels: tuple[str, ...]
    label_ids: tuple[int, ...]
    start_s: float | None
    end_s: float | None
    segments: tuple[Segment, ...] = ()

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> VideoRow:
        """Build from one `Table.to_pylist()` row; columns this type does not know are ignored."""
        spans = zip(
            row.get("segment_start_s") or (),
            row.get("segment_end_s") or (),
            row.get("segment_label_ids") or (),
            strict=True,
        )
        return cls(
            video_id=row["video_id"],
            uri=row["uri"],
            split=row["split"],
            labels=tuple(row["labels"]),
            label_ids=tuple(row["label_ids"]),
            start_s=row["start_s"],
            end_s=row["end_s"],
            segments=tuple(Segment(s, e, label_id) for s, e, label_id in spans),
        )
