"""Which split a video belongs to, and that growth moves none."""

from typing import Any

import pytest

from pipeline.training.splits import assign, expects_test
from schemas.errors import ReelmillError
from schemas.heads import Holdout
from schemas.manifest import VideoRow

HOLDOUT = Holdout()


def row(video_id: str, split: str | None = None, label_ids: tuple[int, ...] = (0,), **other: Any) -> VideoRow:
    labels = other.get("labels", tuple(f"class {label_id}" for label_id in label_ids))
    return VideoRow(video_id, f"/v/{video_id}.mp4", split, labels, label_ids, None, None)


def rows(num: int, split: str | None = None, prefix: str = "v") -> list[VideoRow]:
    return [row(f"{prefix}{n}", split) for n in range(num)]


def splits_of(videos: list[VideoRow], holdout: Holdout = HOLDOUT) -> dict[str, str | None]:
    return {role.video_id: role.split for role in assign(videos, holdout=holdout, where="heads/a")}


def share(splits: dict[str, str | None], split: str) -> float:
    return sum(found == split for found in splits.values()) / len(splits)


def test_given_splits_are_kept() -> None:
    videos = rows(5, "train", "a") + rows(3, "val", "b") + rows(2, "test", "c")
    assert list(splits_of(videos).values()) == ["train"] * 5 + ["val"] * 3 + ["test"] * 2
    assert expects_test(videos)


def test_train_and_test_carve_val_out_of_train() -> None:
    splits = splits_of(rows(1000, "train", "a") + rows(100, "test", "b"))
    assert all(split == "test" for video_id, split in splits.items() if video_id.startswith("b"))
    of_train = {video_id: split for video_id, split in splits.items() if video_id.startswith("a")}
    assert 0.16 < share(of_train, "val") < 0.24
    assert share(of_train, "test") == 0


def test_train_and_val_leave_no_test() -> None:
    videos = rows(50, "train", "a") + rows(9, "val", "b")
    splits = splits_of(videos)
    assert share(splits, "test") == 0
    assert not expects_test(videos)
    assert [splits[f"a{n}"] for n in range(50)] == ["train"] * 50


@pytest.mark.parametrize("given", [None, "train"])
def test_without_val_and_test_both_are_held_out(given: str | None) -> None:
    splits = splits_of(rows(2000, given))
    assert 0.17 < share(splits, "test") < 0.23
    assert 0.13 < share(splits, "val") < 0.19  # a fifth of what test leaves
    assert expects_test(rows(3, given))


@pytest.mark.parametrize("given", [None, "train"])
def test_growth_and_order_move_no_video(given: str | None) -> None:
    small = splits_of(rows(300, given))
    grown = splits_of(rows(200, given, "new-") + list(reversed(rows(600, given))))
    assert small.items() <= grown.items()
    assert len(set(small.values())) == 3


def test_the_seed_and_the_fraction_matter() -> None:
    videos = rows(500)
    assert splits_of(videos) != splits_of(videos, Holdout(seed=1))
    some, more = splits_of(videos, Holdout(fraction=0.1)), splits_of(videos, Holdout(fraction=0.3))
    tested = {video_id for video_id, split in some.items() if split == "test"}
    assert tested < {video_id for video_id, split in more.items() if split == "test"}  # a larger share only adds


def test_rows_that_a_head_leaves_out_say_why() -> None:
    videos = [row("a", "train"), row("b", "train", ()), row("c", "train", (0, 1)), row("d", None), row("e", "val", ())]
    reasons = {role.video_id: (role.reason, role.message) for role in assign(videos, holdout=HOLDOUT, where="h")}
    assert reasons["a"] == ("", "")
    assert reasons["b"] == reasons["e"] == ("no_label", "has no label")
    assert reasons["c"] == ("multi_label", "has 2 labels; this head takes one class a video")
    assert reasons["d"][0] == "no_split"


def test_a_label_without_a_name_is_its_number() -> None:
    (role,) = assign([row("a", label_ids=(17,), labels=())], holdout=HOLDOUT, where="h")
    assert (role.label_id, role.label) == (17, "17")


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        (
            [row("a", label_ids=(0, 1)), row("b", label_ids=())],
            "heads/a: no video has exactly one label (1 of 2 have several); this head is for single-label sources",
        ),
        (
            [row("a", label_ids=()), row("b", label_ids=())],
            "heads/a: none of the 2 videos of the manifest has a label; index a source that has labels",
        ),
        (
            [row("a", "val"), row("b", "test")],
            "heads/a: the manifest has labelled test and val videos but none of split train; index them too",
        ),
    ],
)
def test_errors_are_one_sentence(videos: list[VideoRow], message: str) -> None:
    with pytest.raises(ReelmillError) as error:
        assign(videos, holdout=HOLDOUT, where="heads/a")
    assert str(error.value) == message


def test_heads_of_many_labels_take_rows_that_others_leave_out() -> None:
    videos = [row("a"), row("b", label_ids=(0, 1)), row("c", label_ids=())]
    reasons = {
        labelled: [role.reason for role in assign(videos, holdout=HOLDOUT, where="heads/a", labelled=labelled)]
        for labelled in ("one", "some", "any")
    }
    assert reasons == {
        "one": ["", "multi_label", "no_label"],
        "some": ["", "", "no_label"],
        "any": ["", "", ""],
    }
    two = assign(videos, holdout=HOLDOUT, where="heads/a", labelled="any")[1]
    assert (two.label_id, two.label, two.split is None) == (-1, "", False)
