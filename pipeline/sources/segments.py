"""Manifest rows of whole videos with labelled segments: what the temporal datasets have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.sources.issues import Issues
from pipeline.sources.lookup import Lookup
from pipeline.sources.registry import Scan
from pipeline.sources.rows import Rows
from pipeline.textlist import Split
from schemas.manifest import SEGMENT_FIELDS


@dataclass(slots=True)
class LabelledVideo:
    """A video as a dataset names it."""

    name: str
    split: Split | None
    labels: list[str]  # of all annotations: a segment without a usable time still says what the video shows
    segments: list[tuple[float, float, str]]  # (start_s, end_s, label), in time order


def segment_rows(videos: Sequence[LabelledVideo], folder: str, scan: Scan, issues: Issues) -> Rows:
    """Files are found as `v_<name>.*` or `<name>.*`. Labels are numbered by sorted name over all videos; a video has
    the distinct labels of its annotations. The segment columns are added to the manifest."""
    ids = {name: label_id for label_id, name in enumerate(sorted({label for v in videos for label in v.labels}))}
    rows = Rows(scan(folder), SEGMENT_FIELDS)
    rows.labels = list(ids)
    files = Lookup(rows.listing)
    for video in videos:
        file = files.stem(f"v_{video.name}")
        if file is None:
            file = files.stem(video.name)
        if file is None:
            detail = f"no video v_{video.name}.* or {video.name}.* in {folder}"
            issues.add("row_without_file", video.name, detail)
            continue
        starts_s = [start_s for start_s, _, _ in video.segments]
        ends_s = [end_s for _, end_s, _ in video.segments]
        segment_ids = [ids[label] for _, _, label in video.segments]
        label_ids = sorted(ids[label] for label in video.labels)
        rows.add(file, label_ids, split=video.split, value=video.name, extras=[starts_s, ends_s, segment_ids])
    return rows
