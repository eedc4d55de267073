"""I3D against what the published code gives: DeepMind's on TensorFlow, and its three ports to PyTorch."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from bundle_writer import write_bundle
from goldens import FOLDER, Golden, clip_for, tensor_for
from PIL import Image

from pipeline.backbones import build, save
from pipeline.backbones.checkpoints import LAYOUTS
from pipeline.backbones.conv_bn import fold_bn
from pipeline.backbones.i3d import MAPS, MODELS, RECIPES
from pipeline.backbones.i3d_keys import formats
from pipeline.backbones.network import Network
from pipeline.backbones.same_padding import max_pool_same, pad_same
from pipeline.backbones.views import cut, views_of
from schemas.errors import ReelmillError, UsageError

DATA = Path(__file__).resolve().parents[3] / "../shared/data"
CRICKET = "v_CricketShot_g04_c01"
CLOSE = 1e-4  # of logits that are of order one

QUICK = ("17x75", "16x224")
# Once loaded, a net knows nothing of the form that its weights had: left of it are the port, whose padding is its own,
# and the modality. So every form is held to two sizes, and each of the four kinds of nets to some of the others.
MORE = {
    "piergiaj_rgb": ("16x112", "79x112", "64x224", "79x256"),
    "deepmind_flow": ("79x112",),
    "video_features_rgb": ("79x112", "79x256"),
    "video_features_flow": ("16x112", "64x224"),
}


class Form(NamedTuple):
    """A published form of weights, and the net that takes it."""

    golden: str
    format: str
    options: dict[str, str] = {}  # noqa: RUF012

    @property
    def model(self) -> str:
        return "i3d_flow" if self.golden.endswith("flow") else "i3d_rgb"


PORT = {"port": "video_features"}
FORMS = (
    Form("piergiaj_rgb", "piergiaj pytorch-i3d"),
    Form("piergiaj_flow", "piergiaj pytorch-i3d"),
    Form("hassony2_rgb", "hassony2 / video_features"),
    Form("hassony2_flow", "hassony2 / video_features"),
    Form("video_features_rgb", "hassony2 / video_features", PORT),
    Form("video_features_flow", "hassony2 / video_features", PORT),
    Form("deepmind_rgb", "DeepMind RGB"),
    Form("deepmind_flow", "DeepMind Flow"),
    Form("deepmind_rgb600", "DeepMind RGB, Kinetics-600"),
)


def checkpoint(golden: Golden, folder: Path) -> Path:
    """The published form as a file: a torch state dict, or a bundle of TensorFlow's."""
    if any("/" in key for key in golden.keys):
        write_bundle(folder / "model.ckpt", {key: value.numpy() for key, value in golden.state().items()})
        return folder / "model.ckpt"
    torch.save(golden.state(), folder / "weights.pt")
    return folder / "weights.pt"


@pytest.fixture(scope="module", params=FORMS, ids=lambda form: form.golden)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Form, Golden, Network]:
    form: Form = request.param
    golden = Golden(f"i3d_{form.golden}")
    path = checkpoint(golden, tmp_path_factory.mktemp(form.golden))
    return form, golden, build(form.model, weights=str(path), options=form.options)


def differences(golden: Golden, net: Network, case: str) -> dict[str, float]:
    """max |Δ| to everything that is published of a case."""
    with torch.inference_mode():
        mixed = net.features(golden.clip(case), layer="Mixed_5c", dense=True)
        ours = {"Mixed_5c": net.pooled("Mixed_5c", mixed), "sample": mixed.flatten()[::997]}
        if f"{case}/logits" in golden.published:
            top = dict(net.top(net.bridge(mixed)))
            ours |= {"pooled": top["avgpool"], "logits": top["logits"]}
    assert tuple(mixed.shape) == tuple(golden.published[f"{case}/shape"].tolist())
    return {what: (value - golden.published[f"{case}/{what}"]).abs().max().item() for what, value in ours.items()}


def quick_cases() -> list[Any]:
    """Every form at every size that it is a reference for."""
    return [
        case(form, size)
        for form in FORMS
        for size in QUICK
        # hassony2 pads H and W as if they were even; its numbers at odd ones are nobody else's
        if not (form.golden.startswith("hassony2") and size == "17x75")
    ]


def case(form: Form, size: str) -> Any:
    return pytest.param(form, size, id=f"{form.golden}-{size}")


def check(loaded: tuple[Form, Golden, Network], size: str) -> None:
    _, golden, net = loaded
    found = differences(golden, net, f"{net.spec.modality} {size}")
    assert len(found) == (4 if int(size.split("x")[1]) >= 224 else 2)
    assert max(found.values()) <= CLOSE, found


