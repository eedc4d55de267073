"""Rates and sizes that tubes lack, from real video files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipeline.training.detection.dataset import load_detection
from pipeline.training.detection.headers import with_headers
from pipeline.training.detection.maps import read_maps
from pipeline.training.detection.truth import join_boxes
from pipeline.units import unit_table
from schemas.annotation import TubeSet
from schemas.errors import UsageError
from schemas.heads import RoIHead
from schemas.manifest import VideoRow


def encode(path: Path, *, width: int, height: int, fps: int) -> str:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(4):
            picture = np.zeros((height, width, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return str(path)


def headers_of(world: Any, uri: str, annotations: dict[str, Any]) -> TubeSet:
    """What is known of tubes when the file of each video is `uri`."""
    product = world.head(annotations)
    settings = RoIHead.model_validate(product.settings)
    rows = [VideoRow.from_dict(row) for row in unit_table(world.store, world.whole).to_pylist()]
    annotated = join_boxes(settings.annotations, rows, holdout=settings.holdout, where="heads/who")
    annotated = replace(annotated, rows=tuple(replace(row, uri=uri) for row in annotated.rows))
    maps, _ = read_maps(world.store, product.upstream, world.units, where="heads/who")
    assert annotated.tubes is not None
    return with_headers(annotated.tubes, annotated, maps, where="heads/who")


@pytest.fixture
def filled(world: Any, make_videos: Any) -> Any:
    world.write(make_videos(4))
    return world


def shapes(tubes: TubeSet) -> set[tuple[float | None, int | None, int | None]]:
    return {(shape.fps, shape.width, shape.height) for shape in tubes.shapes}


def test_files_say_what_is_lacking_and_nothing_else(filled: Any, tmp_path: Path) -> None:
    uri = encode(tmp_path / "real.avi", width=96, height=80, fps=10)
    assert shapes(headers_of(filled, uri, filled.tubes(fps=None, width=None, height=None))) == {(10.0, 96, 80)}
    assert shapes(headers_of(filled, uri, filled.tubes(width=None, height=None))) == {(16.0, 96, 80)}
    assert shapes(headers_of(filled, uri, filled.tubes(fps=None))) == {(10.0, 64, 48)}


def test_files_are_left_alone_where_nothing_is_lacking(filled: Any) -> None:
    assert shapes(headers_of(filled, "/nowhere.avi", filled.tubes())) == {(16.0, 64, 48)}


def test_annotated_videos_without_maps_are_not_asked(world: Any, make_videos: Any, tmp_path: Path) -> None:
    videos = make_videos(5)
    videos[4].status = "failed"
    world.write(videos)
    uri = encode(tmp_path / "real.avi", width=96, height=80, fps=10)
    found = headers_of(world, uri, world.tubes(width=None, height=None))
    assert [shape.width for shape in found.shapes] == [96] * 4 + [None]


def test_a_file_that_is_needed_and_gone_is_named(filled: Any) -> None:
    with pytest.raises(
        UsageError,
        match=r"^heads/who: video-000\.mp4: its tubes come without fps, width or height, and /videos/video-000\.mp4 "
        r"can't be asked \(there is no such file\); write all three",
    ):
        load_detection(filled.source(filled.head(filled.tubes(width=None))), _settings(filled))


def _settings(world: Any) -> RoIHead:
    return RoIHead.model_validate(world.head(world.tubes(width=None)).settings)
