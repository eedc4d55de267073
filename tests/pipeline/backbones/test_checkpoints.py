"""What keys mean: each format by its keys alone, every key used or named, shapes and values checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import ELSEWHERE, FORMATS, OURS, elsewhere, on_tensorflow, tiny
from torch import Tensor

from pipeline.backbones import c3d, checkpoints
from pipeline.backbones.checkpoint_file import Checkpoint
from pipeline.backbones.checkpoints import KeyMap, Matched, OtherShapesError, OtherWeightsError, match
from schemas.errors import ReelmillError

State = dict[str, Tensor]
CONVS = ("1a", "2a", "3a", "3b", "4a", "4b", "5a", "5b")
HERE = Path("a.pth")


def names(*modules: str) -> State:
    """A distinct weight and bias for each module: for the keys' sake, not the shapes'."""
    keys = [f"{module}.{kind}" for module in modules for kind in ("weight", "bias")]
    return {key: torch.full((3,), float(place)) for place, key in enumerate(keys)}


def davidea() -> State:
    return names("conv1", "conv2", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b", "fc6", "fc7", "fc8")


def mmaction_backbone() -> State:
    return names(*(f"conv{name}.conv" for name in CONVS), "fc6", "fc7")


def mmaction_recognizer() -> State:
    body = {f"backbone.{key}": value for key, value in mmaction_backbone().items()}
    return {**body, **names("cls_head.fc_cls")}


def ours() -> State:
    return names(*(f"conv{name}" for name in CONVS), "fc6", "fc7", "fc8")


def match_c3d(state: State, others: tuple[str, ...] = ()) -> Matched:
    return match(Checkpoint(HERE, state, others), model="c3d", formats=c3d.FORMATS, classifier=c3d.CLASSIFIER)


def match_tiny(state: State, formats: tuple[KeyMap, ...] = FORMATS, metadata: str | None = None) -> Matched:
    facts = {} if metadata is None else {"reelmill": metadata}
    return match(Checkpoint(HERE, state, metadata=facts), model="tiny", formats=formats, classifier="head")


def filled(matched: Matched) -> State:
    model = tiny()
    return matched.fill(model.open_net(matched.num_classes("head"), {}, model.recipes["own"]))


# ---------------------------------------------------------------- formats

BY_FORMAT: dict[str, Callable[[], State]] = {
    "DavideA c3d.pickle": davidea,
    "mmaction2 backbone": mmaction_backbone,
    "mmaction2 recognizer": mmaction_recognizer,
    "reelmill": ours,
}


@pytest.mark.parametrize("name", BY_FORMAT)
def test_each_format_is_told_by_its_keys(name: str) -> None:
    state = BY_FORMAT[name]()
    found = match_c3d(state, ("meta",))
    assert found.keymap.format == name
    assert set(found.origin.values()) == set(state), "every key of the file is used"
    assert found.unused == ("meta",)
    assert set(found.state) == set(ours()) - ({"fc8.weight", "fc8.bias"} if name == "mmaction2 backbone" else set())
    # in all these formats the modules come in the network's order
    for (_, theirs), (_, loaded) in zip(state.items(), found.state.items(), strict=True):
        assert torch.equal(theirs, loaded)


def test_what_is_not_used_is_named_and_what_is_known_is_counted() -> None:
    known = {"ema.net.stem.conv.weight": torch.zeros(1), "ema.decay": torch.zeros(1), "net.fc.momentum": torch.zeros(1)}
    counter = {"net.stem.bn.num_batches_tracked": torch.tensor(7)}
    unknown = {"neck.weight": torch.zeros(1), "aux.bias": torch.zeros(1)}
    found = match_tiny({**elsewhere(), **known, **counter, **unknown})
    assert found.unused == ("aux.bias", "neck.weight")
    assert found.ignored == {r"^ema\.": 2, r"\.momentum$": 1, "num_batches_tracked": 1}


def test_a_net_with_more_blocks_is_not_taken_for_the_one_with_fewer() -> None:
    """Plain and non-local nets of the same name: all keys of the one are in the other's file."""
    few = KeyMap("plain", {f"{name}": name for name in OURS[:3]})
    many = KeyMap("with blocks", {f"{name}": name for name in OURS[:5]})
    values = {name: torch.zeros(1) for name in OURS[:5]}
    for formats in ((few, many), (many, few)):
        assert match_tiny(values, formats).keymap.format == "with blocks"
        assert match_tiny({name: values[name] for name in OURS[:3]}, formats).keymap.format == "plain"


def test_options_of_the_format_and_of_what_reelmill_saved() -> None:
    plain = KeyMap("reelmill", dict(zip(OURS, OURS, strict=True)), options={"pool": "mean", "depth": 3})
    state = {name: torch.zeros(1) for name in OURS}
    assert match_tiny(state, (plain,)).options == {"pool": "mean", "depth": 3}
    saved = match_tiny(state, (plain,), '{"model": "tiny", "options": {"pool": "max"}}')
    assert saved.options == {"pool": "max", "depth": 3}
    with pytest.raises(OtherWeightsError, match="not tiny weights, but saved as large"):
        match_tiny(state, (plain,), '{"model": "large"}')
    for damaged in ("{", "[]", '{"options": 3}'):
        with pytest.raises(ReelmillError, match=r"what reelmill wrote of it \(reelmill\) is damaged"):
            match_tiny(state, (plain,), damaged)


