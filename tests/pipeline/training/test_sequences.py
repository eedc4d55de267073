"""Stored features come back as sequences: every video, in time order, product beside product."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import receipts
from pipeline.training.sequences import read_sequences
from schemas.errors import ReelmillError


def read(dataset: Any, wanted: list[str]) -> Any:
    upstream = {product.path: product.fingerprint for product in dataset.features.values()}
    return read_sequences(dataset.store, upstream, dataset.units, wanted=wanted)


def test_clips_come_in_time_order_and_videos_in_manifest_order(
    dataset: Any, make_order_task: Callable[..., Any]
) -> None:
    videos = make_order_task(20)
    dataset.write(videos)
    sequences, ledgers = read(dataset, [video.video_id for video in videos])
    assert sequences.video_ids == tuple(video.video_id for video in videos)
    assert sequences.lengths.tolist() == [len(video.clips) for video in videos]
    assert sequences.blocks == (8,)
    np.testing.assert_array_equal(sequences.matrix, np.concatenate([video.clips for video in videos]))
    assert [row.video_id for row in ledgers["features/c3d"]] == [video.video_id for video in videos]


def test_only_wanted_videos_are_held(dataset: Any, make_order_task: Callable[..., Any]) -> None:
    videos = make_order_task(20)
    dataset.write(videos)
    sequences, ledgers = read(dataset, ["video-0011", "video-0003"])
    assert sequences.video_ids == ("video-0003", "video-0011")
    np.testing.assert_array_equal(sequences.matrix, np.concatenate([videos[3].clips, videos[11].clips]))
    starts = np.concatenate([3.2 * np.arange(len(videos[n].clips)) for n in (3, 11)])
    np.testing.assert_array_equal(sequences.windows, np.stack([starts, starts + 1.6, starts + 3.2], axis=1))
    assert len(ledgers["features/c3d"]) == 20


def test_products_stand_side_by_side(dataset: Any, make_order_task: Callable[..., Any], video: Any) -> None:
    videos = make_order_task(12)
    dataset.write(videos, name="c3d")
    flow = [video(v.video_id, v.label_ids, -v.clips[:, :3]) for v in videos]
    flow[4].status = "failed"  # so this video has no pair
    dataset.write(flow, name="flow", manifest=False)
    sequences, ledgers = read(dataset, [v.video_id for v in videos])
    both = [v for v in videos if v.video_id != "video-0004"]
    assert sequences.video_ids == tuple(v.video_id for v in both)
    assert sequences.blocks == (8, 3)
    expected = np.concatenate([np.hstack([v.clips, -v.clips[:, :3]]) for v in both])
    np.testing.assert_array_equal(sequences.matrix, expected)
    assert [len(rows) for rows in ledgers.values()] == [12, 12]


@pytest.mark.parametrize("how", ["start", "count"])
def test_products_of_other_windows_are_refused(
    dataset: Any, make_order_task: Callable[..., Any], video: Any, how: str
) -> None:
    videos = make_order_task(12)
    dataset.write(videos, name="c3d")
    other = [video(v.video_id, v.label_ids, v.clips) for v in videos]
    if how == "start":
        other[9].start_s = 1e-9  # nearly equal is not equal
    else:
        other[9].clips = np.concatenate([other[9].clips, other[9].clips])
    dataset.write(other, name="flow", manifest=False)
    with pytest.raises(ReelmillError) as error:
        read(dataset, [v.video_id for v in videos])
    assert str(error.value) == (
        "features/c3d and features/flow were cut differently: the clips of video video-0009 do not start and centre at "
        "the same seconds; a head joins features whose clips have equal windows only"
    )


def test_a_missing_and_a_stale_unit_are_refused(dataset: Any, make_order_task: Callable[..., Any]) -> None:
    dataset.write(make_order_task(20))
    with pytest.raises(ReelmillError, match="features/c3d unit 000000 is stale: run the whole config, upstream first"):
        read_sequences(dataset.store, {"features/c3d": "another"}, dataset.units, wanted=[])
    receipts.retract(dataset.store, "features/c3d", 1)
    with pytest.raises(ReelmillError, match="features/c3d unit 000001 is not made yet: run the whole config"):
        read(dataset, [])


def test_features_that_are_not_finite_are_refused(dataset: Any, make_order_task: Callable[..., Any]) -> None:
    videos = make_order_task(12)
    videos[10].clips[0, 2] = np.nan
    dataset.write(videos)
    with pytest.raises(ReelmillError, match=r"part-000001\.parquet: the features of video video-0010 are not finite"):
        read(dataset, [v.video_id for v in videos])
    assert read(dataset, ["video-0009"])[0].video_ids == ("video-0009",)


def test_units_without_a_clip(dataset: Any, make_order_task: Callable[..., Any]) -> None:
    videos = make_order_task(20)
    for video in videos[8:16]:  # all of unit 1
        video.status = "failed"
    dataset.write(videos)
    sequences, _ = read(dataset, [v.video_id for v in videos])
    assert sequences.video_ids == tuple(v.video_id for v in videos[:8] + videos[16:])
    nothing, _ = read(dataset, [])
    assert nothing.video_ids == ()
    assert nothing.offsets.tolist() == [0]
    assert nothing.windows.shape == (0, 3)


def _rows(dataset: Any, videos: Any, **columns: Any) -> None:
    """Write features again with columns of the parts changed."""
    dataset.write(videos)
    product = dataset.features["c3d"]
    for unit in dataset.units:
        path = f"{product.path}/part-{unit.index:06d}.parquet"
        table = pq.read_table(dataset.store.path(path))
        ledger = receipts.read_ledger(dataset.store, product.path, unit.index)
        for name, change in columns.items():
            values = change(table[name].to_pylist())
            place = table.schema.get_field_index(name)
            table = table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))
        receipts.retract(dataset.store, product.path, unit.index)  # what stands would be kept
        with receipts.begin(dataset.store, product, unit) as writer:
            writer.table(f"part-{unit.index:06d}.parquet", table)
            writer.commit(ledger, items=table.num_rows)


def test_windows_of_a_clip_are_in_time_order(dataset: Any, make_order_task: Callable[..., Any]) -> None:
    videos = make_order_task(12)
    _rows(dataset, videos, clip_id=lambda ids: [clip_id.split("_")[0] for clip_id in ids])  # one clip, slid over
    sequences, _ = read(dataset, ["video-0002"])
    np.testing.assert_array_equal(sequences.matrix, videos[2].clips)


def test_several_views_are_refused(dataset: Any, make_order_task: Callable[..., Any]) -> None:
    _rows(dataset, make_order_task(12), view=lambda views: ["left", *views[1:]])
    with pytest.raises(ReelmillError, match="holds several views of a clip; heads are trained on 'center' alone"):
        read(dataset, [])


def test_maps_are_refused(dataset: Any, make_order_task: Callable[..., Any]) -> None:
    dataset.write(make_order_task(12))
    product, (unit, *_) = dataset.features["c3d"], dataset.units
    ledger = receipts.read_ledger(dataset.store, product.path, unit.index)
    receipts.retract(dataset.store, product.path, unit.index)
    with receipts.begin(dataset.store, product, unit) as writer:
        writer.file("maps-000000.tar").write(b"")
        writer.commit(ledger, items=0)
    with pytest.raises(ReelmillError, match=r"features/c3d: holds maps \(dense: true\), and heads take vectors"):
        read(dataset, [])
