import pytest

from pipeline.forecast.probe import flow_of_whole


def test_what_opening_and_seeking_take_does_not_come_with_each_clip_of_a_flow() -> None:
    """A video of 40 clips: 0.5 s to reach any one of them, 0.02 s to decode on to the next, 0.1 s for a clip's flow."""
    part_of_clips, whole_of_clips = 0.5, 0.5 + 39 * 0.02
    found = flow_of_whole(0.5 + 0.1, times=40, of_clips=part_of_clips, whole_clips=whole_of_clips)
    assert found == pytest.approx(0.5 + 39 * 0.02 + 40 * 0.1)


def test_a_video_of_one_clip_takes_what_it_took() -> None:
    assert flow_of_whole(0.6, times=1, of_clips=0.5, whole_clips=0.5) == pytest.approx(0.6)


def test_the_whole_never_takes_less_than_its_part() -> None:
    assert flow_of_whole(0.6, times=40, of_clips=0.7, whole_clips=1.0) == 0.6
