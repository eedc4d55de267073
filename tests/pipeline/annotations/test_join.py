import pytest

from pipeline.annotations.join import join_videos, public_names
from schemas.errors import UsageError
from schemas.video_row import VideoRow


def rows(*uris: str, split: str | None = None) -> list[VideoRow]:
    return [VideoRow(f"id{index}", uri, split, (), (), None, None) for index, uri in enumerate(uris)]


@pytest.mark.parametrize("name", ["id0", "v_a.avi", "v_a", "a", "v_a.mp4", "a.AVI"])
def test_names_that_mean_a_row(name) -> None:
    joined = join_videos([name], rows("/data/v_a.avi", "/data/b.avi"))
    assert (joined.row.tolist(), joined.video.tolist()) == ([0], [0])
    assert joined.video_without_annotation == ("id1",)


def test_a_name_with_v_means_the_file_without() -> None:
    assert join_videos(["v_a"], rows("s3://bucket/x/a.b.mp4?region=x", "s3://bucket/x/a.mp4")).row.tolist() == [1]
    assert join_videos(["a.b"], rows("s3://bucket/x/a.b.mp4?region=x")).row.tolist() == [0]
    assert join_videos(["-5KQ66BBWC4"], rows("/d/-5KQ66BBWC4.mkv")).row.tolist() == [0]


def test_the_nearest_meaning_decides() -> None:
    assert join_videos(["a"], rows("/d/v_a.mp4", "/d/a.mp4")).row.tolist() == [1]
    assert join_videos(["a", "v_a"], rows("/d/v_a.mp4", "/d/a.mp4")).video.tolist() == [1, 0]


def test_what_has_no_partner_is_named() -> None:
    joined = join_videos(["z", "b", "y"], rows("/d/a.mp4", "/d/b.mp4", "/d/c.mp4"))
    assert joined.annotation_without_video == ("z", "y")
    assert joined.video_without_annotation == ("id0", "id2")
    assert (joined.row.tolist(), joined.video.tolist()) == ([1], [1])


def test_pairs_are_in_the_order_of_the_manifest() -> None:
    joined = join_videos(["c", "a", "b"], rows("/d/a.mp4", "/d/b.mp4", "/d/c.mp4"), subset=["testing", None, "odd"])
    assert joined.video.tolist() == [1, 2, 0]
    assert joined.split == (None, None, "test")


def test_the_manifests_split_is_stronger_than_the_subset() -> None:
    assert join_videos(["a"], rows("/d/a.mp4", split="val"), subset=["training"]).split == ("val",)
    assert join_videos(["a"], rows("/d/a.mp4"), subset=["training"]).split == ("train",)
    assert join_videos(["a"], rows("/d/a.mp4")).split == (None,)


def test_two_rows_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match=r"video 'a' may be /d/x/a\.mp4 or /d/y/a\.avi"):
        join_videos(["a"], rows("/d/x/a.mp4", "/d/y/a.avi"))
    assert join_videos(["a.avi"], rows("/d/x/a.mp4", "/d/y/a.avi")).row.tolist() == [1]


def test_two_names_of_one_row_are_refused() -> None:
    with pytest.raises(UsageError, match="videos 'v_a' and 'a' are both the manifest's 'id0'"):
        join_videos(["v_a", "a"], rows("/d/a.mp4"))


def test_nothing_to_join() -> None:
    joined = join_videos([], [])
    assert (joined.row.shape, joined.video.shape, joined.split) == ((0,), (0,), ())


def test_public_names_mean_their_rows_again() -> None:
    files = rows("/d/v_a.mp4", "s3://b/x/c.d.mp4?region=y", "/d/e.mp4", "/e/e.avi", "/d/v_f.mp4", "/d/f.mp4", "/d/.mp4")
    names = public_names(files)
    assert names == ["a", "c.d", "id2", "id3", "id4", "id5", "id6"]  # two files of a name go by their video_id
    assert join_videos(names, files).row.tolist() == list(range(7))
