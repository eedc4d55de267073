"""Which video of an annotation file is which row of the manifest.

A name means a row where it is, in this order: the row's video_id; the name of its file; that name without its
extension, on either side; the same with `v_` before it, or without. The first of these that any row fits decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.textlist import Split, parse_split
from schemas.errors import UsageError
from schemas.video_row import VideoRow

_EXTENSIONS = (".avi", ".mp4", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv", ".3gp", ".ts")


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """M videos that are annotated and in the manifest, in the order of the manifest.

    row: (M,) int64, into the manifest's rows; video: (M,) int64, into the annotations' videos. split: of each of the M,
    the manifest's, else the annotation's subset, else None. The others are named in their own order.
    """

    row: np.ndarray
    video: np.ndarray
    split: tuple[str | None, ...]
    annotation_without_video: tuple[str, ...]  # names in the annotations
    video_without_annotation: tuple[str, ...]  # video_ids


def join_videos(
    videos: Sequence[str], rows: Sequence[VideoRow], *, subset: Sequence[str | None] | None = None
) -> Joined:
    """Find the manifest's row of each annotated video. `subset`: of each video, as a table has it.

    Raises UsageError where a name fits two rows, or two names fit one row, naming both.
    """
    places = _Places(rows)
    video_of: dict[int, int] = {}
    missing = []
    for video, name in enumerate(videos):
        row = places.find(name)
        if row is None:
            missing.append(name)
        elif (other := video_of.setdefault(row, video)) != video:
            raise UsageError(
                f"the annotations' videos {videos[other]!r} and {name!r} are both the manifest's {rows[row].video_id!r}"
            )
    found = sorted(video_of)
    pairs = [(row, video_of[row]) for row in found]
    return Joined(
        row=np.array(found, np.int64),
        video=np.array([video for _, video in pairs], np.int64),
        split=tuple(rows[row].split or split_of(subset[video] if subset else None) for row, video in pairs),
        annotation_without_video=tuple(missing),
        video_without_annotation=tuple(row.video_id for index, row in enumerate(rows) if index not in video_of),
    )


def public_names(rows: Sequence[VideoRow]) -> list[str]:
    """What each row is called in files for others: the name of its file as ActivityNet's json has it (no extension, no
    leading `v_`), which `join_videos` finds again; its video_id where that would mean two rows."""
    stems = [_file_name(row.uri).rpartition(".")[0].removeprefix("v_") for row in rows]
    counts = Counter(stems)
    return [stem if stem and counts[stem] == 1 else row.video_id for stem, row in zip(stems, rows, strict=True)]


def split_of(subset: str | None) -> Split | None:
    """The split that a dataset's name of a subset means; None where it means none."""
    try:
        return parse_split(subset or "")
    except ValueError:
        return None


class _Places:
    """Rows by each of the names that may mean them."""

    def __init__(self, rows: Sequence[VideoRow]) -> None:
        self._rows = rows
        self._ids = {row.video_id: [index] for index, row in enumerate(rows)}
        self._files: dict[str, list[int]] = {}
        self._stems: dict[str, list[int]] = {}
        for index, row in enumerate(rows):
            file = _file_name(row.uri)
            self._files.setdefault(file, []).append(index)
            self._stems.setdefault(file.rpartition(".")[0] or file, []).append(index)

    def find(self, name: str) -> int | None:
        """The row that `name` means, None where there is none. Raises UsageError where there are several."""
        for found in self._candidates(name):
            if len(found) > 1:
                one, other = (self._rows[index].uri for index in found[:2])
                raise UsageError(f"the annotations' video {name!r} may be {one} or {other}")
            if found:
                return found[0]
        return None

    def _candidates(self, name: str) -> Iterator[list[int]]:
        stem = name[: name.rfind(".")] if name.lower().endswith(_EXTENSIONS) else name
        yield self._ids.get(name, [])
        yield self._files.get(name, [])
        yield self._stems.get(stem, [])
        yield self._stems.get(f"v_{stem}", [])
        if stem.startswith("v_"):
            yield self._stems.get(stem.removeprefix("v_"), [])


def _file_name(uri: str) -> str:
    path = uri.partition("?")[0] if "://" in uri else uri
    return path.rpartition("/")[2]
