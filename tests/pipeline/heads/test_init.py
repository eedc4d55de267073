"""A head is found by its kind, and built the same from equal seeds."""

from importlib import import_module

import pytest
import torch

from pipeline import heads
from pipeline.heads import build, register
from schemas.heads import FeatureHead, LinearHead, LSTMHead

LSTM = LSTMHead(kind="lstm", features=("c3d",), hidden=8)


def test_equal_seeds_give_equal_weights_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    one, two, other = (build(LSTM, blocks=(5,), num_classes=3, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_a_kind_without_a_file_is_refused() -> None:
    class Odd(FeatureHead):
        kind: str = "odd"

    with pytest.raises(ValueError, match=r"no head of kind 'odd': pipeline/heads has no odd\.py"):
        build(Odd(features=("c3d",)), blocks=(5,), num_classes=3, seed=1)


def test_a_new_head_is_one_builder_and_its_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    import_module("pipeline.heads.linear")  # before the copy: a module registers itself only once
    monkeypatch.setattr(heads, "_BUILDERS", dict(heads._BUILDERS))

    class Odd(FeatureHead):
        kind: str = "odd"

    register("odd")(
        lambda settings, blocks, num_classes: build(
            LinearHead(kind="linear", features=settings.features), blocks=blocks, num_classes=num_classes, seed=0
        )
    )
    head = build(Odd(features=("c3d",)), blocks=(5,), num_classes=3, seed=1)
    assert head(torch.zeros(1, 2, 5), torch.ones(1, 2, dtype=torch.bool)).shape == (1, 2, 3)
    with pytest.raises(AssertionError, match="two heads named 'odd'"):
        register("odd")(lambda settings, blocks, num_classes: head)
