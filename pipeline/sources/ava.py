"""AVA: whole videos with the actions that its csv files have seen in them.

The boxes are not in the manifest: a detection head names the csv files itself.
"""

from __future__ import annotations

from pipeline.annotations.ava import read_actions, read_frames, read_labels
from pipeline.sources.issues import AnnotationIssues, Issues
from pipeline.sources.lookup import Lookup
from pipeline.sources.registry import Scan, register
from pipeline.sources.rows import Rows
from pipeline.textlist import Split
from schemas.sources import AVASource


@register("ava")
def index_ava(source: AVASource, scan: Scan, issues: Issues) -> Rows:
    """Videos are found as `<name>.*`. A csv with train, val or test in its name is that split. Labels are those of the
    action list in its order, else the ids that are found; a video has the distinct ones of its boxes."""
    actions = read_actions(source.labels) if source.labels else None
    report = AnnotationIssues(issues)
    table = read_labels(source.csv, actions=actions, report=report)
    split_of: dict[str, Split | None] = {}
    for path in source.csv:
        for name in sorted({video for video, _ in read_frames([path])}):
            if name in split_of:
                issues.add("duplicate_row", name, f"{path}: an earlier csv has this video; its split is kept")
            split_of.setdefault(name, _split(path))
    label_ids: dict[str, set[int]] = {name: set() for name in split_of}
    for video, label in set(zip(table.video.tolist(), table.label.tolist(), strict=True)):
        label_ids[table.videos[video]].add(label)
    rows = Rows(scan(source.videos))
    rows.labels = list(table.labels)
    files = Lookup(rows.listing)
    for name, split in split_of.items():
        file = files.stem(name)
        if file is None:
            issues.add("row_without_file", name, f"no video {name}.* in {source.videos}")
        else:
            rows.add(file, sorted(label_ids[name]), split=split, value=name)
    return rows


def _split(path: str) -> Split | None:
    name = path.partition("?")[0].rpartition("/")[2].lower()
    splits: tuple[Split, ...] = ("train", "val", "test")
    return next((split for split in splits if split in name), None)