@pytest.mark.parametrize(("loaded", "size"), quick_cases(), indirect=["loaded"])
def test_gives_the_published_numbers(loaded: tuple[Form, Golden, Network], size: str) -> None:
    check(loaded, size)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loaded", "size"),
    [case(form, size) for form in FORMS for size in MORE.get(form.golden, ())],
    indirect=["loaded"],
)
def test_gives_the_published_numbers_at_more_sizes(loaded: tuple[Form, Golden, Network], size: str) -> None:
    check(loaded, size)


def test_every_key_of_a_published_form_is_used_or_named(loaded: tuple[Form, Golden, Network]) -> None:
    form, golden, net = loaded
    report = net.weights
    assert report.format == form.format
    assert report.unused == ()
    used = next(known for known in formats(net.spec.modality) if known.format == form.format).keys
    assert len(used) + sum(report.ignored.values()) == len(golden.keys)
    assert net.spec.num_classes == (600 if form.golden.endswith("600") else 400)
    assert bool(report.notes) == (form.format == "hassony2 / video_features")


@pytest.mark.parametrize("loaded", [FORMS[0]], ids=["piergiaj_rgb"], indirect=True)
def test_folded_batch_norms_give_the_same_numbers(loaded: tuple[Form, Golden, Network], tmp_path: Path) -> None:
    _, golden, net = loaded
    save(net, tmp_path / "ours.safetensors")
    folded = build("i3d_rgb", weights=str(tmp_path / "ours.safetensors"))
    assert folded.weights.format == "reelmill"
    fold_bn(folded)
    assert max(differences(golden, folded, "rgb 17x75").values()) <= CLOSE


# ---------------------------------------------------------------- padding


def same_cases() -> list[str]:
    with np.load(FOLDER / "i3d_tf_same.npz") as arrays:
        return list(arrays.files)


@pytest.mark.parametrize("case", same_cases())
def test_padding_is_tensorflows_same(case: str) -> None:
    """`conv 777 222 9x10x11`: a kernel, a stride and T×H×W, on values of both signs, by TensorFlow's own layers."""
    kind, *digits, size = case.split()
    kernel, stride = ((int(a), int(b), int(c)) for a, b, c in digits)
    shape = tuple(int(n) for n in size.split("x"))
    layer = case.removesuffix(f" {size}")
    x = torch.from_numpy(clip_for(f"{layer} {shape}", (1, 2, *shape)))
    if kind == "conv":
        weight = torch.from_numpy(tensor_for(f"{layer}/w", (*kernel, 2, 4))).permute(4, 3, 0, 1, 2)
        ours = F.conv3d(pad_same(x, kernel, stride), weight, stride=stride)
    else:
        ours = max_pool_same(x, kernel, stride)
    with np.load(FOLDER / "i3d_tf_same.npz") as arrays:
        torch.testing.assert_close(ours, torch.from_numpy(arrays[case]), atol=1e-5, rtol=0)


def test_video_features_is_another_port() -> None:
    """Its numbers, asked of the same net with DeepMind's eps: the tests above can tell them apart."""
    golden = Golden("i3d_video_features_rgb")
    net = open_net("i3d_rgb", 400).to_empty(device="cpu")
    state = golden.state()
    net.load_state_dict({ours: state[key] for key, ours in formats("rgb")[2].keys.items()}, strict=False)
    found = differences(golden, net.eval(), "rgb 16x224")
    assert found["Mixed_5c"] > 10 * CLOSE


# ---------------------------------------------------------------- keys and shapes


@pytest.mark.parametrize(("modality", "place"), [("rgb", 3), ("flow", 3)])
def test_keys_and_shapes_are_those_of_the_released_tensorflow_files(modality: str, place: int) -> None:
    path = DATA / "i3d" / f"{modality}_imagenet.index.json"
    if not path.is_file():
        pytest.skip(f"{path} is not here: the index of DeepMind's released checkpoint")
    released = {key: tuple(entry["shape"]) for key, entry in json.loads(path.read_text()).items()}
    keymap = formats(modality)[place]  # type: ignore[arg-type]
    assert len(released) == 230
    assert keymap.keys.keys() == released.keys()
    ours = open_net(f"i3d_{modality}", 400).state_dict()
    for key, name in keymap.keys.items():
        value = torch.empty(released[key], device="meta")
        assert LAYOUTS[keymap.layout](value, ours[name].shape).shape == ours[name].shape, key
    filled = {*keymap.keys.values(), *keymap.constants}
    assert filled == {name for name in ours if not name.endswith("num_batches_tracked")}


