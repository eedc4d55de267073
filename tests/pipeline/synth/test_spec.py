from fractions import Fraction

import pytest

from pipeline.synth import CATALOGUE, SynthSpec
from schemas.errors import UsageError


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_classes": len(CATALOGUE) + 1}, f"between 1 and {len(CATALOGUE)}, got {len(CATALOGUE) + 1}"),
        ({"num_classes": 0}, "got 0"),
        ({"videos_per_class": 0}, "nothing to make"),
        ({"videos_per_class": -1}, "can't be negative"),
        ({"num_classes": 1, "num_untrimmed": 1, "videos_per_class": 1, "untrimmed_s": 5.0}, "at least twice as long"),
        ({"width_px": 175}, "175x144"),
        ({"height_px": 16}, "176x16"),
        ({"fps": 0.5}, "got 0.5"),
        ({"duration_s": 0.1}, "under 4 frames"),
        ({"split": (0.5, 0.1, 0.1)}, "sum to 1"),
        ({"num_actors": 9}, "got 9"),
        ({"crf": 60}, "got 60"),
        ({"gop": 0}, "and 0"),
        ({"camera_jitter_px": 50.0}, "got 50"),
        ({"seed": -1}, "got -1"),
    ],
)
def test_a_bad_setting_is_one_sentence_with_the_value(settings, said):
    with pytest.raises(UsageError) as error:
        SynthSpec(**settings)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_broadcast_rates_are_exact():
    assert SynthSpec(fps=29.97).rate == Fraction(30000, 1001)
    assert SynthSpec(fps=23.976).rate == Fraction(24000, 1001)
    assert SynthSpec(fps=12.5).rate == Fraction(25, 2)
    assert SynthSpec(fps=30).rate == 30


def test_there_are_hundreds_of_classes_in_a_fixed_order():
    assert len(CATALOGUE) >= 400
    assert SynthSpec(num_classes=4).classes == ("move_right", "move_left", "move_up", "move_down")
