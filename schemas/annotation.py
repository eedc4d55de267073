"""What annotations and predictions are once they are read: columns of numbers beside tuples of names.

Seconds are on the file's own presentation clock; segments and frames are half-open: [start, end). A table holds finite
numbers in the order of its file and says nothing more about them: an inverted segment or a box beyond the frame is
still what the file says (`pipeline.annotations.tidy` drops or clips those, by stated rules).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

AMBIGUOUS = -1  # a label in THUMOS14's truth: something that may be any class, neither a hit nor a mistake


@dataclass(frozen=True, slots=True, eq=False)
class SegmentTable:
    """N labelled segments of V videos: truth where `score` is None, else predictions.

    video: (N,) int64, into `videos`. start_s, end_s: (N,) float64, seconds. label: (N,) int64, into `labels`, or
    AMBIGUOUS. score: (N,) float64, higher is surer. videos: V names as the file has them, also of videos without a
    segment. labels: K names. subset: V names, None where the file says none. duration_s: (V,) float64, NaN where the
    file says none.

    Raises ValueError for columns of another length or type, numbers that are not finite and indices out of range.
    """

    video: np.ndarray
    start_s: np.ndarray
    end_s: np.ndarray
    label: np.ndarray
    score: np.ndarray | None
    videos: tuple[str, ...]
    labels: tuple[str, ...]
    subset: tuple[str | None, ...] | None = None
    duration_s: np.ndarray | None = None

    def __post_init__(self) -> None:
        num = len(self.video)
        _check_index("video", self.video, num, len(self.videos))
        _check_index("label", self.label, num, len(self.labels), lowest=AMBIGUOUS)
        for name in ("start_s", "end_s"):
            _check_numbers(name, getattr(self, name), (num,))
        if self.score is not None:
            _check_numbers("score", self.score, (num,))
        if self.subset is not None and len(self.subset) != len(self.videos):
            raise ValueError(f"want a subset for each of {len(self.videos)} videos, got {len(self.subset)}")
        if self.duration_s is not None:
            _check_numbers("duration_s", self.duration_s, (len(self.videos),), nan=True)
        _check_names(self.videos, self.labels)

    def __len__(self) -> int:
        return len(self.video)

    def select(self, rows: np.ndarray) -> SegmentTable:
        """The segments that `rows` picks, (N,) bool or (M,) int; all videos and labels stay."""
        score = None if self.score is None else self.score[rows]
        columns = {name: getattr(self, name)[rows] for name in ("video", "start_s", "end_s", "label")}
        return replace(self, score=score, **columns)

    def certain(self) -> SegmentTable:
        """The segments that have a class: what can be trained on."""
        return self.select(self.label != AMBIGUOUS)

    def ambiguous(self) -> SegmentTable:
        """The segments that are Ambiguous."""
        return self.select(self.label == AMBIGUOUS)


@dataclass(frozen=True, slots=True, eq=False)
class BoxTable:
    """N labelled boxes at instants of V videos: truth where `score` is None, else predictions. One row a label: a
    person who does two things has two rows.

    video: (N,) int64, into `videos`. second: (N,) float64 (AVA: whole seconds). box: (N, 4) float64, x1 y1 x2 y2 in
    shares of the frame's width and height, [0, 1]. label: (N,) int64, into `labels`. entity: (N,) int64, who it is in
    its video; -1 where unknown. score: (N,) float64, higher is surer. videos: V names; labels: K names.

    Raises ValueError for columns of another length or type, numbers that are not finite and indices out of range.
    """

    video: np.ndarray
    second: np.ndarray
    box: np.ndarray
    label: np.ndarray
    entity: np.ndarray
    score: np.ndarray | None
    videos: tuple[str, ...]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        num = len(self.video)
        _check_index("video", self.video, num, len(self.videos))
        _check_index("label", self.label, num, len(self.labels))
        _check_numbers("second", self.second, (num,))
        _check_numbers("box", self.box, (num, 4))
        if self.score is not None:
            _check_numbers("score", self.score, (num,))
        if self.entity.shape != (num,) or self.entity.dtype != np.int64:
            raise ValueError(f"entity: want int64 of shape {(num,)}, got {self.entity.dtype} {self.entity.shape}")
        _check_names(self.videos, self.labels)

    def __len__(self) -> int:
        return len(self.video)

    def select(self, rows: np.ndarray) -> BoxTable:
        """The boxes that `rows` picks, (N,) bool or (M,) int; all videos and labels stay."""
        score = None if self.score is None else self.score[rows]
        columns = {name: getattr(self, name)[rows] for name in ("video", "second", "box", "label", "entity")}
        return replace(self, score=score, **columns)


@dataclass(frozen=True, slots=True)
class VideoShape:
    """A video's number of frames, rate and size; None where the file does not say. Frame i is shown in
    [i / fps, (i + 1) / fps)."""

    num_frames: int
    fps: float | None = None
    width: int | None = None  # px
    height: int | None = None  # px


@dataclass(frozen=True, slots=True, eq=False)
class Tube:
    """One actor doing one thing in frames [start_frame, start_frame + F), a box a frame.

    video, label: into the TubeSet's `videos` and `labels`. start_frame: from 0. boxes: (F, 4) float64, x1 y1 x2 y2 in
    px, pixel i spanning [i, i + 1). score: of the tube, None for truth. box_scores: (F,) float64 or None.

    Raises ValueError for columns of another length or type, numbers that are not finite and a start before frame 0.
    """

    video: int
    label: int
    start_frame: int
    boxes: np.ndarray
    score: float | None = None
    box_scores: np.ndarray | None = None

    def __post_init__(self) -> None:
        num = len(self.boxes)
        _check_numbers("boxes", self.boxes, (num, 4))
        if num == 0 or self.start_frame < 0:
            raise ValueError(f"want a tube of one frame or more, from 0 on, got {num} at {self.start_frame}")
        if self.score is not None and not np.isfinite(self.score):
            raise ValueError(f"score: want a finite number, got {self.score}")
        if self.box_scores is not None:
            _check_numbers("box_scores", self.box_scores, (num,))

    @property
    def end_frame(self) -> int:
        """One past the last frame."""
        return self.start_frame + len(self.boxes)


@dataclass(frozen=True, slots=True, eq=False)
class TubeSet:
    """The tubes of V videos: truth where the tubes have no score, else predictions.

    tubes: in the order of their file. videos: V names, also of videos without a tube; labels: K names; shapes: one a
    video. Raises ValueError for indices out of range.
    """

    tubes: tuple[Tube, ...]
    videos: tuple[str, ...]
    labels: tuple[str, ...]
    shapes: tuple[VideoShape, ...]

    def __post_init__(self) -> None:
        if len(self.shapes) != len(self.videos):
            raise ValueError(f"want a shape for each of {len(self.videos)} videos, got {len(self.shapes)}")
        for tube in self.tubes:
            if not (0 <= tube.video < len(self.videos) and 0 <= tube.label < len(self.labels)):
                raise ValueError(f"a tube of video {tube.video} with label {tube.label} is of no known video or label")
        _check_names(self.videos, self.labels)

    def __len__(self) -> int:
        return len(self.tubes)


def _check_index(name: str, column: np.ndarray, num: int, size: int, *, lowest: int = 0) -> None:
    if column.shape != (num,) or column.dtype != np.int64:
        raise ValueError(f"{name}: want int64 of shape {(num,)}, got {column.dtype} {column.shape}")
    if num and not (lowest <= column.min() and column.max() < size):
        raise ValueError(f"{name}: want {lowest} to {size - 1}, got {column.min()} to {column.max()}")


def _check_numbers(name: str, column: np.ndarray, shape: tuple[int, ...], *, nan: bool = False) -> None:
    if column.shape != shape or column.dtype != np.float64:
        raise ValueError(f"{name}: want float64 of shape {shape}, got {column.dtype} {column.shape}")
    if not (np.isfinite(column) | (np.isnan(column) & nan)).all():
        raise ValueError(f"{name}: want finite numbers, got {column[~np.isfinite(column)][0]}")


def _check_names(videos: tuple[str, ...], labels: tuple[str, ...]) -> None:
    for what, names in (("videos", videos), ("labels", labels)):
        if len(set(names)) != len(names):
            raise ValueError(f"{what}: a name stands there twice: {next(n for n in names if names.count(n) > 1)!r}")
