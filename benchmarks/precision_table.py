"""What a precision costs each backbone: cosine of its features to those in fp32, on real frames.

    python -m benchmarks.precision_table [--models c3d i3d_rgb …] [--clips 4] [--precisions bf16 fp16]

Weights are random (He, batch norm statistics at their start) but for the nets whose real ones a package ships. Prints
a table; asserts nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.frames import VIDEOS, frame_pool
from benchmarks.machine import machine_line
from pipeline.backbones import build, names
from pipeline.backbones.engine import Engine
from pipeline.backbones.network import Network
from pipeline.backbones.precision import Precision, device
from pipeline.backbones.probe import difference
from pipeline.backbones.registry import entry
from pipeline.threads import use_all_cores


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--models", nargs="+", default=list(names()))
    arguments.add_argument("--precisions", nargs="+", default=["bf16"], choices=["bf16", "fp16"])
    arguments.add_argument("--clips", type=int, default=4)
    arguments.add_argument("--videos", type=Path, default=VIDEOS)
    asked = arguments.parse_args()
    use_all_cores()
    print("| model | weights | layer | clip | " + " | ".join(f"{one}: least cosine" for one in asked.precisions) + " |")
    print("|" + "---|" * (4 + len(asked.precisions)))
    for name in asked.models:
        print(row(name, asked), flush=True)
    print(f"{machine_line('torch')}; on {device()}")


def row(name: str, asked: argparse.Namespace) -> str:
    """One model's line of the table."""
    weights = next(iter(entry(name).packaged), "random:0")
    net = build(name, weights=weights)
    spec = net.spec
    clips = real_clips(net, asked.clips, asked.videos)
    exact = run(net, clips, "fp32")
    cosines = []
    for precision in asked.precisions:
        found = difference(exact, run(build(name, weights=weights), clips, precision))
        cosines.append(f"{found.cosine_min:.6f}")
    size = "×".join(map(str, clips.shape[1:4]))
    return f"| {name} | {weights} | {spec.default_layer} | {size} | {' | '.join(cosines)} |"


def run(net: Network, clips: np.ndarray, used: str) -> np.ndarray:
    """(N, D) of the default layer."""
    precision = Precision(used, "asked for")  # type: ignore[arg-type]
    engine = Engine(net, layer=net.spec.default_layer, precision=precision, on=device(), batch_size=4)
    return np.stack(list(engine.run(clips)))


def real_clips(net: Network, num_clips: int, videos: Path) -> np.ndarray:
    """(N, T, h, w, C) as the net takes them; for a net of flow, differences of frames stand for px."""
    spec = net.spec
    size = spec.preprocessing.crop or spec.size or (224, 224)
    frames, _ = frame_pool(videos, size, least=spec.frames + num_clips)
    starts = [index * (len(frames) - spec.frames) // num_clips for index in range(num_clips)]
    clips = np.stack([np.stack(frames[start : start + spec.frames]) for start in starts])
    if spec.modality == "rgb":
        return clips
    moved = clips[..., :2].astype(np.float32) - np.roll(clips, 1, axis=1)[..., 1:]
    return (moved / 8).clip(-20, 20)


if __name__ == "__main__":
    main()
