"""What annotated tubes lack of their videos' rate and size, from the videos' own files: UCF101-24 comes without."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from pipeline.annotations.keyframes import with_shapes
from pipeline.training.detection.maps import Maps
from pipeline.training.detection.truth import AnnotatedBoxes
from pipeline.video.errors import VideoError
from pipeline.video.probe import probe
from pipeline.video.source import open_source
from schemas.annotation import TubeSet, VideoShape
from schemas.errors import UsageError

AT_A_TIME = 8  # files that are opened side by side: on an object store each is some round trips


def with_headers(tubes: TubeSet, annotated: AnnotatedBoxes, maps: Maps, *, where: str) -> TubeSet:
    """The same tubes. What the shapes of videos with maps still lack is as their files show it: the displayed size of
    the first frame, and the header's average rate. Files of which nothing is lacking are not opened.

    `where` names the head. Raises UsageError where a file that is needed can't be read.
    """
    shapes = dict(zip(tubes.videos, tubes.shapes, strict=True))
    uri = {row.video_id: row.uri for row in annotated.rows}
    lacking: dict[str, str] = {}  # name in the annotations -> file
    for video_id in maps.video_ids:
        place = annotated.name_of.get(video_id)
        shape = None if place is None else shapes.get(annotated.names[place])
        if shape is not None and not (shape.fps and shape.width and shape.height):
            lacking[annotated.name_or_id(video_id)] = uri[video_id]
    with ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="headers") as pool:
        read = pool.map(
            lambda name: _read(name, lacking[name], num_frames=shapes[name].num_frames, where=where), lacking
        )
        return with_shapes(tubes, dict(zip(lacking, read, strict=True)))


def _read(name: str, uri: str, *, num_frames: int, where: str) -> VideoShape:
    try:
        with open_source(uri) as source:
            info = probe(source.file)
    except VideoError as error:
        raise UsageError(
            f"{where}: {name}: its tubes come without fps, width or height, and {uri} can't be asked "
            f"({error.message}); write all three into the annotations, or bring the video back"
        ) from None
    fps = float(info.rate) if info.rate else None
    return VideoShape(num_frames, fps, info.width_px, info.height_px)
