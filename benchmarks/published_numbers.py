"""How far each backbone's numbers are from the published code's, in float32: the table of docs/backbones.md.

    python -m benchmarks.published_numbers [--only NAME …] [--quick]

The answers of the published projects' own code are in tests/golden/backbones, with the scripts that made them; their
weights are made again from keys and shapes, written in the project's file form, and loaded as a user's file is. Prints
a table; asserts nothing (the tests assert 1e-4).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import machine_line
from pipeline.backbones import build
from pipeline.backbones.network import Network
from pipeline.threads import use_all_cores

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS / "pipeline/backbones"))
from bundle_writer import write_bundle  # noqa: E402
from goldens import Golden  # noqa: E402

MODELS = {
    "i3d_r50": "i3d_r50",
    "c3d": "c3d",
    "efficientnet": "efficientnet_lite0",
    "flow": "i3d_flow",
    "rgb": "i3d_rgb",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "i3d_video_features_rgb": {"port": "video_features"},
    "i3d_video_features_flow": {"port": "video_features"},
    "mmaction2_i3d_r50_nl_embedded_gaussian": {"affinity": "softmax"},
}
LAYERS = {"pooled": "avgpool"}  # a golden's word -> the layer
LOGITS = ("logits", "fc8")
QUICK_PX = 112 * 112 * 16  # pixels of a clip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [path.stem for path in sorted((TESTS / "golden/backbones").glob("*.npz"))]
    nets = [name for name in names if name not in ("i3d_tf_same", "pytorchvideo_nonlocal")]
    arguments.add_argument("--only", nargs="+", default=nets, choices=nets)
    arguments.add_argument("--quick", action="store_true", help="clips up to 16×112×112 only")
    asked = arguments.parse_args()
    use_all_cores()
    print("| published code (golden) | clips | largest difference, features | logits |\n|---|---|---|---|")
    for name in asked.only:
        print(row(name, quick=asked.quick), flush=True)
    print(machine_line("torch"))


@torch.inference_mode()
def row(name: str, *, quick: bool) -> str:
    """One golden's line of the table."""
    golden = Golden(name)
    worst: dict[str, float] = {}  # a kind that was not published of these clips is not here
    used = []
    for case, shape in golden.cases.items():
        if (quick and shape[2] * shape[3] * shape[4] > QUICK_PX) or is_no_reference(name, case):
            continue
        used.append(case.split()[-1])
        net = opened(name, golden, {"pool5": case} if "c3d" in name else OPTIONS.get(name, {}))
        for key, published in golden.published.items():
            of_case, _, word = key.partition("/")
            layer = LAYERS.get(word, word)
            if of_case == case and layer in net.spec.layers:
                off = (net.features(golden.clip(case), layer=layer) - published).abs().max().item()
                kind = "logits" if layer in LOGITS else "features"
                worst[kind] = max(worst.get(kind, 0.0), off)
    cells = [f"{worst[kind]:.1e}" if kind in worst else "none published" for kind in ("features", "logits")]
    return f"| {name} | {', '.join(used)} | {' | '.join(cells)} |"


def is_no_reference(name: str, case: str) -> bool:
    """hassony2 pads odd H and W as if they were even: not TensorFlow's rule, and not followed."""
    return "hassony2" in name and case.endswith("17x75")


def opened(name: str, golden: Golden, options: dict[str, Any]) -> Network:
    """The net, from a file as the project publishes them."""
    model = next(model for text, model in MODELS.items() if text in name)
    if name.endswith("_imagenet"):
        return build(model, weights="imagenet")
    with tempfile.TemporaryDirectory() as folder:
        if any("/" in key for key in golden.keys):
            path = Path(folder) / "model.ckpt"
            write_bundle(path, {key: value.numpy() for key, value in golden.state().items()})
        else:
            path = Path(folder) / "weights.pth"
            torch.save({"state_dict": golden.state()}, path)
        return build(model, weights=str(path), options=options)


if __name__ == "__main__":
    main()
