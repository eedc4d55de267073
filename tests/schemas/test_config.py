import pytest
from pydantic import ValidationError

from schemas.config import Budget, Clips, Units


@pytest.mark.parametrize(("failed", "rows"), [(0, 0), (7, 7), ("2%", 20), ("0.5%", 5), ("100%", 1000)])
def test_budget(failed, rows: int) -> None:
    assert Budget(failed=failed).rows(1000) == rows


@pytest.mark.parametrize("failed", [-1, "many", "101%", "-2%", "5", "%"])
def test_bad_budget(failed) -> None:
    with pytest.raises(ValidationError):
        Budget(failed=failed)


@pytest.mark.parametrize(("num_rows", "size"), [(0, 1), (1, 1), (25, 1), (64, 2), (200, 4), (2048, 64), (10**6, 64)])
def test_default_unit_size(num_rows: int, size: int) -> None:
    assert Units().size(num_rows) == size
    assert Units(videos_per_unit=7).size(num_rows) == 7


def test_clip_length_and_step() -> None:
    clips = Clips(frames=16, fps=5)
    assert clips.length_s == pytest.approx(3.2)
    assert clips.step_s == clips.length_s
    assert Clips(frames=16, fps=5, stride_s=1).step_s == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"resize": (128, 171), "short_side": 128},
        {"resize": (100, 100), "crop": (112, 112)},
        {"windows": "random"},
        {"num_clips": 3},
        {"windows": "segment", "stride_s": 1},
        {"stride_s": 1e-6},
        {"resize": (4, 4)},
        {"fps": 0},
        {"tail": "wrap"},
        {"encoding": "mp4", "resize": (128, 171)},
        {"stride_s": float("inf")},
        {"fps": float("nan")},
    ],
)
def test_settings_that_contradict(settings) -> None:
    with pytest.raises(ValidationError):
        Clips(**{"frames": 16, "fps": 5, **settings})
