"""Writes i3d_*.json and i3d_*.npz: what the published I3D code computes, with weights that anyone can make again.

    python make_i3d.py --peers DIR piergiaj hassony2 video_features     # in an environment with torch
    python make_i3d.py --peers DIR deepmind tf_same                     # in one with tensorflow (2.21 was used)

DIR holds checkouts of piergiaj/pytorch-i3d, hassony2/kinetics_i3d_pytorch, v-iashin/video_features and
google-deepmind/kinetics-i3d (as pytorch-i3d, kinetics_i3d_pytorch, …), each with its commit in a file COMMIT.

A case is "MODALITY TxS": T frames of S×S px. Of each: `Mixed_5c` averaged over T, H and W, its `shape`, and `sample`,
every 997th value of it in (N, C, T, H, W) order; and where that map is 7×7 or larger, as the published code demands,
`logits` and `pooled`, the average-pooled map averaged over what is left of it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from weights import clip_for, tensor_for

HERE = Path(__file__).resolve().parent
SIZES = {"16x112": (2, 16, 112), "79x112": (1, 79, 112), "16x224": (1, 16, 224), "64x224": (1, 64, 224)}
SIZES |= {"79x256": (1, 79, 256), "17x75": (1, 17, 75)}
CHANNELS = {"rgb": 3, "flow": 2}
STEP = 997
MAPS_7X7 = 224  # px: smaller clips end in maps that [2, 7, 7] does not fit

Golden = dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("what", nargs="+", choices=sorted(MAKERS))
    args = parser.parse_args()
    for what in args.what:
        for name, facts, golden in MAKERS[what](args.peers):
            _write(name, facts, golden)


def cases(modality: str) -> dict[str, tuple[int, ...]]:
    """The shape N×C×T×S×S of each case."""
    channels = CHANNELS[modality]
    return {f"{modality} {size}": (num, channels, frames, side, side) for size, (num, frames, side) in SIZES.items()}


# ------------------------------------------------------------ the three ports to PyTorch


def piergiaj(peers: Path) -> Iterator[tuple[str, dict[str, Any], Golden]]:
    module = _import(peers / "pytorch-i3d/pytorch_i3d.py")
    for modality, channels in CHANNELS.items():
        net = module.InceptionI3d(400, in_channels=channels)
        facts = _torch_facts("piergiaj/pytorch-i3d", peers / "pytorch-i3d", net, modality)
        mixed = {"module": net._modules["Mixed_5c"], "pool": net.avg_pool}
        yield f"i3d_piergiaj_{modality}", facts, _torch_golden(net, modality, net, **mixed)


def hassony2(peers: Path) -> Iterator[tuple[str, dict[str, Any], Golden]]:
    yield from _hassony2("hassony2", "hassony2/kinetics_i3d_pytorch", peers / "kinetics_i3d_pytorch", "src/i3dpt.py")


def video_features(peers: Path) -> Iterator[tuple[str, dict[str, Any], Golden]]:
    path = "models/i3d/i3d_src/i3d_net.py"
    yield from _hassony2("video_features", "v-iashin/video_features", peers / "video_features", path)


def _hassony2(name: str, repo: str, folder: Path, file: str) -> Iterator[tuple[str, dict[str, Any], Golden]]:
    module = _import(folder / file)
    for modality in CHANNELS:
        net = module.I3D(400, modality=modality)
        facts = _torch_facts(repo, folder, net, modality)
        golden = _torch_golden(net, modality, lambda x, net=net: net(x)[1], module=net.mixed_5c, pool=net.avg_pool)
        yield f"i3d_{name}_{modality}", facts, golden


def _torch_facts(repo: str, folder: Path, net: Any, modality: str) -> dict[str, Any]:
    import torch

    state = {key: torch.from_numpy(tensor_for(key, tuple(value.shape))) for key, value in net.state_dict().items()}
    net.load_state_dict(state)
    net.eval()
    keys = {key: list(value.shape) for key, value in state.items()}
    facts = {"peer": repo, "commit": (folder / "COMMIT").read_text().strip(), "torch": torch.__version__}
    return {**facts, "cases": cases(modality), "keys": keys}


def _torch_golden(net: Any, modality: str, logits: Any, *, module: Any, pool: Any) -> Golden:
    """Runs the peer's own forward; hooks on its modules give Mixed_5c and the pooled map."""
    import torch

    seen: dict[str, Any] = {}
    module.register_forward_hook(lambda *call: seen.__setitem__("Mixed_5c", call[2]))
    pool.register_forward_hook(lambda *call: seen.__setitem__("pooled", call[2]))
    golden: Golden = {}
    with torch.inference_mode():
        for case, shape in cases(modality).items():
            x = torch.from_numpy(clip_for(case, shape))
            try:
                out = logits(x)
            except RuntimeError:  # avg_pool: the map is smaller than 7×7
                assert shape[-1] < MAPS_7X7
            else:
                golden[f"{case}/logits"] = _mean(out.numpy())
                golden[f"{case}/pooled"] = _mean(seen["pooled"].numpy())
            _map(golden, case, seen["Mixed_5c"].numpy())
    return golden


