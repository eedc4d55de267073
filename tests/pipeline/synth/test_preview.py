from fractions import Fraction

import numpy as np

from pipeline.synth.encode import write_mp4
from pipeline.synth.preview import ACCENT, COLUMNS, MAX_ROWS, Row, contact_sheet, read_frames, spread


def video(path):
    frames = [np.full((48, 64, 3), 20 + 5 * i, np.uint8) for i in range(40)]
    write_mp4(path, frames, rate=Fraction(10), crf=5, gop=10)
    return path


def test_frames_are_spread_from_the_first_to_the_last():
    assert spread(0, 40)[0] == 0
    assert spread(0, 40)[-1] == 39
    assert len(spread(0, 40)) == COLUMNS
    assert len(spread(0, 4)) == COLUMNS


def test_frames_are_the_ones_asked_for_also_twice(tmp_path):
    frames = read_frames(video(tmp_path / "a.mp4"), (0, 7, 7, 39))
    np.testing.assert_allclose([frame.mean() for frame in frames], [20, 55, 55, 215], atol=1.5)


def test_a_sheet_has_a_row_a_video_and_draws_boxes(tmp_path):
    path = video(tmp_path / "a.mp4")
    plain = Row("move_right_then_move_left", path, spread(0, 40), 10.0)
    boxed = Row("x", path, spread(0, 40), 10.0, ("still",) * COLUMNS, (((8.0, 8.0, 30.0, 30.0),),) * COLUMNS)
    one, two = contact_sheet([plain]), contact_sheet([plain, boxed])
    assert two.shape == (2 * one.shape[0], *one.shape[1:])
    accent = (two == ACCENT).all(axis=2)
    assert not accent[: one.shape[0]].any()
    assert accent[one.shape[0] :].any()


def test_many_rows_are_cut_and_counted(tmp_path):
    path = video(tmp_path / "a.mp4")
    row = Row("x", path, (0,) * COLUMNS, 10.0)
    full, over = contact_sheet([row] * MAX_ROWS), contact_sheet([row] * (MAX_ROWS + 5))
    assert full.shape[0] < over.shape[0] < full.shape[0] * (MAX_ROWS + 1) / MAX_ROWS
