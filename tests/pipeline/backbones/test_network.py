"""What every backbone does with clips: named layers, pooled or dense, and nothing beyond them."""

from __future__ import annotations

import pytest
import torch
from tiny_models import Tiny, tiny
from torch import Tensor, nn

from pipeline.backbones.network import clips_at_once
from schemas.errors import ReelmillError, UsageError


def opened(num_classes: int | None = 5, pool: str = "mean") -> Tiny:
    model = tiny()
    net = model.open_net(num_classes, {"pool": pool}, model.recipes["own"]).to_empty(device="cpu")
    assert isinstance(net, Tiny)
    with torch.no_grad():
        for value in net.buffers():
            value.fill_(1)
        model.init_random(net, 3)
    return net.eval().requires_grad_(False)


@pytest.fixture
def net() -> Tiny:
    return opened()


@pytest.fixture
def clips() -> Tensor:
    return torch.rand(3, 3, 4, 6, 5, generator=torch.Generator().manual_seed(0))


def test_layers_pooled_and_dense(net: Tiny, clips: Tensor) -> None:
    body = net.body(clips)  # 3×4×4×6×5
    pooled = body.mean((2, 3, 4))
    torch.testing.assert_close(net.features(clips, layer="body", dense=True), body)
    torch.testing.assert_close(net.features(clips, layer="body"), pooled)
    torch.testing.assert_close(net.features(clips), pooled)  # `pool`, the default layer
    torch.testing.assert_close(net(clips), net.head(pooled))
    assert torch.equal(net.features(clips, layer="head"), net(clips))


def test_a_net_s_own_way_from_maps_to_the_top(clips: Tensor) -> None:
    net = opened(pool="max")
    torch.testing.assert_close(net.features(clips), net.body(clips).amax((2, 3, 4)))


def test_nothing_beyond_the_layer_is_computed(net: Tiny, clips: Tensor) -> None:
    net.features(clips, layer="body")
    net.features(clips, layer="pool")
    assert "head" not in net.calls
    net(clips)
    assert net.calls.count("head") == 1, "the top sees the whole batch"


def test_in_training_a_batch_norm_sees_the_whole_batch(clips: Tensor) -> None:
    net = opened().train()
    num = len(clips) * clips[0, 0].numel()
    out = net.body.conv(clips)  # 3×4×4×6×5
    net(clips)
    bn = net.body.bn
    assert isinstance(bn, nn.BatchNorm3d)
    variance = out.var((0, 2, 3, 4), correction=0) * num / (num - 1)
    torch.testing.assert_close(bn.running_var, 0.9 + 0.1 * variance)
    torch.testing.assert_close(bn.running_mean, 0.9 + 0.1 * out.mean((0, 2, 3, 4)))


def test_clips_in_parts_are_the_same_clips(net: Tiny, clips: Tensor) -> None:
    for layer in net.spec.layers:
        whole = net.features_of([clips], layer=layer)
        torch.testing.assert_close(net.features_of([clips[:1], clips[1:]], layer=layer), whole, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(net.features(clips, layer=layer), whole, rtol=1e-6, atol=1e-6)
    assert net.features_of([clips[:1], clips[1:]], layer="body", dense=True).shape == (3, 4, 4, 6, 5)


def test_parts_are_made_when_they_are_asked_for(net: Tiny, clips: Tensor) -> None:
    def parts() -> object:
        for number in range(3):
            assert net.calls.count("body") == number
            yield clips[number : number + 1]

    assert net.features_of(parts()).shape == (3, 4)  # type: ignore[arg-type]


def test_a_mean_is_taken_in_float32(net: Tiny) -> None:
    ones = torch.ones(1, 4, 8, 32, 32, dtype=torch.bfloat16)
    assert net.pooled("body", ones).dtype == torch.bfloat16
    blob = torch.full((1, 4, 8, 32, 32), 1.0, dtype=torch.bfloat16)
    blob[..., ::2] = 1 + 2**-7  # the mean lies between two bf16 numbers, and no running sum of bf16 comes near it
    assert abs(net.pooled("body", blob).float().mean() - (1 + 2**-8)) <= 2**-8


def test_how_many_clips_pass_a_trunk_together(monkeypatch: pytest.MonkeyPatch) -> None:
    for threads, expected in ((1, 1), (8, 1), (32, 4)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert clips_at_once(64, torch.device("cpu")) == expected
    assert clips_at_once(64, torch.device("meta")) == 64
    assert clips_at_once(0, torch.device("meta")) == 1


def test_clips_that_the_net_does_not_take(net: Tiny) -> None:
    for shape in ((2, 2, 8, 6, 6), (3, 8, 6, 6), (1, 8, 6, 6, 3)):
        with pytest.raises(UsageError, match=r"tiny takes rgb clips \(N, 3, T, H, W\), got \("):
            net.features(torch.zeros(shape))
    with pytest.raises(UsageError, match="tiny takes clips of 2 or more frames, got 1"):
        net(torch.zeros(1, 3, 1, 6, 6))


def test_flow_has_two_channels() -> None:
    model = tiny("tiny_flow", "flow")
    net = model.open_net(5, {}, model.recipes["own"])
    assert net(torch.zeros(1, 2, 4, 6, 6, device="meta")).shape == (1, 5)
    with pytest.raises(UsageError, match=r"tiny_flow takes flow clips \(N, 2, T, H, W\), got \(1, 3, 4, 6, 6\)"):
        net(torch.zeros(1, 3, 4, 6, 6, device="meta"))


def test_layers_that_can_t_be_had(net: Tiny, clips: Tensor) -> None:
    with pytest.raises(UsageError, match="tiny has no 'fc6'; it has body, pool, head"):
        net.features(clips, layer="fc6")
    with pytest.raises(UsageError, match="tiny's pool is a vector"):
        net.features(clips, layer="pool", dense=True)
    with pytest.raises(ReelmillError, match="no classifier"):
        opened(num_classes=None)(clips)
    assert net.calls == [], "nothing was computed"
