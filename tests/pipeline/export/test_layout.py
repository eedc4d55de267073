"""Folders and numbers from index rows alone."""

import pytest

from pipeline.export.layout import ClipRow, Layout, by_video, why_not_one_folder
from schemas.config import Clips, Flow

CLIPS = Clips(frames=4, fps=2)  # 2 s


def row(video: str, start_s: float, *, end_s: float | None = None, real: int = 4, labels: tuple[int, ...] = (1,)):
    end_s = start_s + 2 if end_s is None else end_s
    return ClipRow(f"{video}@{start_s}", video, start_s, end_s, labels, real)


def layout(per: str, *, frames: bool = True, **flow: object) -> Layout:
    return Layout(Flow.model_validate({"clips": "c", **flow}), CLIPS, per=per, frames=frames)


def counts(folder) -> list[tuple[str, int, int, int]]:
    return [(part.clip_id, part.first, part.num_fields, part.num_frames) for part in folder.parts]


@pytest.mark.parametrize(("fields", "num_fields"), [("T", 4), ("T-1", 3)])
def test_a_clip_is_all_that_is_stored(fields, num_fields) -> None:
    made = list(layout("clip", fields=fields).folders([row("a", 0), row("a", 1, real=1, labels=(2, 3))]))
    assert [(folder.name, folder.video_id, folder.label_ids) for folder in made] == [
        ("a@0", "a", (1,)),
        ("a@1", "a", (2, 3)),
    ]
    assert [counts(folder) for folder in made] == [[("a@0", 0, num_fields, 4)], [("a@1", 0, num_fields, 4)]]


def test_a_video_ends_with_its_last_frame() -> None:
    rows = [row("a", 0), row("a", 2), row("a", 4, end_s=5, real=1), row("b", 0, real=3), row("c", 0, real=2)]
    a, b, c = layout("video").folders(rows)
    assert counts(a) == [("a@0", 0, 4, 4), ("a@2", 4, 4, 4), ("a@4", 8, 1, 2)]
    assert (a.num_fields, a.num_frames) == (9, 10)
    assert counts(b) == [("b@0", 0, 3, 4)]  # all four frames are real
    assert counts(c) == [("c@0", 0, 2, 3)]


def test_without_frames() -> None:
    for per in ("video", "clip"):
        (folder,) = layout(per, frames=False).folders([row("a", 0)])
        assert (folder.num_fields, folder.num_frames) == (4, 0)


def test_clips_come_in_time_order() -> None:
    assert [[clip.start_s for clip in clips] for clips in by_video([row("a", 2), row("a", 0), row("b", 1)])] == [
        [0, 2],
        [1],
    ]


@pytest.mark.parametrize(
    ("clips", "why"),
    [
        ([row("a", 0, real=1)], None),
        ([row("a", 0), row("a", 2), row("a", 4, end_s=4.5, real=1)], None),
        ([row("a", 0, end_s=0.1 + 0.2), row("a", 0.3)], None),  # the same microsecond
        ([row("a", 0), row("a", 1.5)], "the clips of a overlap"),
        ([row("a", 0), row("a", 2.5)], "the clips of a leave gaps"),
        ([row("a", 0, real=3), row("a", 2)], "between the clips of a a field is not stored"),
        ([row("a", 0), row("a", 2, labels=(2,))], "the clips of a have different labels"),
    ],
)
def test_why_not_one_folder(clips, why) -> None:
    assert why_not_one_folder(clips, num_frames=4) == why