# ---------------------------------------------------------------- one sentence each


def test_missing_keys() -> None:
    state = davidea()
    del state["conv4b.bias"]
    with pytest.raises(ReelmillError, match=r"in the format of DavideA c3d.pickle, but without conv4b\.bias$"):
        match_c3d(state)
    state = davidea()
    del state["fc8.bias"]
    with pytest.raises(ReelmillError, match=r"but without fc8\.bias$"):
        match_c3d(state)
    del state["fc8.weight"]
    assert match_c3d(state).num_classes("fc8") is None
    del state["fc7.bias"]
    with pytest.raises(ReelmillError, match=r"but without fc7\.bias$"):
        match_c3d(state)


def test_a_layer_with_more_in_it_is_another_architecture() -> None:
    state = {**mmaction_backbone(), "conv3b.bn.weight": torch.ones(3)}
    with pytest.raises(ReelmillError, match=r"another architecture: its layers also hold conv3b\.bn\.weight"):
        match_c3d(state)


@pytest.mark.parametrize(("what", "text"), checkpoints.LOOKS)
def test_other_models_are_named(what: str, text: str) -> None:
    key = f"x.{text}weight" if text.endswith(".") else text
    with pytest.raises(OtherWeightsError) as error:
        match_c3d({key: torch.zeros(2), "fc.weight": torch.zeros(2)})
    assert str(error.value) == f"a.pth: not c3d weights; it looks like {what}; its keys begin {key}, fc.weight"


def test_unknown_model_shows_its_keys() -> None:
    with pytest.raises(OtherWeightsError, match=r"not c3d weights; its keys begin w0, w1, w2, w3 and 5 more$"):
        match_c3d({f"w{index}": torch.zeros(1) for index in range(9)})


# ---------------------------------------------------------------- values and shapes


def test_values_arrive_as_float32_whatever_the_file_has() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        state = {key: value.to(dtype) for key, value in elsewhere().items()}
        found = filled(match_tiny(state))
        for key, name in zip(ELSEWHERE, OURS, strict=True):
            assert found[name].dtype == torch.float32
            assert torch.equal(found[name], state[key].float())
        assert found["body.bn.num_batches_tracked"] == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_values(value: float) -> None:
    state = elsewhere()
    state["net.stem.bn.running_var"][3] = value
    with pytest.raises(ReelmillError, match=r"a\.pth: net\.stem\.bn\.running_var holds NaN or Inf"):
        filled(match_tiny(state))


def test_doubles_beyond_float32_are_not_finite_either() -> None:
    state = {key: value.double() for key, value in elsewhere().items()}
    state["net.fc.bias"][0] = 1e300
    with pytest.raises(ReelmillError, match=r"net\.fc\.bias holds NaN or Inf"):
        filled(match_tiny(state))


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (torch.zeros(5, dtype=torch.int8), r"net\.fc\.bias holds torch\.int8, not floats; quantised"),
        (torch.zeros(5, dtype=torch.complex64), r"net\.fc\.bias holds torch\.complex64, not floats"),
        (torch.eye(5)[0].to_sparse(), r"net\.fc\.bias is a sparse tensor or one without numbers"),
        (torch.zeros(5, device="meta"), r"net\.fc\.bias is a sparse tensor or one without numbers"),
    ],
)
def test_values_that_are_no_floats(value: Tensor, sentence: str) -> None:
    with pytest.raises(ReelmillError, match=sentence):
        filled(match_tiny({**elsewhere(), "net.fc.bias": value}))


def test_shapes_are_compared_with_the_net() -> None:
    wrong = {**elsewhere(), "net.stem.conv.weight": torch.zeros(4, 3, 3, 3)}
    with pytest.raises(OtherShapesError) as error:
        filled(match_tiny(wrong))
    assert str(error.value) == (
        "a.pth: net.stem.conv.weight has shape (4, 3, 3, 3), but body.conv.weight takes (4, 3, 3, 3, 3)"
    )
    with pytest.raises(OtherShapesError, match=r"net\.fc\.weight has shape \(5, 4\), but head\.weight takes \(6, 4\)"):
        filled(match_tiny({**elsewhere(), "net.fc.bias": torch.zeros(6)}))


def test_of_tensorflow_kernels_turn_and_what_it_lacks_is_filled() -> None:
    variables = on_tensorflow()
    found = filled(match_tiny({key: torch.from_numpy(value) for key, value in variables.items()}))
    theirs = variables["tiny/stem/conv/w"]  # [kT, kH, kW, in, out]
    np.testing.assert_array_equal(found["body.conv.weight"][3, 1].numpy(), theirs[:, :, :, 1, 3])
    np.testing.assert_array_equal(found["body.bn.running_mean"], variables["tiny/stem/bn/moving_mean"].ravel())
    assert torch.equal(found["body.bn.weight"], torch.ones(4))


def test_of_images_kernels_are_repeated_and_divided() -> None:
    images = KeyMap("2D", dict(zip(ELSEWHERE, OURS, strict=True)), layout="inflate")
    flat = torch.randn(4, 3, 3, 3)
    found = filled(match_tiny({**elsewhere(), "net.stem.conv.weight": flat}, (images,)))
    for t in range(3):
        torch.testing.assert_close(found["body.conv.weight"][:, :, t], flat / 3, rtol=0, atol=0)
