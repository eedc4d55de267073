"""Views, windows and flow, from small real shards to rows, against a plain forward."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from feature_dataset import (
    CLIP_S,
    FPS,
    FRAMES,
    VIDEOS,
    all_clips,
    clip_sample,
    clips_product,
    facts,
    flow_product,
    flow_sample,
    forward,
    make_features,
    px,
    stored_frames,
    write_clips,
    write_flow,
    write_product,
)

from pipeline.backbones import build
from pipeline.store import Store
from schemas.config import Flow

pytestmark = pytest.mark.usefixtures("small_models")

TEN = [
    "center",
    "top_left",
    "top_right",
    "bottom_left",
    "bottom_right",
    "center_flip",
    "top_left_flip",
    "top_right_flip",
    "bottom_left_flip",
    "bottom_right_flip",
]


# ---------------------------------------------------------------- views


def test_ten_views_of_each_clip(store: Store) -> None:
    made = make_features(store, write_clips(store), crops=10, batch_size=4)
    rows = made.rows
    assert [row["clip_id"] for row in rows[::10]] == ["a@0", "a@1", "b@0", "c@0", "c@1"]
    assert [row["view"] for row in rows[:10]] == TEN
    assert [row["view"] for row in rows[10:20]] == TEN
    assert made.receipt.items == 50
    assert [row.num_items for row in made.ledger] == [20, 10, 20]
    frames = stored_frames()  # 24×32
    places = {
        "center": (4, 8),
        "top_left": (0, 0),
        "top_right": (0, 16),
        "bottom_left": (8, 0),
        "bottom_right": (8, 16),
    }
    for row in rows[:10]:
        top, left = places[row["view"].removesuffix("_flip")]
        part = frames[:, top : top + 16, left : left + 16]
        expected = forward(part[:, :, ::-1] if row["view"].endswith("_flip") else part)
        np.testing.assert_allclose(row["embedding"], expected, rtol=1e-4, atol=1e-4)
    assert len(np.unique(made.matrix[:10].round(3), axis=0)) == 10, "ten different vectors"


def test_three_crops_and_mirror_images(store: Store) -> None:
    made = make_features(store, write_clips(store), crops=3, flip=True)
    views = ["left", "center", "right", "left_flip", "center_flip", "right_flip"]
    assert [row["view"] for row in made.rows[:6]] == views
    assert made.card.details["views"] == {
        "views": 6,
        "crops": 3,
        "flip": True,
        "rows": "one row a view",
        "frame_px": [24, 32],
    }


# ---------------------------------------------------------------- windows


def test_windows_inside_each_clip(store: Store) -> None:
    made = make_features(store, write_clips(store), window={"frames": 4, "stride": 2})
    of_first = made.rows[:3]
    assert [row["clip_id"] for row in of_first] == ["a@0"] * 3
    assert [row["start_s"] for row in of_first] == [0.0, 0.4, 0.8]
    assert [row["center_s"] for row in of_first] == [0.4, 0.8, 1.2]
    assert [row["end_s"] for row in of_first] == [0.8, 1.2, 1.6]
    assert made.rows[3]["start_s"] == CLIP_S, "the next clip"
    for place, row in enumerate(of_first):
        expected = forward(stored_frames()[2 * place : 2 * place + 4, 4:20, 8:24])
        np.testing.assert_allclose(row["embedding"], expected, rtol=1e-4, atol=1e-4)
    assert made.card.details["window"] == {
        "frames": 4,
        "stride_frames": 2,
        "fps": FPS,
        "windows": 3,
        "words": "window k of a clip starts at start_s + k · 2 / 5; one that begins where the tail's padding has begun "
        "is left out, and so are the last 0 frames of a clip",
    }


def test_a_window_in_the_padding_is_left_out(store: Store) -> None:
    clips = clips_product()
    samples = all_clips()
    samples[4] = clip_sample("c", 1, num_real=3)  # frames 0, 1, 2; then padding
    write_product(store, clips, samples)
    rows = [
        row for row in make_features(store, clips, window={"frames": 4, "stride": 2}).rows if row["video_id"] == "c"
    ]
    assert [row["start_s"] for row in rows] == [0.0, 0.4, 0.8, 1.6, 2.0]
    assert rows[-1]["end_s"] == facts("c", 1, num_real=3)["end_s"] == 2.2, "where the video ends"
    assert rows[-1]["center_s"] == pytest.approx(2.1)


def test_windows_of_long_clips_are_those_of_short_ones(store: Store, tmp_path: Path) -> None:
    """What is stored once and slid over is what clips of that length and stride would store."""
    clips = clips_product()
    write_product(store, clips, all_clips())
    slid = make_features(store, clips, window={"frames": 8, "stride": 8})
    other = Store(str(tmp_path / "other"))
    write_product(other, clips, all_clips())
    whole = make_features(other, clips)
    np.testing.assert_array_equal(slid.matrix, whole.matrix)
    assert [row["center_s"] for row in slid.rows] == pytest.approx([row["center_s"] for row in whole.rows])


# ---------------------------------------------------------------- flow


@pytest.mark.parametrize(("encoding", "error_px"), [("png", 0.08), ("jpeg", 1.0), ("npy", 0.01)])
def test_features_of_flow(store: Store, encoding: str, error_px: float) -> None:
    made = make_features(store, write_flow(store, encoding=encoding), flip=True)
    assert [row["view"] for row in made.rows[:2]] == ["center", "center_flip"]
    net = build("small_flow", weights="random:1")
    cut = px("b", 0)[:, 4:20, 8:24]
    mirrored = cut[:, :, ::-1] * np.float32([-1, 1])
    for row, fields in zip(made.rows[4:6], (cut, mirrored), strict=True):
        x = torch.from_numpy(np.ascontiguousarray(fields)).permute(3, 0, 1, 2)[None].clamp(-20, 20) / 20
        expected = net.features(x, layer="conv2")[0].numpy()
        np.testing.assert_allclose(row["embedding"], expected, atol=error_px * np.abs(expected).max())
    unflipped = net.features(torch.from_numpy(mirrored * np.float32([-1, 1])).permute(3, 0, 1, 2)[None] / 20)[0]
    assert np.abs(made.rows[5]["embedding"] - unflipped.numpy()).max() > 0.1, "the bar would see a sign forgotten"


def test_flow_windows_start_where_those_of_frames_do(store: Store) -> None:
    clips, spec = clips_product(), Flow.model_validate({"clips": "rgb", "encoding": "png"})
    samples = all_clips()
    samples[4] = clip_sample("c", 1, num_real=3)
    write_product(store, clips, samples)
    window = {"frames": 4, "stride": 2}
    of_frames = make_features(store, clips, window=window).rows
    flow = flow_product(spec, clips)
    fields = [
        flow_sample(v, i, spec, num_real=3 if (v, i) == ("c", 1) else FRAMES)
        for v, n in VIDEOS.items()
        for i in range(n)
    ]
    write_product(store, flow, fields, {"sampling": {"num_fields": FRAMES, "fps": FPS}})
    of_flow = make_features(store, flow, window=window).rows
    times = ("clip_id", "start_s", "center_s", "end_s")
    assert [[row[key] for key in times] for row in of_frames] == [[row[key] for key in times] for row in of_flow]


def test_another_bound_is_read_as_px(store: Store, tmp_path: Path) -> None:
    """Levels of another bound mean other px, and the net sees px."""
    other = Store(str(tmp_path / "other"))
    near = make_features(store, write_flow(store, bound=20.0))
    far = make_features(other, write_flow(other, bound=32.0))
    scale = np.abs(near.matrix).max()
    assert np.abs(near.matrix - far.matrix).max() < 0.02 * scale
    assert far.card.details["deviations"] == ["flow/tvl1 holds 256 levels of ±32 px, and small cuts at ±20 px"]


def test_flow_that_is_damaged_fails_its_video(store: Store) -> None:
    spec = Flow.model_validate({"clips": "rgb", "encoding": "png"})
    product = write_flow(store, encoding="png")
    samples = [flow_sample(v, i, spec) for v, n in VIDEOS.items() for i in range(n)]
    del samples[2][1]["y.003.png"]
    write_product(store, product, samples, {"sampling": {"num_fields": FRAMES, "fps": FPS}})
    made = make_features(store, product)
    assert made.ledger[1].message == (
        "clip b@0 can't be used: a sample holds no readable png flow ('y.003.png'): the shard was damaged after it was "
        "written"
    )


@pytest.mark.parametrize("shape", [(), (FRAMES,), (FRAMES, 12, 16, 2), (FRAMES, 24, 32, 3)])
def test_flow_of_another_shape_fails_its_video(store: Store, shape: tuple[int, ...]) -> None:
    spec = Flow.model_validate({"clips": "rgb", "encoding": "npy"})
    product = write_flow(store, encoding="npy")
    samples = [flow_sample(v, i, spec) for v, n in VIDEOS.items() for i in range(n)]
    file = BytesIO()
    np.save(file, np.zeros(shape, np.float16))
    samples[2][1]["npy"] = file.getvalue()
    write_product(store, product, samples, {"sampling": {"num_fields": FRAMES, "fps": FPS}})
    made = make_features(store, product)
    assert [row.status for row in made.ledger] == ["ok", "failed", "ok"]
    assert made.ledger[1].message.startswith("clip b@0 can't be used: it holds ")
    assert "say 8×24×32×2 (frames×height×width×channels)" in made.ledger[1].message
