"""A tree of videos: each video found is a row."""

from __future__ import annotations

from pipeline.sources.issues import Issues
from pipeline.sources.labels import MetLabels
from pipeline.sources.registry import Scan, register
from pipeline.sources.rows import Rows
from schemas.sources import DirectorySource


@register("directory")
def index_directory(source: DirectorySource, scan: Scan, issues: Issues) -> Rows:
    """With `labels: folder` the label is the first folder below `videos`; a video right in `videos` has none."""
    rows = Rows(scan(source.videos))
    labels = MetLabels()
    for file, relative in enumerate(rows.listing.relative):
        folder, slash, _ = relative.partition("/")
        labelled = slash and source.labels == "folder"
        rows.add(file, [labels.id(folder)] if labelled else [])
    rows.labels, rows.renumber = labels.sorted()
    return rows
