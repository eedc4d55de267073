"""UCF101-24's own annotations: a ViPER XML (.xgtf) a video, in a folder a class, to tubes.

<viper><data><sourcefile>
  <file><attribute name="NUMFRAMES"><dvalue value="240"/></attribute> … H-FRAME-SIZE, V-FRAME-SIZE</file>
  <object name="PERSON" id="0" framespan="1:240">
    <attribute name="Location"><bbox framespan="1:3" x="135" y="55" width="64" height="124"/> …</attribute>
    <attribute name="SoccerJuggling"><bvalue framespan="1:240" value="true"/></attribute> …

Frames count from 1 and spans hold their last frame; a tube counts from 0 and is half-open. Pixels count from 0. The
class is the file's name (v_SoccerJuggling_g23_c01.xgtf), for the attributes of older files have other names. A person
is in a tube while any of its actions is true and it has a box; where no person of a file has a true action, all of them
act all the time. Only the first sourcefile is the video of UCF101. The rate in these files is not the video's, so the
shapes have none.

| what is wrong | what is done |
|---|---|
| a folder without .xgtf | refused |
| a file that is no XML, has a DOCTYPE, no sourcefile, or a name without a class | left out and counted |
| a second file of one name | the first, by path, is kept |
| a box or an action without a readable span, a box that is not four finite numbers | dropped |
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import pyarrow.fs as pafs

from pipeline.annotations.numbers import finite
from pipeline.annotations.report import Report
from pipeline.store import resolve
from pipeline.textlist import join, read_bytes
from schemas.annotation import Tube, TubeSet, VideoShape
from schemas.errors import UsageError

_NAME = re.compile(r"v_(.+)_g\d+_[cC]\d+")
_SPAN = re.compile(r"\s*(\d+):(\d+)\s*")
_TRUE = ("true", "1")
_MAX_FRAMES = 1 << 20  # a longer span is a slip of the pen, and would fill memory

_Boxes = dict[int, tuple[float, float, float, float]]  # frame -> x, y, width, height
_Found = tuple[str, str, VideoShape, list[tuple[int, np.ndarray]]]  # video, label, shape, (start_frame, boxes)


def read_truth(path: str, *, report: Report | None = None) -> TubeSet:
    """The tubes of a folder of .xgtf files, or of one; videos in order of their path, named without extension."""
    report = report or Report()
    by_name: dict[str, _Found] = {}
    for file in files_of(path):
        try:
            video = _read(file, report)
            if by_name.setdefault(video[0], video) is not video:
                report.add("duplicate_row", video[0], f"{file} is a second file of this name")
        except ValueError as error:
            report.add("unreadable_file", file, str(error))
    found = list(by_name.values())
    labels = sorted({label for _, label, _, _ in found})
    tubes = [
        Tube(video, labels.index(label), start_frame, boxes)
        for video, (_, label, _, parts) in enumerate(found)
        for start_frame, boxes in parts
    ]
    return TubeSet(tuple(tubes), tuple(f[0] for f in found), tuple(labels), tuple(f[2] for f in found))


def files_of(path: str) -> list[str]:
    """The .xgtf files of a folder and of its folders, sorted. Raises UsageError where there is none."""
    if path.lower().endswith(".xgtf"):
        return [path]
    filesystem, inner = resolve(path)
    try:
        infos = filesystem.get_file_info(pafs.FileSelector(inner, recursive=True))
    except OSError:
        raise UsageError(f"{path}: can't list this folder") from None
    names = sorted(info.path[len(inner) :].lstrip("/") for info in infos if info.path.endswith(".xgtf"))
    if not names:
        raise UsageError(f"{path}: there is no .xgtf in this folder or below")
    return [join(path, name) for name in names]


def _read(path: str, report: Report) -> _Found:
    """Raises ValueError where the file is not what it should be."""
    stem = path.partition("?")[0].rpartition("/")[2].removesuffix(".xgtf")
    if (match := _NAME.fullmatch(stem)) is None:
        raise ValueError("its name is not v_<class>_g<number>_c<number>.xgtf")
    data = read_bytes(path)
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise ValueError("it has a DOCTYPE, which these files have not")
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # LookupError: an unknown encoding
        raise ValueError(f"not XML ({error})") from None
    source = next(_children(root, "sourcefile", deep=True), None)
    if source is None:
        raise ValueError("it has no sourcefile")
    persons = [_person(element, stem, report) for element in _children(source, "object", name="PERSON")]
    if not any(acting for _, acting in persons):
        persons = [(boxes, set(boxes)) for boxes, _ in persons]
    parts = [part for boxes, acting in persons for part in _runs(boxes, acting)]
    return stem, match[1], _shape(source, parts), parts


def _person(element: Element, video: str, report: Report) -> tuple[_Boxes, set[int]]:
    """(boxes, frames in which it acts) of a person."""
    boxes: _Boxes = {}
    acting: set[int] = set()
    for box in _children(element, "bbox", deep=True):
        try:
            x, y, width, height = (finite(box.get(key, ""), key) for key in ("x", "y", "width", "height"))
            boxes.update(dict.fromkeys(_frames(box), (x, y, width, height)))
        except ValueError as error:
            report.add("bad_box", video, f"{box.attrib}: {error}")
    for value in _children(element, "bvalue", deep=True):
        if value.get("value", "").lower() in _TRUE:
            try:
                acting.update(_frames(value))
            except ValueError as error:
                report.add("bad_tube", video, f"an action {value.attrib}: {error}")
    return boxes, acting


def _frames(element: Element) -> range:
    """The frames of a span, from 0. Raises ValueError where it is none."""
    match = _SPAN.fullmatch(element.get("framespan", ""))
    if match is None or not 1 <= int(match[1]) <= int(match[2]) <= _MAX_FRAMES:
        raise ValueError("its framespan is not first:last, from 1")
    return range(int(match[1]) - 1, int(match[2]))


def _runs(boxes: _Boxes, acting: set[int]) -> Iterator[tuple[int, np.ndarray]]:
    """(first frame, boxes x1 y1 x2 y2 (F, 4)) of each run of frames with a box and an action."""
    frames = np.array(sorted(acting & boxes.keys()), np.int64)
    for run in np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1):
        if len(run):
            xywh = np.array([boxes[frame] for frame in run.tolist()], np.float64)
            yield int(run[0]), np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def _shape(source: Element, parts: list[tuple[int, np.ndarray]]) -> VideoShape:
    numbers: dict[str, int] = {}
    for attribute in _children(source, "attribute", deep=True):
        value = next(_children(attribute, "dvalue"), None)
        text = "" if value is None else value.get("value", "")
        if text.isascii() and text.isdecimal() and 0 < int(text) <= _MAX_FRAMES:
            numbers.setdefault(attribute.get("name", ""), int(text))
    last = max((start + len(boxes) for start, boxes in parts), default=0)  # a box is seen, whatever NUMFRAMES says
    size = numbers.get("H-FRAME-SIZE"), numbers.get("V-FRAME-SIZE")
    return VideoShape(max(numbers.get("NUMFRAMES", 0), last), None, *size)


def _children(element: Element, tag: str, *, name: str | None = None, deep: bool = False) -> Iterator[Element]:
    """The elements of a tag, in whatever namespace."""
    for child in element.iter() if deep else element:
        if child.tag.rpartition("}")[2] == tag and (name is None or child.get("name") == name):
            yield child
