import dataclasses

import pytest
from pydantic import ValidationError

from pipeline.flow import params
from schemas.config import MIN_FLOW_SIDE_PX, TVL1, Budget, Clips, Config, Features, Flow, Units


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


# ---------------------------------------------------------------- flow

I3D = Clips(frames=64, fps=25, stride_s=2.56, short_side=256, crop=(224, 224), filter="area", tail="loop")


def test_params_are_those_of_tvl1() -> None:
    ours = {name: field.default for name, field in TVL1.model_fields.items()}
    assert ours == dataclasses.asdict(params.TVL1Params())
    assert TVL1.model_validate({"lambda": 0.1}).lambda_ == 0.1
    assert MIN_FLOW_SIDE_PX == params.MIN_SIDE_PX


@pytest.mark.parametrize(
    "wrong",
    [
        {"tau": 0},
        {"lambda": -1},
        {"theta": 0},
        {"num_scales": 0},
        {"num_warps": 0},
        {"epsilon": 0},
        {"inner_iterations": 0},
        {"outer_iterations": 0},
        {"scale_step": 1},
        {"scale_step": 0},
        {"gamma": -1},
        {"median_filtering": 4},
    ],
)
def test_params_that_tvl1_refuses_are_refused_here(wrong) -> None:
    with pytest.raises(ValidationError):
        TVL1.model_validate(wrong)


def test_flow_settings_survive_their_card() -> None:
    flow = Flow.model_validate({"clips": "c", "params": {"lambda": 0.1}, "resize": [64, 64]})
    assert Flow.model_validate(flow.model_dump(mode="json", by_alias=True)) == flow


@pytest.mark.parametrize(
    ("own", "expected"),  # resize, short_side, crop, filter
    [
        ({}, (None, 256, (224, 224), "area")),
        ({"crop": (64, 64)}, (None, 256, (64, 64), "area")),
        ({"short_side": 128}, (None, 128, None, "area")),
        ({"resize": (240, 320), "filter": "bilinear"}, ((240, 320), None, None, "bilinear")),
        ({"resize": (240, 320), "crop": (200, 200)}, ((240, 320), None, (200, 200), "area")),
    ],
)
def test_frames_are_of_the_clips_size_unless_said(own, expected) -> None:
    frames = Flow(clips="c", **own).sampling(I3D)
    assert (frames.resize, frames.short_side, frames.crop, frames.filter) == expected
    assert (frames.frames, frames.fps, frames.stride_s, frames.tail) == (64, 25, 2.56, "loop")


@pytest.mark.parametrize(
    ("settings", "num_fields"),
    [({}, 64), ({"fields": "T-1"}, 63), ({"fps": 12.5}, 32), ({"fps": 50, "fields": "T-1"}, 127)],
)
def test_number_of_fields(settings, num_fields: int) -> None:
    flow = Flow(clips="c", **settings)
    assert flow.problem(I3D) is None
    assert flow.num_fields(I3D) == num_fields
    assert flow.rate_fps(I3D) == settings.get("fps", 25)


@pytest.mark.parametrize(
    ("settings", "clips", "words"),
    [
        ({"fps": 10}, I3D, ".fps: clips of 2.56 s hold 25.6 frames at 10 fps, which is no whole number; 10.1562 would"),
        ({"fps": 0.1}, I3D, "no whole number; 0.390625 would give 1"),
        ({"fields": "T-1"}, Clips(frames=1, fps=1), ".fields: clips of one frame have no field"),
        ({}, Clips(frames=4, fps=5, resize=(8, 8)), ": its frames would be 8 x 8 px, and TV-L1 takes 16 px"),
        ({}, Clips(frames=4, fps=5, short_side=12), ": its frames would be 12 px"),
        ({"crop": (300, 300), "resize": (256, 256)}, I3D, ": crop [300, 300] does not fit inside resize [256, 256]"),
        ({"resize": (64, 64), "short_side": 64}, I3D, ": give resize or short_side, not both"),
    ],
)
def test_flow_that_can_t_be_made(settings, clips: Clips, words: str) -> None:
    problem = Flow(clips="c", **settings).problem(clips)
    assert problem is not None
    assert words in problem