def test_weights_of_the_other_stream_say_which_model_takes_them(tmp_path: Path) -> None:
    flow, rgb = Golden("i3d_piergiaj_flow"), Golden("i3d_deepmind_rgb")
    with pytest.raises(ReelmillError, match=r"not i3d_rgb weights, but i3d_flow weights .*use model: i3d_flow$"):
        build("i3d_rgb", weights=str(checkpoint(flow, tmp_path)))
    with pytest.raises(ReelmillError, match=r"not i3d_flow weights, but i3d_rgb weights .*use model: i3d_rgb$"):
        build("i3d_flow", weights=str(checkpoint(rgb, tmp_path)))


def test_weights_without_a_classifier_give_features(tmp_path: Path) -> None:
    state = {key: value for key, value in Golden("i3d_piergiaj_rgb").state().items() if "logits" not in key}
    torch.save({"state_dict": state}, tmp_path / "headless.pt")
    net = build("i3d_rgb", weights=str(tmp_path / "headless.pt"))
    x = torch.zeros(1, 3, 9, 32, 32)
    assert net.features(x).shape == (1, 1024)
    assert net.spec.num_classes is None
    with pytest.raises(ReelmillError, match="no classifier"):
        net(x)


def test_ours_keeps_the_port(tmp_path: Path) -> None:
    net = build("i3d_flow", weights="random:3", options={"port": "video_features", "num_classes": 7})
    save(net, tmp_path / "ours.safetensors")
    again = build("i3d_flow", weights=str(tmp_path / "ours.safetensors"))
    assert again.options == {"port": "video_features"}
    x = torch.from_numpy(clip_for("flow", (2, 2, 11, 40, 33)))
    assert torch.equal(again(x), net(x))
    assert again(x).shape == (2, 7)
    with pytest.raises(UsageError, match="port"):
        build("i3d_flow", weights=str(tmp_path / "ours.safetensors"), options={"port": "deepmind"})


# ---------------------------------------------------------------- layers


def open_net(name: str, num_classes: int | None, **options: str) -> Network:
    """On the meta device: shapes without work."""
    model = MODELS[name]
    return model.open_net(num_classes, options, next(iter(model.recipes.values())))


Size = tuple[int, int, int]


@pytest.mark.parametrize("name", ["i3d_rgb", "i3d_flow"])
@pytest.mark.parametrize(
    ("size", "expected"),  # T×H×W of Conv3d_1a_7x7, Mixed_3c, Mixed_4f, Mixed_5c
    [
        ((64, 224, 224), ((32, 112, 112), (32, 28, 28), (16, 14, 14), (8, 7, 7))),
        ((79, 256, 256), ((40, 128, 128), (40, 32, 32), (20, 16, 16), (10, 8, 8))),
        ((16, 112, 112), ((8, 56, 56), (8, 14, 14), (4, 7, 7), (2, 4, 4))),
        ((9, 101, 57), ((5, 51, 29), (5, 13, 8), (3, 7, 4), (2, 4, 2))),
    ],
)
def test_maps_halve_rounded_up(name: str, size: Size, expected: tuple[Size, ...]) -> None:
    net = open_net(name, 400)
    x = torch.empty(2, 3 if name == "i3d_rgb" else 2, *size, device="meta")
    shapes = {layer: tuple(value.shape) for layer, value in net.trunk(x)}
    assert list(shapes) == list(MAPS)
    assert {layer: shape[1] for layer, shape in shapes.items()} == MAPS
    assert tuple(shapes[at][2:] for at in ("Conv3d_1a_7x7", "Mixed_3c", "Mixed_4f", "Mixed_5c")) == expected
    assert net.features(x).shape == (2, 1024)
    assert net(x).shape == (2, 400)


def test_layers_in_order() -> None:
    spec = open_net("i3d_rgb", 5).spec
    assert list(spec.layers) == [*MAPS, "avgpool", "logits"]
    assert (spec.layers["avgpool"], spec.layers["logits"]) == (1024, 5)
    assert (spec.frames, spec.default_layer, spec.map_layers) == (64, "avgpool", tuple(MAPS))
    with pytest.raises(UsageError, match="Mixed_5c, avgpool"):
        open_net("i3d_rgb", None).features(torch.empty(1, 3, 9, 32, 32, device="meta"), layer="fc6")


@pytest.mark.parametrize(("port", "fewest"), [("deepmind", 9), ("video_features", 10)])
def test_the_fewest_frames_leave_two(port: str, fewest: int) -> None:
    net = open_net("i3d_flow", 400, port=port)
    enough = torch.empty(1, 2, fewest, 64, 64, device="meta")
    assert net.features(enough, layer="Mixed_5c", dense=True).shape == (1, 1024, 2, 2, 2)
    last = dict(net.trunk(enough[:, :, 1:]))["Mixed_5c"]
    assert last.shape[2] == 1
    with pytest.raises(UsageError, match=rf"i3d_flow takes clips of {fewest} or more frames, got {fewest - 1}"):
        net(enough[:, :, 1:])


