"""The annotated instants of a head's videos, its keyframes, and the boxes at them, from AVA csv or from tubes.

AVA's keyframes are the seconds that its csv has looked at, with boxes or without. Of tubes they are the centres of the
windows of a video's maps, with boxes of whichever tubes are there then. A video that is not annotated has keyframes at
the centres of its windows, too: the head says what it finds there. So has one without a split, where others have one.
Keyframes without boxes teach what is no actor.

Splits are the manifest's; what it lacks is held out of the annotated videos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.annotations import Joined, Opened, join_videos, open_annotations
from pipeline.annotations.columns import continue_names
from pipeline.annotations.keyframes import boxes_at, with_shapes
from pipeline.training.account import LeftOut
from pipeline.training.detection.maps import Maps
from pipeline.training.splits import Role, assign
from schemas.annotation import BoxTable, TubeSet, VideoShape
from schemas.annotation_files import BoxAnnotations
from schemas.errors import ReelmillError, UsageError
from schemas.heads import Holdout
from schemas.manifest import VideoRow


@dataclass(frozen=True)
class AnnotatedBoxes:
    """The annotations of a head, joined to the manifest. names: of the annotations' videos; the first are those of the
    truth's table or tubes."""

    opened: Opened
    names: tuple[str, ...]
    rows: tuple[VideoRow, ...]  # those annotated, in manifest order
    roles: Mapping[str, Role]  # video_id -> split, or why it has none
    name_of: Mapping[str, int]  # video_id -> its place in `names`
    absent: tuple[str, ...]  # annotated, not in the manifest
    left_out: Mapping[str, LeftOut]  # video_id -> why, for rows that are not annotated or have no split

    @property
    def tubes(self) -> TubeSet | None:
        return self.opened.truth if isinstance(self.opened.truth, TubeSet) else None

    def name_or_id(self, video_id: str) -> str:
        """What a video is called in the annotations; its video_id where they don't know it."""
        place = self.name_of.get(video_id)
        return video_id if place is None else self.names[place]

    def seconds_looked_at(self) -> dict[str, NDArray[np.float64]]:
        """The annotated seconds of each video of AVA's, by its name, ascending."""
        seconds: dict[str, list[float]] = {}
        for name, second in self.opened.frames:
            seconds.setdefault(name, []).append(second)
        return {name: np.array(sorted(found)) for name, found in seconds.items()}


def join_boxes(settings: BoxAnnotations, rows: Sequence[VideoRow], *, holdout: Holdout, where: str) -> AnnotatedBoxes:
    """Read a config section's boxes or tubes and find their videos among the manifest's `rows`.

    `where` names the head in errors. Raises UsageError where the annotations
    can't be read, hold no boxes or name a row twice, ReelmillError where no row is annotated.
    """
    try:
        opened = open_annotations(settings)
        names = continue_names(opened.truth.videos, sorted({name for name, _ in opened.frames}))
        joined = join_videos(names, rows)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    if not len(opened.truth):
        raise ReelmillError(f"{where}: the annotations have no box")
    if not len(joined.row):
        raise ReelmillError(
            f"{where}: none of the {len(names)} annotated videos is in the manifest ({names[0]!r} is one, and the "
            f"manifest has {rows[0].video_id!r})"
        )
    annotated = [rows[row] for row in joined.row]
    roles = {role.video_id: role for role in assign(annotated, holdout=holdout, where=where, labelled="any")}
    return AnnotatedBoxes(
        opened=opened,
        names=tuple(names),
        rows=tuple(annotated),
        roles=roles,
        name_of=dict(zip((row.video_id for row in annotated), joined.video.tolist(), strict=True)),
        absent=joined.annotation_without_video,
        left_out=_left_out(joined, roles),
    )


def _left_out(joined: Joined, roles: Mapping[str, Role]) -> dict[str, LeftOut]:
    why = dict.fromkeys(joined.video_without_annotation, "is not annotated")
    why |= {name: role.message for name, role in roles.items() if role.reason}
    return {
        name: LeftOut("not_trained", f"{message}; what the head finds in it is in its predictions")
        for name, message in why.items()
    }


# ---------------------------------------------------------------- tubes by the clock of the maps


def first_seconds(maps: Maps, rows: Mapping[str, VideoRow]) -> NDArray[np.float64]:
    """When the first frame of each video of the maps is shown, on the file's clock.

    That is the start of its first window where windows begin with the video; else, and where the manifest names a part
    of the file, it is taken to be 0.
    """
    first_s = np.zeros(len(maps.video_ids))
    if maps.origin.starts_with_video:
        for video, video_id in enumerate(maps.video_ids):
            if rows[video_id].start_s is None:
                first_s[video] = maps.windows[maps.offsets[video], 0]
    return first_s


def with_rates(tubes: TubeSet, annotated: AnnotatedBoxes, maps: Maps, first_s: NDArray[np.float64]) -> TubeSet:
    """The same tubes. UCF101-24's come without a rate: it is that of the number of frames shown until the last window
    ends, where windows cover the video to its end."""
    found: dict[str, VideoShape] = {}
    for video, video_id in enumerate(maps.video_ids):
        name = annotated.name_of.get(video_id)
        if name is None:
            continue
        shape = tubes.shapes[name]
        if shape.fps is None and shape.num_frames and maps.origin.ends_with_video:
            length_s = maps.windows[maps.of_video(video), 2].max() - first_s[video]
            found[tubes.videos[name]] = replace(shape, fps=float(shape.num_frames / length_s))
    return with_shapes(tubes, found)


def boxes_of_keyframes(
    annotated: AnnotatedBoxes,
    tubes: TubeSet | None,
    *,
    name: NDArray[np.int64],
    second: NDArray[np.float64],
    first_s: NDArray[np.float64],
    where: str,
) -> BoxTable:
    """The true boxes at instants (K,), in shares of the frame. name: (K,) into the annotations' names; first_s: (K,).

    Raises UsageError where tubes come without what is needed to place them.
    """
    if tubes is None:
        table = annotated.opened.truth
        assert isinstance(table, BoxTable)
        return table
    starts = np.zeros(len(tubes.videos))
    starts[name] = first_s
    try:
        return boxes_at(tubes, video=name, second=second, first_s=starts)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
