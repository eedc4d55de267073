"""AVA csv: boxes of people at whole seconds, what they do, and what a detector says of it.

labels       video,second,x1,y1,x2,y2,action[,person]       shares of the frame's width and height, actions from 1
predictions  video,second,x1,y1,x2,y2,action,score          without a score: 1, as in the official script
proposals    video,second,x1,y1,x2,y2[,score]               or with an action or nothing before the score, as SlowFast
exclusions   video,second                                   so are, in the others, lines of frames without a box
action list  item { name: "dance" id: 3 }, or label { name: "dance" label_id: 3 label_type: … }

| what is wrong | what is done |
|---|---|
| not UTF-8, too few or too many columns, a second or an id that is no number | the line is dropped |
| a box that is not four finite numbers; a score that is no finite number | the line is dropped |
| a line without a box (video,second or empty columns) | the frame was looked at: see `read_frames`; no problem |
| an action that the action list does not have | dropped and counted, as in the official script (60 of 80 actions) |
| a box on an excluded frame | dropped and counted |
| an action list that can't be read, or with an id or a name twice | refused |
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from pipeline.annotations.columns import BoxColumns
from pipeline.annotations.numbers import finite, is_id
from pipeline.annotations.report import Report
from pipeline.textlist import check_utf8, read_bytes, read_lines
from schemas.annotation import BoxTable
from schemas.errors import UsageError

Frames = frozenset[tuple[str, float]]  # (video, second)
Box = tuple[float, float, float, float]

_BLOCK = re.compile(r"\s*(?:item|label)\s*\{([^{}]*)\}", re.S)
_FIELD = re.compile(r'\s*(\w+)\s*:\s*("(?:[^"\\\n]|\\.)*"|[\w.-]+)\s*,?')
_HEADERS = ("video", "video_id", "video_name")


@dataclass(frozen=True, slots=True)
class ActionList:
    """The actions of a csv: names in the order of the list, and the id that stands for each in the csv."""

    names: tuple[str, ...]
    ids: tuple[int, ...]
    places: dict[int, int] = field(init=False, repr=False, compare=False)  # id -> place in `names`

    def __post_init__(self) -> None:
        object.__setattr__(self, "places", {action: place for place, action in enumerate(self.ids)})


def read_actions(path: str) -> ActionList:
    """The action list. Raises UsageError where it is none, or has an id or a name twice."""
    try:
        text = re.sub(r"(?m)^\s*#.*$", "", read_bytes(path).decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UsageError(f"{path}: this action list is not UTF-8") from None
    found: list[tuple[str, int]] = []
    position = 0
    while match := _BLOCK.match(text, position):
        found.append(_action(path, match[1]))
        position = match.end()
    if text[position:].strip() or not found:
        at = text[position:].strip()[:40] or "an empty file"
        raise UsageError(f'{path}: not an action list: want item {{ name: "…" id: 1 }} …, got {at!r}')
    names, ids = (tuple(column) for column in zip(*found, strict=True))
    for what, column in (("name", names), ("id", ids)):
        if len(set(column)) < len(column):
            twice = next(value for value in column if column.count(value) > 1)
            raise UsageError(f"{path}: this action list has the {what} {twice!r} twice")
    return ActionList(names, ids)


def _action(path: str, body: str) -> tuple[str, int]:
    values: dict[str, str] = dict(_FIELD.findall(body))
    name, number = values.get("name", ""), values.get("id", values.get("label_id", ""))
    if _FIELD.sub("", body).strip() or len(name) < 3 or name[0] != '"' or not number.isdecimal():
        shown = " ".join(body.split())
        raise UsageError(f"{path}: not an action: want a name and an id of digits, got {{ {shown} }}")
    return re.sub(r"\\(.)", r"\1", name[1:-1]), int(number)


def read_exclusions(paths: Sequence[str], *, report: Report | None = None) -> Frames:
    """The frames that a dataset leaves out, (video, second)."""
    report = report or Report()
    excluded = set()
    for path in paths:
        for line, cells in _lines(path, report):
            try:
                if len(cells) != 2 or not cells[0]:
                    raise ValueError("want video,second")
                excluded.add((cells[0], finite(cells[1], "second")))
            except ValueError as error:
                report.add("malformed_row", path, f"{','.join(cells)!r}: {error}", line=line)
    return frozenset(excluded)


def read_frames(paths: Sequence[str]) -> Frames:
    """The frames that a csv of labels has looked at: of all its lines, whatever their action, with a box or without. In
    the official score a detection on any other frame is passed over."""
    frames = set()
    for path in paths:
        for _, cells in _lines(path, Report()):
            if len(cells) in (2, 7, 8) and cells[0]:
                with suppress(ValueError):  # `read_labels` reports it
                    frames.add((cells[0], finite(cells[1], "second")))
    return frozenset(frames)


def read_labels(
    paths: Sequence[str],
    *,
    actions: ActionList | None = None,
    excluded: Frames = frozenset(),
    report: Report | None = None,
) -> BoxTable:
    """The labelled boxes of one csv or several, in their order.

    Labels are those of the action list, by name; without a list, the ids that are found, in order. `entity` is the
    person's number, -1 where the csv has none.
    """
    report = report or Report()
    actions = actions or _actions_of(paths)
    columns = BoxColumns((), actions.names)
    for path in paths:
        for line, second, box, cells in _boxes(path, (7, 8), report, excluded):
            person = cells[7] if len(cells) == 8 else ""
            if person and not is_id(person):
                report.add("malformed_row", path, f"person {person!r} is not a number", line=line)
            elif (place := _place(path, line, cells[6], actions, report)) is not None:
                columns.add(cells[0], second, box, place, entity=int(person) if person else -1)
    return columns.table()


def _actions_of(paths: Sequence[str]) -> ActionList:
    """The ids that the boxes have, each its own name."""
    boxes = (cells for path in paths for *_, cells in _boxes(path, (7, 8), Report(), frozenset()))
    ids = tuple(sorted({int(cells[6]) for cells in boxes if is_id(cells[6])}))
    return ActionList(tuple(str(action) for action in ids), ids)


def read_predictions(
    path: str,
    *,
    actions: ActionList,
    truth: BoxTable | None = None,
    excluded: Frames = frozenset(),
    report: Report | None = None,
) -> BoxTable:
    """The detections of a csv, in its order, with scores. Labels are those of the action list, by name; the first
    videos are those of `truth`, so that indices mean the same in both."""
    report = report or Report()
    columns = BoxColumns(truth.videos if truth is not None else (), actions.names, scored=True)
    for line, second, box, cells in _boxes(path, (7, 8), report, excluded):
        try:
            score = finite(cells[7], "score") if len(cells) == 8 else 1.0
        except ValueError as error:
            report.add("bad_score", path, str(error), line=line)
            continue
        place = _place(path, line, cells[6], actions, report)
        if place is not None:
            columns.add(cells[0], second, box, place, score=score)
            if len(cells) < 8:
                report.add("no_score", path, "it counts with the score 1, as in the official script", line=line)
    return columns.table()


def read_proposals(path: str, *, videos: Sequence[str] = (), report: Report | None = None) -> BoxTable:
    """Boxes of people that some detector found, whatever they do: the one label is "person". A box that stands there
    several times, once for each action, is one. `videos` are the first videos.

    Raises UsageError for a pickle, and for a score beyond [0, 1]: then the file is one of labels.
    """
    refuse_pickle(path)
    report = report or Report()
    columns = BoxColumns(videos, ("person",), scored=True)
    seen: set[tuple[str, float, Box]] = set()
    for line, second, box, cells in _boxes(path, (6, 7, 8), report, frozenset()):
        try:
            score = finite(cells[-1], "score") if len(cells) > 6 else 1.0
        except ValueError as error:
            report.add("bad_score", path, str(error), line=line)
            continue
        if not 0 <= score <= 1:
            raise UsageError(f"{path} line {line}: a proposal's score is in [0, 1], got {score:g}; are these labels?")
        if (cells[0], second, box) not in seen:
            seen.add((cells[0], second, box))
            columns.add(cells[0], second, box, 0, score=score)
    return columns.table()


def refuse_pickle(path: str) -> None:
    """Raises UsageError for a pickle, by its name."""
    if path.partition("?")[0].lower().endswith((".pkl", ".pickle")):
        raise UsageError(
            f"{path}: a pickle runs the code in it when it is read, so it is refused; write it as csv or json"
        )


def drop_excluded(table: BoxTable, excluded: Frames) -> BoxTable:
    """The boxes that are on no excluded frame."""
    frames = [(table.videos[video], second) for video, second in zip(table.video, table.second.tolist(), strict=True)]
    return table.select(np.array([frame not in excluded for frame in frames], bool))


def write_csv(table: BoxTable, actions: ActionList, *, start_s: float = 0.0) -> bytes:
    """Boxes as AVA csv, in their order: with scores predictions, else labels, with the person where it is known.

    start_s: the csv's second at which the files begin, see `schemas.annotation_files.AVAAnnotations`.
    The bytes depend on the table and nothing else; numbers are written so that they are read back exactly. Raises
    ValueError for a name that a csv without quotes can't hold, and where the labels are not those of the list.
    """
    if table.labels != actions.names:
        raise ValueError("the labels of the boxes are not those of the action list")
    if odd := [name for name in table.videos if not name or set(name) & set(",\r\n") or name != name.strip()]:
        raise ValueError(f"an AVA csv can't hold a video of the name {odd[0]!r}")
    lines = []
    for row in range(len(table)):
        box = ",".join(repr(edge) for edge in table.box[row].tolist())
        frame = f"{table.videos[table.video[row]]},{_second_text(float(table.second[row]) + start_s)}"
        last = "" if table.entity[row] < 0 else f",{table.entity[row]}"
        if table.score is not None:
            last = f",{float(table.score[row])!r}"
        lines.append(f"{frame},{box},{actions.ids[table.label[row]]}{last}\n")
    return "".join(lines).encode()


def _second_text(second: float) -> str:
    return f"{int(second):04d}" if second.is_integer() and abs(second) < 1e15 else repr(second)


def _boxes(
    path: str, widths: tuple[int, ...], report: Report, excluded: Frames
) -> Iterator[tuple[int, float, Box, list[str]]]:
    """(line, second, box, cells) of each line that has a box."""
    for line, cells in _lines(path, report):
        try:
            if len(cells) not in (2, *widths) or not cells[0]:
                raise ValueError(f"want {' or '.join(str(width) for width in widths)} columns, got {len(cells)}")
            second = finite(cells[1], "second")
        except ValueError as error:
            report.add("malformed_row", path, f"{','.join(cells)[:80]!r}: {error}", line=line)
            continue
        if not any(cells[2:]):
            continue
        try:
            x1, y1, x2, y2 = (finite(cell, "edge") for cell in cells[2:6])
        except ValueError as error:
            report.add("bad_box", path, f"{','.join(cells)[:80]!r}: {error}", line=line)
            continue
        if (cells[0], second) in excluded:
            report.add("excluded_frame", path, f"{cells[0]} at second {second:g} is left out by the dataset", line=line)
        else:
            yield line, second, (x1, y1, x2, y2), cells


def _lines(path: str, report: Report) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of each line that says something, without a header."""
    for line, text in read_lines(path):
        cells = [cell.strip() for cell in text.split(",")]
        if not any(cells) or (line == 1 and cells[0].lower() in _HEADERS):
            continue
        try:
            check_utf8(text)
        except ValueError as error:
            report.add("malformed_row", path, str(error), line=line)
            continue
        yield line, cells


def _place(path: str, line: int, cell: str, actions: ActionList, report: Report) -> int | None:
    if not is_id(cell):
        report.add("malformed_row", path, f"action {cell!r} is not a number", line=line)
        return None
    place = actions.places.get(int(cell))
    if place is None:
        report.add("unknown_class", path, f"action {cell} is not in the action list", line=line)
    return place
