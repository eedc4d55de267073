"""THUMOS14: whole videos with labelled segments, from its json, csv or folders of text files.

Ambiguous segments are not in the manifest: a head that is scored as THUMOS14 scores names the annotations itself.
"""

from __future__ import annotations

from pipeline.annotations import thumos14
from pipeline.annotations.columns import merge_segments
from pipeline.annotations.join import split_of
from pipeline.annotations.tidy import tidy_segments
from pipeline.sources.issues import AnnotationIssues, Issues
from pipeline.sources.registry import Scan, register
from pipeline.sources.rows import Rows
from pipeline.sources.segments import LabelledVideo, segment_rows
from schemas.sources import Thumos14Source


@register("thumos14")
def index_thumos14(source: Thumos14Source, scan: Scan, issues: Issues) -> Rows:
    """Videos are found as `<name>.*`; see `segment_rows`. The validation videos are the train split, unless there are
    training videos: see `trained_on_validation`."""
    report = AnnotationIssues(issues)
    tables = [thumos14.read_truth(path, report=report) for path in source.path]
    table = thumos14.trained_on_validation(merge_segments(tables, report))
    subset = table.subset or (None,) * len(table.videos)
    videos = [LabelledVideo(name, split_of(subset[index]), [], []) for index, name in enumerate(table.videos)]
    for video, label in zip(table.video.tolist(), table.label.tolist(), strict=True):
        if label >= 0 and table.labels[label] not in videos[video].labels:
            videos[video].labels.append(table.labels[label])
    kept = tidy_segments(table.certain(), report)
    columns = (kept.video.tolist(), kept.start_s.tolist(), kept.end_s.tolist(), kept.label.tolist())
    for video, start_s, end_s, label in zip(*columns, strict=True):
        videos[video].segments.append((start_s, end_s, kept.labels[label]))
    for labelled in videos:
        labelled.segments.sort()
    return segment_rows(videos, source.videos, scan, issues)
