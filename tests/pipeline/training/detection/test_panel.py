"""One frame with boxes: what is dimmed, where boxes lie, what is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.training.detection.dataset import DetectionData, load_detection
from pipeline.training.detection.panel import GREY, Frames, Mark, colour_of, draw_panel, line_of, shorten
from schemas.heads import RoIHead


def load(world: Any) -> DetectionData:
    product = world.head(world.tubes())
    return load_detection(world.source(product), RoIHead.model_validate(product.settings))


def test_what_the_maps_do_not_cover_is_darker(world: Any, make_videos: Any) -> None:
    world.view_px = (0, 16, 48, 32)  # the middle half of the width
    world.write(make_videos(4))
    frames = Frames(load(world), lambda video_id, second: np.full((12, 40, 3), 200, np.uint8))
    picture = frames.picture(0, 1.0)
    assert (picture[:, 10:30] == 200).all()
    assert (picture[:, :10] == 90).all()
    assert (picture[:, 30:] == 90).all()


def test_the_frame_asked_for_is_the_videos(world: Any, make_videos: Any) -> None:
    world.write(make_videos(4))
    asked = []
    Frames(load(world), lambda *which: asked.append(which)).picture(2, 1.25)  # type: ignore[func-returns-value]
    assert asked == [("video-002", 1.25)]


def test_without_clips_frames_are_grey(world: Any, make_videos: Any) -> None:
    world.write(make_videos(4))
    picture = Frames(load(world), lambda video_id, second: None).picture(0, 1.0)
    assert picture.shape == (48, 64, 3)
    assert (picture == GREY).all()


def test_boxes_lie_in_what_clips_have_kept(world: Any, make_videos: Any) -> None:
    """Of a frame of 128×96 the clips keep the middle 64×48: an eighth of the frame is a quarter of a clip's."""
    world.clips = {"resize": (96, 128), "crop": (48, 64)}
    world.write(make_videos(4))
    frames = Frames(load(world), lambda video_id, second: None)
    placed = frames.place(np.array([[0.25, 0.25, 0.75, 0.75], [0.5, 0.5, 0.625, 1.0]]))
    assert placed.tolist() == [[0, 0, 1, 1], [0.5, 0.5, 0.75, 1.5]]


def test_a_box_is_drawn_where_it_is() -> None:
    figure = Figure(figsize=(2, 1))
    axes = figure.add_axes((0, 0, 1, 1))
    mark = Mark(np.array([0.25, 0.2, 0.75, 0.8]), "", "#ff0000", width=4)
    draw_panel(axes, np.zeros((50, 100, 3), np.uint8), [mark])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    red = np.asarray(canvas.buffer_rgba())[..., 0] > 200
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    assert [columns[0], columns[-1], rows[0], rows[-1]] == pytest.approx([50, 150, 20, 80], abs=4)
    assert not red[30:70, 60:140].any()


@pytest.mark.parametrize(
    ("box", "below", "expected"),
    [
        ((0.1, 0.4, 0.5, 0.6), False, (0.1, 0.4, "bottom", "left")),
        ((0.1, 0.0, 0.5, 0.6), False, (0.1, 0.0, "top", "left")),  # no room above the box
        ((0.1, 0.4, 0.5, 0.6), True, (0.1, 0.6, "top", "left")),
        ((0.1, 0.4, 0.5, 1.2), True, (0.1, 1.0, "bottom", "left")),
        ((-0.2, -0.2, 0.5, 0.6), False, (0.0, 0.0, "top", "left")),
        ((0.7, 0.4, 1.2, 0.6), False, (1.0, 0.4, "bottom", "right")),
    ],
)
def test_text_stays_inside_of_the_picture(box: Any, below: bool, expected: Any) -> None:
    axes = Figure(figsize=(2, 2)).add_axes((0, 0, 1, 1))
    draw_panel(axes, np.zeros((10, 10, 3), np.uint8), [Mark(np.array(box), "cost $5", "#123456", below=below)])
    (text,) = axes.texts
    x, y = text.get_position()
    assert (x / 10, y / 10, text.get_va(), text.get_ha()) == expected
    assert text.get_text() == r"cost \$5"


def test_colours_are_those_of_the_place() -> None:
    assert len({colour_of(place) for place in range(20)}) == 20
    assert colour_of(23) == colour_of(3)


def test_lines_are_wider_and_stronger_the_surer() -> None:
    assert line_of(0.0, 1, 2) == (1.0, 0.4)
    assert line_of(0.5, 1, 2) == (2.0, 0.7)
    assert line_of(7.0, 1, 2) == (3.0, 1.0)


def test_long_names_are_cut_in_their_middle() -> None:
    assert shorten("abcdefgh", 8) == "abcdefgh"
    assert shorten("abcdefghi", 8) == "abc…fghi"