def test_ends_count_less_than_the_middle() -> None:
    """The published pooling: T-1 windows of two frames, H-6 × W-6 of 7×7 places, then their mean."""
    net = open_net("i3d_rgb", 400)
    blob = torch.randn(1, 1024, 4, 9, 8, generator=torch.Generator().manual_seed(0))
    corners = itertools.product(range(3), range(3), range(2))
    windows = [blob[:, :, t : t + 2, i : i + 7, j : j + 7].mean((2, 3, 4)) for t, i, j in corners]
    torch.testing.assert_close(net.bridge(blob), torch.stack(windows).mean(0), atol=1e-6, rtol=0)
    small = blob[:, :, :, :4, :3]  # no 7×7 fits
    windows = [small[:, :, t : t + 2].mean((2, 3, 4)) for t in range(3)]
    torch.testing.assert_close(net.bridge(small), torch.stack(windows).mean(0), atol=1e-6, rtol=0)


# ---------------------------------------------------------------- random weights, options, recipes


def test_random_weights_are_a_function_of_the_seed() -> None:
    first, again, other = (build("i3d_rgb", weights=f"random:{seed}", options={"num_classes": 3}) for seed in (1, 1, 2))
    for (name, value), twin in zip(first.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(value, twin), name
    assert not torch.equal(first.Mixed_4b.b1b.conv.weight, other.Mixed_4b.b1b.conv.weight)
    features = first.features(torch.from_numpy(clip_for("rgb", (1, 3, 9, 48, 48))))
    assert 0.01 < features.std() < 100


def test_vectors_are_made_of_the_last_map() -> None:
    """As `differences` makes them, which passes a long clip through the trunk but once."""
    net = build("i3d_rgb", weights="random:1")
    x = torch.from_numpy(clip_for("rgb", (2, 3, 10, 33, 64)))
    top = dict(net.top(net.bridge(net.features(x, layer="Mixed_5c", dense=True))))
    assert torch.equal(net(x), top["logits"])
    assert torch.equal(net.features(x), top["avgpool"])


def test_an_unknown_port_is_told() -> None:
    with pytest.raises(UsageError, match=r"model_options\.port: write deepmind or video_features, got 'caffe'"):
        build("i3d_rgb", weights="random:1", options={"port": "caffe"})


def test_rgb_is_cut_as_deepminds_own_frames_are() -> None:
    """Of the rules that make 341.3 px whole, the recipe's alone gives the frames that DeepMind published."""
    video, gif = (DATA / "videos/ucf101" / f"{CRICKET}.avi", DATA / "flow/cricket" / f"{CRICKET}_rgb.gif")
    if not (video.is_file() and gif.is_file()):
        pytest.skip(f"{video} and {gif} are not here")
    image = Image.open(gif)
    image.seek(20)
    published = np.asarray(image.convert("RGB")).astype(float)  # 224×224×3, in 256 colours
    with av.open(str(video)) as container:
        frame = next(itertools.islice(container.decode(video=0), 20, None)).to_ndarray(format="rgb24")
    away = {}
    for rule in ("even", "floor", "round"):
        recipe = replace(RECIPES["rgb"]["deepmind"], long_side=rule)
        fitted = recipe.fit(frame[None])
        (center,) = views_of(fitted.shape[1:3], recipe.crop, crops=1, flip=False)
        away[rule] = np.abs(next(cut(fitted, recipe.crop, [center]))[0] - published).mean()
    assert RECIPES["rgb"]["deepmind"].long_side == "even"
    assert away["even"] < 4.1 < 4.5 < min(away["floor"], away["round"])


def test_values_are_those_of_the_recipes() -> None:
    rgb, flow = (RECIPES[modality]["deepmind"] for modality in ("rgb", "flow"))
    assert (rgb.fps, rgb.crop, rgb.colour) == (25, (224, 224), "RGB")
    levels = torch.tensor([0, 51, 255], dtype=torch.uint8).expand(1, 1, 1, 1, 3)
    torch.testing.assert_close(rgb.normalise(levels).flatten(), torch.tensor([-1, -0.6, 1]))
    px = torch.tensor([-30.0, 5.0]).view(1, 1, 1, 1, 2)
    torch.testing.assert_close(flow.normalise(px).flatten(), torch.tensor([-1, 0.25]))
    rounded = RECIPES["flow"]["video_features"]  # round(128 + 255 / 40 px), then 2 x / 255 - 1
    expected = torch.tensor([2 * 0 / 255 - 1, 2 * 160 / 255 - 1])  # of 0.5, which rounds to even, and 159.875
    torch.testing.assert_close(rounded.normalise(px).flatten(), expected)
    assert "128 is no motion" in rounded.words()