# ---------------------------------------------------------------- features

C3D = {"from": "clips/rgb16", "model": "c3d", "weights": "random:0"}


def features(**changes) -> Features:
    return Features.model_validate({**C3D, **changes})


def whole(features: dict, **sections) -> Config:
    document = {
        "dataset": "out",
        "source": {"kind": "directory", "videos": "/v"},
        "clips": {"rgb16": {"frames": 16, "fps": 5}},
        "flow": {"tvl1": {"clips": "rgb16", "fields": "T-1"}},
        "features": {"f": {**C3D, **features}},
    }
    return Config.model_validate({**document, **sections})


def test_features_survive_their_card() -> None:
    for one in (
        features(),
        features(preprocess="mmaction2"),
        features(preprocess={"crop": [112, 112], "mean": [1, 2, 3]}),
    ):
        assert Features.model_validate(one.model_dump(mode="json", by_alias=True)) == one
    assert features(preprocess="mmaction2").preprocess.recipe == "mmaction2"


def test_frames_that_enter_a_net() -> None:
    assert features().num_frames(64) == 64
    assert features(window={"frames": 16, "stride": 8}).num_frames(64) == 16


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"time_pool": "mean"}, "time_pool: mean is for maps, and this makes vectors; set dense: true"),
        ({"dtype": "float16"}, "dtype: float16 is for maps, and this makes vectors; set dense: true"),
        ({"crops": 5}, "Input should be 1, 3 or 10"),
        ({"precision": "int8"}, "Input should be 'auto', 'fp32', 'bf16' or 'fp16'"),
        ({"window": {"frames": 16}}, "stride"),
        ({"window": {"frames": 16, "stride": 0}}, "greater than or equal to 1"),
        ({"preprocess": {"resize": [128, 171], "short_side": 128}}, "give resize or short_side, not both"),
        ({"preprocess": {"reszie": [128, 171]}}, "Extra inputs"),
    ],
)
def test_features_that_contradict(settings, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        features(**settings)
    features(dense=True, time_pool="mean", dtype="float16")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"from": "clips/no"}, "features.f.from: nothing is named 'clips/no'; this config has clips/rgb16, flow/tvl1"),
        ({"from": "rgb16"}, "features.f.from: nothing is named 'rgb16'; this config has clips/rgb16, flow/tvl1"),
        (
            {"window": {"frames": 17, "stride": 1}},
            "features.f.window: windows of 17 frames do not fit inside the clips of clips/rgb16, which hold 16",
        ),
        ({"from": "flow/tvl1", "window": {"frames": 16, "stride": 1}}, "the clips of flow/tvl1, which hold 15"),
    ],
)
def test_features_that_do_not_fit_their_source(settings, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        whole(settings)
    whole({"from": "flow/tvl1", "window": {"frames": 15, "stride": 1}})


def test_heads_take_one_vector_a_window() -> None:
    heads = {"h": {"kind": "lstm", "features": ["f"]}}
    whole({}, heads=heads)
    with pytest.raises(
        ValidationError, match=r"heads\.h\.features: f is maps \(dense: true\), and this head takes vectors"
    ):
        whole({"dense": True}, heads=heads)
    for views in ({"crops": 3}, {"crops": 10}, {"flip": True}):
        with pytest.raises(ValidationError, match=r"heads\.h\.features: f has several views of each clip"):
            whole(views, heads=heads)
    whole({"window": {"frames": 8, "stride": 4}}, heads=heads)


def test_heads_of_segments_need_some() -> None:
    json = {"kind": "activitynet", "json": "truth.json"}
    dense = {"kind": "linear", "features": ["f"], "labels": "dense"}
    for settings in (dense, dense | {"annotations": {"kind": "manifest"}}, {"kind": "talnet", "features": ["f"]}):
        with pytest.raises(
            ValidationError, match=r"heads\.h\.annotations: a directory source has no segments; name the"
        ):
            whole({}, heads={"h": settings})
        whole({}, heads={"h": settings | {"annotations": json}})
        whole({}, heads={"h": settings}, source=json | {"videos": "videos"})
