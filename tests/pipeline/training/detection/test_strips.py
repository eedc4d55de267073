"""The picture of tubes: which videos and instants, in whose seconds, and that its bytes are fixed."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from pipeline.training.detection.dataset import DetectionData, load_detection
from pipeline.training.detection.strips import draw_tubes, make_strip, spread_videos
from schemas.annotation import Tube, TubeSet, VideoShape
from schemas.heads import RoIHead

BOX = np.array([8.0, 0.0, 32.0, 24.0])  # px of 64×48


def load(world: Any, annotations: dict[str, Any]) -> DetectionData:
    product = world.head(annotations)
    return load_detection(world.source(product), RoIHead.model_validate(product.settings))


def tubes_of(data: DetectionData, *tubes: tuple[int, int, int, float], fps: float = 16.0) -> TubeSet:
    """Tubes (video, first frame, number of frames, score) in all videos of the maps."""
    return TubeSet(
        tubes=tuple(Tube(video, 0, start, np.tile(BOX, (count, 1)), score) for video, start, count, score in tubes),
        videos=data.names,
        labels=tuple(name for _, name in data.classes),
        shapes=tuple(VideoShape(64, fps, 64, 48) for _ in data.names),
    )


def test_a_tube_lies_in_the_seconds_of_the_file(world: Any, parts: Any) -> None:
    actor = parts.Actor(0, (0.125, 0.0, 0.5, 0.5), start_s=1.0, end_s=3.0)
    videos = [parts.Video(n, (actor,), s, first_s=10.0) for n, s in zip("abc", ("train", "val", "test"), strict=True)]
    world.write(videos)
    data = load(world, world.tubes())
    strip = make_strip(data, tubes_of(data, (2, 24, 16, 0.75)), 2)
    (true,), (lane,) = strip.true, strip.found
    assert (true.label, true.score, true.start_s, true.end_s) == ("sit", None, 11.0, 13.0)
    assert (lane.label, lane.score, lane.start_s, lane.end_s) == ("sit", 0.75, 11.5, 12.5)
    assert lane.box_at(11.49) is None
    assert lane.box_at(12.5) is None
    assert lane.box_at(11.5).tolist() == [0.125, 0, 0.5, 0.5]  # type: ignore[union-attr]
    # the true tube's span and a tenth of it to both sides, in eight equal parts
    assert strip.seconds == pytest.approx(10.8 + 2.4 * (np.arange(8) + 0.5) / 8)


def test_the_best_tubes_are_shown(world: Any, make_videos: Any) -> None:
    world.write(make_videos(4))
    data = load(world, world.tubes())
    weak = [(3, 0, 4, 0.1)] * 3
    strong = [(3, 0, 4, 0.4 + n / 20) for n in range(10)]
    strip = make_strip(data, tubes_of(data, *weak, *strong), 3)
    assert [lane.score for lane in strip.found] == pytest.approx([0.85 - n / 20 for n in range(8)])
    assert len({lane.colour for lane in strip.found}) == 8
    assert strip.num_found == 13
    strip = make_strip(data, tubes_of(data, *weak, strong[0]), 3)
    assert [lane.score for lane in strip.found] == [0.4]


def test_of_avas_videos_keyframes_are_shown(world: Any, make_videos: Any) -> None:
    world.write(make_videos(4, seconds=20))
    data = load(world, world.ava())
    strip = make_strip(data, tubes_of(data, (3, 8, 8, 0.75), fps=8.0), 3)
    assert set(strip.seconds.tolist()) <= set(map(float, range(20)))
    assert len(strip.seconds) == 8
    assert strip.true == ()
    ((label, seconds),) = strip.marked.items()
    assert label in ("sit", "wave")
    assert seconds.tolist() == list(range(20))


def test_videos_are_spread_over_those_where_something_is(world: Any, make_videos: Any, parts: Any) -> None:
    annotated = make_videos(12)
    world.write([*annotated, *(parts.Video(name) for name in ("x", "y"))])
    data = load(world, world.tubes(annotated))
    assert spread_videos(data, tubes_of(data)) == [0, 3, 6, 9]
    assert spread_videos(data, tubes_of(data, (13, 0, 4, 0.5))) == [0, 3, 6, 9]
    only = TubeSet((), ("x", "y"), ("sit",), tubes_of(data).shapes[-2:])
    assert spread_videos(data, only) == []
    assert draw_tubes(data, only, lambda video_id, second: None, title="heads/who") is None


@pytest.mark.parametrize("kind", ["tubes", "ava"])
def test_the_picture_is_fixed_bytes(world: Any, make_videos: Any, kind: str) -> None:
    world.write(make_videos(4))
    data = load(world, getattr(world, kind)())

    def draw(*tubes: tuple[int, int, int, float], level: int = 60) -> bytes:
        frame = np.full((48, 64, 3), level, np.uint8)
        png = draw_tubes(data, tubes_of(data, *tubes), lambda video_id, second: frame, title="heads/who")
        assert png is not None
        return png

    first = draw((3, 0, 40, 0.75))
    with matplotlib.rc_context({"lines.linewidth": 9, "savefig.dpi": 30, "font.size": 30}):
        assert draw((3, 0, 40, 0.75)) == first
    assert b"matplotlib" not in first.lower()
    assert imread(io.BytesIO(first)).shape[1] == round(100 * (1.9 + 8 * 1.75 + 0.15))
    for other in (draw((3, 0, 30, 0.75)), draw((3, 0, 40, 0.5)), draw(), draw((3, 0, 40, 0.75), level=61)):
        assert other != first