# ------------------------------------------------------------ the original, in TensorFlow


def deepmind(peers: Path) -> Iterator[tuple[str, dict[str, Any], Golden]]:
    folder = peers / "kinetics-i3d"
    for name, modality, checkpoint, prefix, num_classes in (
        ("rgb", "rgb", "rgb_imagenet", "RGB/inception_i3d/", 400),
        ("flow", "flow", "flow_imagenet", "Flow/inception_i3d/", 400),
        ("rgb600", "rgb", "rgb_scratch_kin600", "", 600),
    ):
        import tensorflow

        index = folder / f"data/checkpoints/{checkpoint}/model.ckpt"
        keys = _index(index)
        facts = {
            "peer": "google-deepmind/kinetics-i3d",
            "commit": (folder / "COMMIT").read_text().strip(),
            "tensorflow": tensorflow.__version__,
            "cases": cases(modality),
            "keys": keys,
        }
        yield f"i3d_deepmind_{name}", facts, _tf_golden(folder, modality, keys, prefix, num_classes)


def _index(prefix: Path) -> dict[str, list[int]]:
    """Names and shapes of a released checkpoint, in its order; its index is enough for them."""
    import tensorflow

    prefix.with_name(prefix.name + ".data-00000-of-00001").touch()
    return {
        key: list(shape)
        for key, shape in sorted(tensorflow.train.load_checkpoint(str(prefix)).get_variable_to_shape_map().items())
    }


def _tf_golden(folder: Path, modality: str, keys: dict[str, list[int]], prefix: str, num_classes: int) -> Golden:
    import tensorflow.compat.v1 as tf

    golden: Golden = {}
    for case, shape in cases(modality).items():
        with tf.Graph().as_default(), tf.Session() as session:
            i3d = _import_i3d(folder, tf)
            x = tf.constant(clip_for(case, shape).transpose(0, 2, 3, 4, 1))
            whole = shape[-1] >= MAPS_7X7
            with tf.variable_scope("scope"):
                model = i3d.InceptionI3d(
                    num_classes, spatial_squeeze=False, final_endpoint="Logits" if whole else "Mixed_5c"
                )
                _, ends = model(x, is_training=False)
            for variable in tf.global_variables():
                key = prefix + variable.op.name.removeprefix("scope/inception_i3d/")
                variable.load(tensor_for(key, tuple(keys[key])).reshape(variable.shape), session)
            asked = {"Mixed_5c": ends["Mixed_5c"]}
            if whole:
                trained = [key for key in keys if not key.endswith("/Momentum")]
                assert len(trained) == len(tf.global_variables())
                pools = [op for op in tf.get_default_graph().get_operations() if op.type == "AvgPool3D"]
                asked |= {"logits": ends["Logits"], "pooled": pools[0].outputs[0]}
            found = session.run(asked)
        for key in asked.keys() & {"logits", "pooled"}:
            golden[f"{case}/{key}"] = _mean(np.moveaxis(found[key], -1, 1))
        _map(golden, case, np.moveaxis(found["Mixed_5c"], -1, 1))
    return golden


