"""What the pipeline reaches on synthetic videos, from video files to numbers on a held-out split, seed by seed.

    python -m benchmarks.synth_tasks OUT --seeds 0 1 2

Every step is a command that a user types; this script writes their configs and reads their metrics. A run that was
interrupted goes on. Motion alone tells the classes apart: no single frame does.

    classification   a small network trained on clips, four ways to fuse frames, and on TV-L1 flow
    temporal         segments in untrimmed videos, from features of the network trained above
    detection        boxes in keyframes, and tubes, from maps of the same network
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.machine import machine_line

CLASSES, VIDEOS_PER_CLASS, UNTRIMMED = 8, 50, 60
NETS = ("single_frame", "late", "early", "3d", "flow")

TRIMMED = """\
dataset: {out}/trimmed
source: {{kind: kinetics, csv: {videos}/trimmed/kinetics.csv, videos: {videos}/trimmed/videos}}
clips:
  rgb16: {{frames: 16, fps: 8, stride_s: 1.0, tail: drop, resize: [72, 88]}}
flow:
  tvl1: {{clips: rgb16, bound: 10}}
heads:
  single_frame: {{{net}, from: clips/rgb16, model: small_rgb, model_options: {{fusion: single_frame}}}}
  late: {{{net}, from: clips/rgb16, model: small_rgb, model_options: {{fusion: late}}}}
  early: {{{net}, from: clips/rgb16, model: small_rgb, model_options: {{fusion: early}}}}
  3d: {{{net}, from: clips/rgb16, model: small_rgb}}
  flow: {{{net}, from: flow/tvl1, model: small_flow, preprocess: {{bound: 10}}}}
"""
NET = (
    'kind: clip_classifier, weights: "random:{seed}", seed: {seed}, precision: bf16, epochs: 10, batch_size: 16, '
    "optimizer: adamw, lr: 0.002, weight_decay: 0.02"
)

UNTRIMMED_CONFIG = """\
dataset: {out}/untrimmed
source: {{kind: activitynet, json: {videos}/untrimmed/activitynet.json, videos: {videos}/untrimmed/videos}}
clips:
  rgb16: {{frames: 16, fps: 8, stride_s: 0.5, tail: drop, resize: [72, 88]}}
features:
  net3d: {{from: clips/rgb16, model: small_rgb, weights: {out}/trimmed/heads/3d/checkpoints/best.safetensors}}
  random: {{from: clips/rgb16, model: small_rgb, weights: "random:{seed}"}}
  maps: {{from: clips/rgb16, model: small_rgb, weights: {out}/trimmed/heads/3d/checkpoints/best.safetensors,
         layer: conv3b, dense: true, dtype: float16}}
heads:
  one_stage: {{kind: actionformer, features: [net3d], seed: {seed}}}
  two_stage: {{kind: talnet, features: [net3d], seed: {seed}}}
  one_stage_random: {{kind: actionformer, features: [random], seed: {seed}}}
  learned_boxes: {{kind: roi, features: [maps], annotations: {tubes}, seed: {seed}, epochs: 5}}
  true_boxes: {{kind: roi, features: [maps], annotations: {tubes}, proposals: truth, seed: {seed}, epochs: 5}}
"""
TUBES = "{{kind: tubes, path: {videos}/untrimmed/tubes}}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--heads", nargs="*", help="only these; default: all")
    settings = parser.parse_args()
    found = [run_seed(settings.out / f"seed{seed}", seed, settings.heads) for seed in settings.seeds]
    print(machine_line("torch", "ray", "av", "opencv-contrib-python-headless"))
    print(f"{len(found)} seeds of {CLASSES} classes; mean (smallest to largest), in %\n")
    print("| head | metric | held-out |\n|---|---|---|")
    for head in found[0]:
        for metric in found[0][head]:
            values = [100 * one[head][metric] for one in found]
            spread = f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"
            print(f"| {head} | {metric} | {spread} |")


def run_seed(out: Path, seed: int, heads: Sequence[str] | None) -> dict[str, dict[str, float]]:
    """{head: {metric: share}} of one seed: its own videos, its own weights."""
    videos = out / "videos"
    out.mkdir(parents=True, exist_ok=True)
    reelmill("synth", videos, "--classes", CLASSES, "--videos", VIDEOS_PER_CLASS, "--untrimmed", UNTRIMMED,
             "--seed", seed)  # fmt: skip
    places = {"out": out, "videos": videos, "seed": seed, "net": NET.format(seed=seed)}
    results: dict[str, dict[str, float]] = {}
    for name, text in (("trimmed", TRIMMED), ("untrimmed", UNTRIMMED_CONFIG)):
        document: dict[str, Any] = yaml.safe_load(text.format(**places, tubes=TUBES.format(videos=videos)))
        if heads:
            document["heads"] = {head: section for head, section in document["heads"].items() if head in heads}
        config = out / f"{name}.yaml"
        config.write_text(yaml.safe_dump(document, sort_keys=False))
        reelmill("run", config)
        for result in json.loads(reelmill("evaluate", config, "--json")):  # again, from the checkpoints
            first = result.get("headline") or {"top-1": next(iter(result["models"].values()))["top1"]}
            shares = {key: value for key, value in first.items() if isinstance(value, float)}
            results[result["product"].removeprefix("heads/")] = shares
    return results


def reelmill(*words: object) -> str:
    """One command, as a user types it; what it prints."""
    line = [str(word) for word in words]
    print("$ reelmill", *line, file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "jobs.cli", *line]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
