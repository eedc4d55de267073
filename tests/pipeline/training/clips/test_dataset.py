"""Which clips a network is trained on: classes, splits and groups, and what became of all the others."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from clip_dataset import ClipDataset, Video, videos_of

from pipeline import receipts
from pipeline.shards import read_sample
from pipeline.training.annotated import Missing
from pipeline.training.clips.dataset import ClipData, load_clips, sizes_of
from pipeline.training.tasks import settings_of
from schemas.errors import ReelmillError


def load(dataset: ClipDataset) -> ClipData:
    product = dataset.head()
    return load_clips(dataset.source(product), settings_of(product.settings))  # type: ignore[arg-type]


def test_every_clip_of_every_unit_in_the_order_of_the_manifest(clips: ClipDataset) -> None:
    videos = videos_of(12, num_classes=3)
    clips.write(videos)
    assert len(clips.units) == 3
    data = load(clips)
    assert data.video_ids == tuple(video.video_id for video in videos)
    assert data.classes == ((0, "left"), (1, "right"), (2, "up"))
    assert data.labels.tolist() == [n % 3 for n in range(12)]
    assert data.splits.tolist() == (["train"] * 6 + ["val"] * 3 + ["train"] * 3)
    assert [clip.clip_id for clip in data.clips] == [f"{video.video_id}_{k}" for video in videos for k in (0, 1)]
    assert data.group.tolist() == [n // 2 for n in range(24)]
    assert data.lengths.tolist() == [2] * 12
    assert data.clips_of("val").tolist() == list(range(12, 18))
    assert [row.num_items for row in data.ledger] == [2] * 12
    assert not data.missing
    assert data.left_out_clips == {}
    assert len(set(data.shards_sha256)) == 3


def test_a_clip_is_found_in_its_shard(clips: ClipDataset) -> None:
    clips.write(videos_of(12))
    for clip in load(clips).clips:
        with clips.store.open(f"clips/rgb/clips-{clip.unit:06d}.tar") as shard:
            members = read_sample(shard, clip.span)
        assert f'"clip_id": "{clip.clip_id}"'.encode() in members["json"]


def test_labels_are_the_clips_own(clips: ClipDataset) -> None:
    """Windows of labelled segments: one video has clips of several classes."""
    videos = videos_of(6)
    videos[0] = Video("video-000", (0, 1), [(0,), (1,), (0,), (), (0, 1)], "train")
    clips.write(videos)
    data = load(clips)
    assert data.video_ids[:3] == ("video-000", "video-000", "video-001")
    assert data.labels[:3].tolist() == [0, 1, 1]
    assert data.group[:3].tolist() == [0, 1, 0]
    assert data.lengths[:3].tolist() == [2, 1, 2]
    assert data.left_out_clips == {"no_label": 1, "multi_label": 1}
    assert data.ledger[0].num_items == 3
    assert len(data.clips) == 3 + 2 * 5


def test_label_ids_of_the_manifest_become_classes_without_gaps(clips: ClipDataset) -> None:
    clips.write([Video(f"v{n}", (3 if n % 2 else 1,), split="val" if n > 3 else "train") for n in range(6)])
    data = load(clips)
    assert data.classes == ((1, "right"), (3, "down"))
    assert data.labels.tolist() == [0, 1] * 3


def test_every_row_of_the_manifest_is_accounted_for(clips: ClipDataset) -> None:
    videos = [*videos_of(6), Video("none", (), split="train"), Video("several", (0, 1), split="train")]
    videos += [Video("lost", (0,), split="val", status="failed"), Video("cut", (1,), split="train", status="partial")]
    videos += [Video("nowhere", (1,), split=None), Video("short", (1,), split="train", status="filtered")]
    clips.write(videos)
    data = load(clips)
    found = {row.video_id: (row.status, row.reason, row.num_items) for row in data.ledger}
    assert [found.pop(f"video-00{n}") for n in range(6)] == [("ok", "", 2)] * 6
    assert found == {
        "none": ("filtered", "no_label", 0),
        "several": ("filtered", "no_clips", 0),
        "lost": ("failed", "upstream", 0),
        "cut": ("partial", "upstream", 2),
        "nowhere": ("filtered", "no_split", 0),
        "short": ("filtered", "upstream", 0),
    }
    assert data.missing == (
        Missing("several", "train", "gave no clip of exactly one class to train on"),
        Missing("lost", "val", "clips/rgb: truncated"),
        Missing("short", "train", "clips/rgb: truncated"),
    )
    assert data.num_annotated("val") == 2 + 1
    assert data.left_out_clips == {"multi_label": 2}


def test_a_unit_may_have_no_clip_at_all(clips: ClipDataset) -> None:
    videos = videos_of(12)
    for video in videos[5:10]:
        video.status = "filtered"
    clips.write(videos)
    data = load(clips)
    assert {clip.unit for clip in data.clips} == {0, 2}
    assert len(data.missing) == 5


def test_flow_is_read_alike(clips: ClipDataset) -> None:
    clips.write(videos_of(6), kind="flow")
    data = load(clips)
    assert [clip.clip_id for clip in data.clips[:3]] == ["video-000_0", "video-000_1", "video-001_0"]
    assert list(sizes_of(data.clips)) == [(32, 40)]


def test_sizes_come_once_each(clips: ClipDataset) -> None:
    videos = videos_of(6)
    videos[2].size = (40, 32)
    clips.write(videos)
    assert list(sizes_of(load(clips).clips)) == [(32, 40), (40, 32)]


def test_the_list_of_clips_travels_to_workers(clips: ClipDataset) -> None:
    clips.write(videos_of(6))
    data = load(clips)
    again = pickle.loads(pickle.dumps(data))
    assert again.clips == data.clips
    np.testing.assert_array_equal(again.labels, data.labels)


# ---------------------------------------------------------------- bad input


def test_without_its_clips_it_refuses(clips: ClipDataset) -> None:
    clips.write(videos_of(12))
    receipts.retract(clips.store, "clips/rgb", 1)
    with pytest.raises(ReelmillError) as error:
        load(clips)
    assert str(error.value) == "clips/rgb unit 000001 is not made yet: run the whole config, upstream first"


@pytest.mark.parametrize("victim", ["clips-000001.tar", "_index/000001.parquet"])
@pytest.mark.parametrize("damage", ["cut", "gone", "noise"])
def test_a_damaged_file_is_one_sentence(clips: ClipDataset, victim: str, damage: str) -> None:
    clips.write(videos_of(12))
    path = clips.root / "clips/rgb" / victim
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"\1" * len(data))
    with pytest.raises(ReelmillError) as error:
        load(clips)
    sentence = str(error.value)
    assert sentence.startswith(f"clips/rgb/{victim} is missing or damaged (")
    assert sentence.endswith("delete clips/rgb/_receipts/000001.json and run again, so that the unit is made anew")
    assert "\n" not in sentence


def test_an_index_of_other_samples_is_refused(clips: ClipDataset) -> None:
    clips.write(videos_of(12))
    folder = clips.root / "clips/rgb"
    (folder / "clips-000000.tar").write_bytes((folder / "clips-000001.tar").read_bytes())
    with pytest.raises(ReelmillError, match=r"000000\.parquet is missing or damaged \(its rows are not the samples"):
        load(clips)


A, B = ("a", (0,)), ("b", (1,))


@pytest.mark.parametrize(
    ("videos", "sentence"),
    [
        ([Video("a", ()), Video("b", ())], "none of the 2 videos of the manifest has a label; index a source"),
        ([Video(*A, split="val"), Video(*B, split="val")], "the manifest has labelled val videos but none of split"),
        ([Video(*A, status="failed"), Video(*B, status="failed")], "no labelled video has"),
        ([Video(*A, split="train"), Video("b", (0,), split="val")], "all 2 usable videos are of class 'left'"),
        ([Video(*A, split="train"), Video(*B, split="val")], "class 'right' has no training video"),
    ],
)
def test_training_that_makes_no_sense_is_one_sentence(clips: ClipDataset, videos: list[Video], sentence: str) -> None:
    clips.write(videos)
    with pytest.raises(ReelmillError) as error:
        load(clips)
    assert str(error.value).startswith(f"heads/net: {sentence}")
    assert "\n" not in str(error.value)
