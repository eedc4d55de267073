"""THUMOS14: segments of 20 sports in seconds, some of them Ambiguous, and the challenge's own text of detections.

json         as ActivityNet's, with or without "database"; the class as text under "label", or under "class"
csv          video-name,t-init,t-end,f-init,f-end,video-duration,frame-rate,video-frames,label-idx     -1 = Ambiguous
folder       <Class>_val.txt and <Class>_test.txt, Ambiguous_test.txt among them: video start_s end_s
predictions  video start_s end_s class score                                   the class by its number (7 … 97) or name

A segment that is Ambiguous may show any class: it has the label AMBIGUOUS, and no class of that name.

| what is wrong | what is done |
|---|---|
| not such a file, no segment in it | refused |
| a line of another form, not UTF-8, a time or a score that is no finite number | the line is dropped |
| a text file of the folder in which no line is a segment | it is no class |
| a class number that THUMOS14 does not have | truth: the line is dropped; predictions: refused, or dropped on request |
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from pipeline.annotations import activitynet
from pipeline.annotations.columns import SegmentColumns, continue_names
from pipeline.annotations.numbers import finite
from pipeline.annotations.report import Report
from pipeline.textlist import check_utf8, join, list_names, read_lines
from schemas.annotation import SegmentTable
from schemas.errors import UsageError

CLASS_NUMBERS = {  # of UCF101's 101 classes, from 1
    "BaseballPitch": 7,
    "BasketballDunk": 9,
    "Billiards": 12,
    "CleanAndJerk": 21,
    "CliffDiving": 22,
    "CricketBowling": 23,
    "CricketShot": 24,
    "Diving": 26,
    "FrisbeeCatch": 31,
    "GolfSwing": 33,
    "HammerThrow": 36,
    "HighJump": 40,
    "JavelinThrow": 45,
    "LongJump": 51,
    "PoleVault": 68,
    "Shotput": 79,
    "SoccerPenalty": 85,
    "TennisSwing": 92,
    "ThrowDiscus": 93,
    "VolleyballSpiking": 97,
}
CLASSES = tuple(CLASS_NUMBERS)
AMBIGUOUS_NAME = "Ambiguous"

_SUBSETS = {"_val": "validation", "_validation": "validation", "_train": "training", "_test": "test"}
_CSV_COLUMNS = ("video-name", "t-init", "t-end", "label-idx")

_Row = tuple[str, float, float, str, str | None, float]  # video, start_s, end_s, label, subset, duration_s


def read_truth(path: str, *, subset: str | None = None, report: Report | None = None) -> SegmentTable:
    """The segments of a json, a csv or a folder of text files, in their order; those of one subset or all.

    Labels are sorted by name, so they are CLASSES where the file has all. Raises UsageError as the module says.
    """
    report = report or Report()
    name = path.partition("?")[0].lower()
    if name.endswith(".json"):
        return activitynet.read_truth(path, subset=subset, report=report, ambiguous=AMBIGUOUS_NAME)
    if name.endswith(".csv"):
        return _table(path, list(_csv_rows(path, report)), subset, labels=CLASSES)
    return read_folder(path, subset=subset, report=report)


def read_folder(path: str, *, subset: str | None = None, report: Report | None = None) -> SegmentTable:
    """The segments of a folder with a text file a class, `<Class>.txt` or with _val, _test or _train before the dot.

    A video's subset is the file's, else it is told from names as video_test_0000004. Raises UsageError where there is
    no folder or no segment.
    """
    report = report or Report()
    rows: list[_Row] = []
    for name in list_names(path):
        if name.endswith(".txt"):
            rows += _class_file(join(path, name), name.removesuffix(".txt"), report)
    return _table(path, rows, subset)


def _table(path: str, rows: list[_Row], subset: str | None, *, labels: tuple[str, ...] = ()) -> SegmentTable:
    if not rows:
        raise UsageError(f"{path}: no labelled segment is in it; want a json, a csv or a folder of <Class>_test.txt")
    labels = labels or tuple(sorted({row[3] for row in rows} - {AMBIGUOUS_NAME}))
    subsets = {row[0]: row[4] for row in reversed(rows)}
    kept = [row for row in rows if subset is None or activitynet.same_subset(subsets[row[0]] or "", subset)]
    if not kept:
        known = ", ".join(sorted({name or "unnamed" for name in subsets.values()}))
        raise UsageError(f"{path}: no video is of the subset {subset!r}; it has {known}")
    durations_s = {row[0]: row[5] for row in reversed(rows)}
    videos = continue_names((), (row[0] for row in kept))
    columns = SegmentColumns(videos, labels, ambiguous=AMBIGUOUS_NAME)
    for video, start_s, end_s, label, *_ in kept:
        columns.add(video, start_s, end_s, label)
    return columns.table(subset=[subsets[v] for v in videos], duration_s=[durations_s[v] for v in videos])


def _class_file(path: str, stem: str, report: Report) -> list[_Row]:
    suffix = next((suffix for suffix in _SUBSETS if stem.endswith(suffix)), "")
    label, subset = stem.removesuffix(suffix), _SUBSETS.get(suffix)
    rows: list[_Row] = []
    problems = []
    for line, text in read_lines(path):
        try:
            if cells := _split(text, ("video", "start", "end")):
                start_s, end_s = finite(cells[1], "start"), finite(cells[2], "end")
                rows.append((cells[0], start_s, end_s, label, subset or _subset_of(cells[0]), math.nan))
        except ValueError as error:
            problems.append((line, str(error)))
    if problems and not rows:
        report.add("unreadable_file", path, "no line of it is a segment, so it is no class")
    else:
        for line, detail in problems:
            report.add("malformed_row", path, detail, line=line)
    return rows


def _subset_of(video: str) -> str | None:
    for prefix, subset in (("video_validation_", "validation"), ("video_test_", "test"), ("video_train_", "training")):
        if video.startswith(prefix):
            return subset
    return None


def _csv_rows(path: str, report: Report) -> Iterator[_Row]:
    lines = read_lines(path)
    header = next(csv.reader([next(lines, (1, ""))[1]]), [])
    if missing := [name for name in _CSV_COLUMNS if name not in header]:
        raise UsageError(f"{path}: not THUMOS14's csv: it has no column {missing[0]}")
    for line, text in lines:
        try:
            check_utf8(text)
            cells = next(csv.reader([text]), [])
            if len(cells) != len(header):
                raise ValueError(f"want {len(header)} columns, got {len(cells)}")
            row = dict(zip(header, cells, strict=True))
            start_s, end_s = finite(row["t-init"], "t-init"), finite(row["t-end"], "t-end")
            number = finite(row["label-idx"], "label-idx")
            if not number.is_integer() or not -1 <= number < len(CLASSES):
                raise ValueError(f"label-idx {row['label-idx']!r} is not -1 to {len(CLASSES) - 1}")
            video = row["video-name"]
            duration_s = finite(row.get("video-duration") or "nan", "video-duration", nan=True)
        except (ValueError, csv.Error) as error:
            if text.strip():
                report.add("malformed_row", path, str(error), line=line)
            continue
        label = AMBIGUOUS_NAME if number < 0 else CLASSES[int(number)]
        yield video, start_s, end_s, label, _subset_of(video), duration_s


def read_predictions(
    path: str,
    *,
    truth: SegmentTable | None = None,
    unknown: Literal["refuse", "drop"] = "refuse",
    report: Report | None = None,
) -> SegmentTable:
    """The detections of a text file, in its order, with scores.

    With `truth`, its labels are the labels and its videos the first videos, so that indices mean the same in both; a
    video may then have `.mp4` behind its name, as the kit allows. Without, the labels are CLASSES. Raises UsageError
    for another class, unless `unknown="drop"`.
    """
    report = report or Report()
    labels = truth.labels if truth is not None else CLASSES
    names = {str(number): name for name, number in CLASS_NUMBERS.items()}
    rows = []
    for line, text in read_lines(path):
        try:
            cells = _split(text, ("video", "start", "end", "class", "score"))
            if not cells:
                continue
            start_s, end_s, score = (finite(cells[i], what) for i, what in ((1, "start"), (2, "end"), (4, "score")))
        except ValueError as error:
            report.add("malformed_row", path, str(error), line=line)
            continue
        label = names.get(cells[3], cells[3])
        if label in labels:
            rows.append((cells[0], start_s, end_s, label, score))
        elif unknown == "refuse":
            raise UsageError(f"{path} line {line}: the class {cells[3]} is none that the truth knows")
        else:
            report.add("unknown_class", path, f"the class {cells[3]} is none that the truth knows", line=line)
    known = dict.fromkeys(truth.videos if truth is not None else ())
    as_known = {f"{name}.mp4": name for name in known if f"{name}.mp4" not in known}
    videos = continue_names(known, (as_known.get(row[0], row[0]) for row in rows))
    columns = SegmentColumns(videos, labels, scored=True)
    for name, start_s, end_s, label, score in rows:
        columns.add(as_known.get(name, name), start_s, end_s, label, score)
    return columns.table()


def write_predictions(table: SegmentTable) -> bytes:
    """Detections as the challenge takes them, in the table's order; classes that are not THUMOS14's go by name.

    Raises ValueError for a table without scores and for names with a space.
    """
    if table.score is None:
        raise ValueError("want detections: with scores")
    classes = [str(CLASS_NUMBERS.get(name, name)) for name in table.labels]
    if odd := [name for name in (*table.videos, *classes) if len(name.split()) != 1]:
        raise ValueError(f"a line of detections can't hold the name {odd[0]!r}")
    rows = zip(table.video, table.start_s, table.end_s, table.label, table.score, strict=True)
    lines = (f"{table.videos[v]} {float(s)!r} {float(e)!r} {classes[k]} {float(p)!r}\n" for v, s, e, k, p in rows)
    return "".join(lines).encode()


def _split(text: str, names: tuple[str, ...]) -> list[str]:
    """The cells of a line, none of an empty one. Raises ValueError where they are not as many as `names`."""
    cells = text.split()
    check_utf8(text)
    if cells and len(cells) != len(names):
        raise ValueError(f"want {' '.join(names)}, got {' '.join(cells)[:80]!r}")
    return cells


def trained_on_validation(table: SegmentTable) -> SegmentTable:
    """The same with its validation videos as training, where it has no others to train on: THUMOS14's own training
    videos are UCF101's trimmed clips, so detectors are trained on validation and tested on test."""
    subset = table.subset or ()
    if {"training", "train"} & set(subset):
        return table
    return replace(table, subset=tuple("training" if name == "validation" else name for name in subset))