def _import_i3d(folder: Path, tf: Any) -> ModuleType:
    """DeepMind's i3d.py as it stands, on TensorFlow's own v1 interface.

    It is written on Sonnet 1, which needs tensorflow.contrib and runs on nothing later than TensorFlow 1.15. The five
    names that it takes from Sonnet are given here, after Sonnet 1.36: no gamma, eps 1e-3, and its variable names.
    """
    sonnet = ModuleType("sonnet")
    for padding in ("SAME", "VALID"):
        setattr(sonnet, padding, padding)

    class AbstractModule:
        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            with tf.variable_scope(self.name):
                return self._build(*args, **kwargs)

    class Conv3D(AbstractModule):
        def __init__(
            self, *, output_channels: int, kernel_shape: Any, stride: Any, padding: str, use_bias: bool
        ) -> None:
            super().__init__("conv_3d")
            self.facts = (output_channels, tuple(kernel_shape), tuple(stride), padding, use_bias)

        def _build(self, x: Any) -> Any:
            num_out, kernel, stride, padding, use_bias = self.facts
            w = tf.get_variable("w", (*kernel, x.shape[-1], num_out))
            out = tf.nn.conv3d(x, w, (1, *stride, 1), padding)
            return out + tf.get_variable("b", (num_out,)) if use_bias else out

    class BatchNorm(AbstractModule):
        def __init__(self) -> None:
            super().__init__("batch_norm")

        def _build(self, x: Any, *, is_training: bool, test_local_stats: bool) -> Any:
            assert not is_training
            assert not test_local_stats
            shape = (1, 1, 1, 1, x.shape[-1])
            beta, mean, var = (tf.get_variable(name, shape) for name in ("beta", "moving_mean", "moving_variance"))
            return tf.nn.batch_normalization(x, mean, var, beta, None, 1e-3)

    for kind in (AbstractModule, Conv3D, BatchNorm):
        setattr(sonnet, kind.__name__, kind)
    saved = {name: sys.modules.get(name) for name in ("sonnet", "tensorflow")}
    sys.modules |= {"sonnet": sonnet, "tensorflow": tf}
    try:
        return _import(folder / "i3d.py")
    finally:
        del sys.modules["sonnet"]
        sys.modules["tensorflow"] = saved["tensorflow"]  # type: ignore[assignment]


def tf_same(peers: Path) -> Iterator[tuple[str, dict[str, Any], Golden]]:
    """TensorFlow's own conv3d and max_pool3d with padding SAME, at even and odd sizes, on values of both signs."""
    import tensorflow as tf

    golden: Golden = {}
    for layer in ("conv 777 222", "conv 333 111", "pool 133 122", "pool 333 222", "pool 222 222", "pool 333 111"):
        kind, kernel, stride = layer.split()
        k, s = [[int(digit) for digit in digits] for digits in (kernel, stride)]
        for shape in ((1, 2, 3), (4, 5, 6), (7, 8, 9), (8, 7, 12), (9, 10, 11), (16, 13, 14)):
            x = clip_for(f"{layer} {shape}", (1, 2, *shape)).transpose(0, 2, 3, 4, 1)
            if kind == "conv":
                out = tf.nn.conv3d(x, tensor_for(f"{layer}/w", (*k, 2, 4)), (1, *s, 1), "SAME")
            else:
                out = tf.nn.max_pool3d(x, (1, *k, 1), (1, *s, 1), "SAME")
            golden[f"{layer} {'x'.join(map(str, shape))}"] = np.moveaxis(out.numpy(), -1, 1)
    yield "i3d_tf_same", {"tensorflow": tf.__version__, "cases": {}, "keys": {}}, golden


# ------------------------------------------------------------ what is kept


def _mean(values: np.ndarray) -> np.ndarray:
    """(N, C) of (N, C, …), float32."""
    return values.astype(np.float64).reshape(*values.shape[:2], -1).mean(-1).astype(np.float32)


def _map(golden: Golden, case: str, mixed: np.ndarray) -> None:
    golden[f"{case}/Mixed_5c"] = _mean(mixed)
    golden[f"{case}/sample"] = np.ascontiguousarray(mixed).reshape(-1)[::STEP]
    golden[f"{case}/shape"] = np.array(mixed.shape)


def _write(name: str, facts: dict[str, Any], golden: Golden) -> None:
    tables = []
    for table in ("cases", "keys"):  # a line each
        lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(shape)}" for key, shape in facts.pop(table).items())
        tables.append(f' "{table}": {{\n{lines}\n }}')
    text = ",\n".join([json.dumps(facts)[:-1], *tables])
    (HERE / f"{name}.json").write_text(f"{text}\n}}\n")
    np.savez_compressed(HERE / f"{name}.npz", **golden)
    for key, value in golden.items():
        print(name, key, value.shape, f"{value.dtype} {np.abs(value).mean():.3g} ±{value.std():.3g}")


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKERS = {
    "piergiaj": piergiaj,
    "hassony2": hassony2,
    "video_features": video_features,
    "deepmind": deepmind,
    "tf_same": tf_same,
}

if __name__ == "__main__":
    main()
