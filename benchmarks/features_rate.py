"""Clips per second, shards to Parquet: the features stage against the loop that most people run.

    python -m benchmarks.features_rate [--clips 24] [--rounds 2] [--videos FOLDER]

The loop: plain fp32 PyTorch, one video at a time; decode its clips, stack them, one forward, append the rows. Same
shards, same weights (random:0), same cores, in one run, alternating. Prints a table; asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.machine import machine_line
from pipeline import receipts
from pipeline.backbones import build
from pipeline.backbones.c3d import MEAN_BGR
from pipeline.graph import Product, Unit
from pipeline.shards import ShardWriter, read_shard
from pipeline.stages import card_of
from pipeline.stages.features import FeatureStage
from pipeline.store import Store
from pipeline.threads import use_all_cores
from pipeline.video.encode import encode_clip, encode_frame
from schemas.config import Clips, Features
from schemas.ledger import LedgerRow
from schemas.receipt import Card

CLIPS_PER_VIDEO = 4
GFLOP_PER_CLIP = 77.1  # 38.55 GMAC, of which all but 0.02 are done before fc7
DTYPES = {"bf16": "bfloat16", "fp32": "float32"}
FRAMES = 16
UNIT_ROWS = "0" * 64
VIDEOS = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "videos"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--clips", type=int, default=24, help="clips in the shard")
    arguments.add_argument("--rounds", type=int, default=2, help="times each side runs")
    arguments.add_argument("--batch-size", type=int, default=16, help="of the stage")
    arguments.add_argument("--layer", default="fc6")
    arguments.add_argument("--videos", type=Path, default=VIDEOS, help="real videos; noise where there are none")
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        clips, unit, source = make_clips(store, asked.clips, asked.videos)
        print(f"{asked.clips} clips of {FRAMES} frames, {unit.num_rows} videos, from {source}")
        compare(store, clips, unit, asked)


def compare(store: Store, clips: Product, unit: Unit, asked: argparse.Namespace) -> None:
    """Run both sides in turns and print the table."""
    product = features_product(clips, asked.layer, asked.batch_size)
    receipts.write_card(store, card_of(product, store))
    net = build("c3d", weights="random:0")
    stage = FeatureStage(product, store)
    shard, plain = store.path(f"{clips.path}/clips-000000.tar"), store.path("plain.parquet")
    threads = use_all_cores()
    sides: dict[str, Callable[[], object]] = {
        "plain fp32 loop": lambda: plain_loop(net, asked.layer, shard, plain, at_once=CLIPS_PER_VIDEO),
        "plain, clip by clip": lambda: plain_loop(net, asked.layer, shard, plain, at_once=1),
        "features stage": lambda: stage(unit),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(asked.rounds):
        for name, side in sides.items():
            began_s = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - began_s)
            print(f"  {name:<20} {asked.clips / seconds[name][-1]:7.2f} clips/s", flush=True)
    print_table(seconds, asked.clips)
    ours = embeddings(store.path(f"{product.path}/part-000000.parquet"))
    theirs = embeddings(plain)
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    used = receipts.read_card(store, product.path).details["precision"]
    print(f"cosine of both results: min {cosine.min():.6f}, mean {cosine.mean():.6f}; {used['used']}: {used['why']}")
    print_ceiling(asked.clips / statistics.median(seconds["features stage"]), getattr(torch, DTYPES[used["used"]]))
    print(f"{machine_line('torch', 'opencv-contrib-python-headless', 'pyarrow')}; {threads} threads")


def print_ceiling(clips_per_s: float, dtype: torch.dtype) -> None:
    """The stage's arithmetic beside what this machine's matrix multiplication reaches in the same precision."""
    side, times = 3072, 5
    a, b = torch.randn(side, side).to(dtype), torch.randn(side, side).to(dtype)
    took = []
    for _ in range(times):
        began_s = time.perf_counter()
        a @ b
        took.append(time.perf_counter() - began_s)
    machine = 2 * side**3 / min(took) / 1e9
    stage = clips_per_s * GFLOP_PER_CLIP
    print(
        f"arithmetic: {stage:.0f} GFLOP/s; a {side}-square {dtype} matmul here: {machine:.0f} ({stage / machine:.0%})"
    )


def print_table(seconds: dict[str, list[float]], num_clips: int) -> None:
    """Medians over the rounds."""
    rates = {name: num_clips / statistics.median(took) for name, took in seconds.items()}
    print(f"\n{'':<20} clips/s   stage is")
    for name, rate in rates.items():
        print(f"{name:<20} {rate:7.2f}   {rates['features stage'] / rate:5.2f}x")


def plain_loop(net: torch.nn.Module, layer: str, shard: str, out: str, *, at_once: int) -> None:
    """What most people run: a video's clips decoded one after the other, fp32, default memory layout."""
    rows: list[np.ndarray] = []
    video_id, clips = None, []

    def flush() -> None:
        for start in range(0, len(clips), at_once):
            x = torch.stack(clips[start : start + at_once])  # N×3×16×112×112
            rows.extend(plain_forward(net, x, layer).numpy())

    with Path(shard).open("rb") as file, torch.no_grad():
        for _, members in read_shard(file):
            facts = json.loads(members["json"])
            if facts["video_id"] != video_id:
                flush()
                video_id, clips = facts["video_id"], []
            clips.append(plain_clip(members))
        flush()
    pq.write_table(pa.table({"embedding": list(rows)}), out)


def plain_clip(members: dict[str, bytes]) -> torch.Tensor:
    """3×16×112×112 float32."""
    frames = [cv2.imdecode(np.frombuffer(members[f"{t:03d}.jpg"], np.uint8), 1) for t in range(FRAMES)]  # BGR
    pixels = np.stack([frame[8:120, 29:141] for frame in frames]).astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray((pixels - np.float32(MEAN_BGR)).transpose(3, 0, 1, 2)))


def plain_forward(net: torch.nn.Module, x: torch.Tensor, layer: str) -> torch.Tensor:
    """The network as a plain sequence of PyTorch modules, on the whole batch at once."""
    functional = torch.nn.functional
    pools = {"conv1a": (1, 2, 2), "conv2a": (2, 2, 2), "conv3b": (2, 2, 2), "conv4b": (2, 2, 2), "conv5b": (2, 2, 2)}
    for name in ("conv1a", "conv2a", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b"):
        x = functional.relu(net.get_submodule(name)(x))
        if name in pools:
            x = functional.max_pool3d(x, pools[name], pools[name], ceil_mode=name == "conv5b")
    x = x.flatten(1)
    for name in ("fc6", "fc7", "fc8"):
        if layer == "pool5":
            return x
        x = net.get_submodule(name)(x)
        x = x if name == "fc8" else functional.relu(x)
        if layer == name:
            return x
    raise SystemExit(f"the plain loop has no layer {layer}; use pool5, fc6, fc7 or fc8")


def make_clips(store: Store, num_clips: int, videos: Path) -> tuple[Product, Unit, str]:
    """A committed clips product of one unit, in JPEG."""
    spec = Clips(frames=FRAMES, fps=5, resize=(128, 171))
    product = Product("clips", "bench", spec.model_dump(mode="json", by_alias=True), {}, 1)
    num_videos = -(-num_clips // CLIPS_PER_VIDEO)
    unit = Unit(index=0, start_row=0, num_rows=num_videos, rows_sha256=UNIT_ROWS)
    frames, source = frame_pool(videos)
    counts: dict[str, int] = {}
    empty: dict[str, str] = {}
    receipts.write_card(
        store,
        Card(
            product=product.path,
            fingerprint=product.fingerprint,
            code_version=1,
            settings=dict(product.settings),
            upstream=empty,
            details={},
            versions=empty,
        ),
    )
    with receipts.begin(store, product, unit) as writer:
        shard = ShardWriter(writer.file("clips-000000.tar"))
        for index in range(num_clips):
            video_id, start = f"v{index // CLIPS_PER_VIDEO}", index * 7 % (len(frames) - FRAMES + 1)
            counts[video_id] = counts.get(video_id, 0) + 1
            members = encode_clip([encode_frame(rgb, spec) for rgb in frames[start : start + FRAMES]], spec)
            facts = {"clip_id": f"c{index}", "video_id": video_id, "label_ids": [0]}
            times = {"start_s": 3.2 * index, "center_s": 3.2 * index + 1.6, "end_s": 3.2 * index + 3.2}
            shard.add(f"c{index}", {**members, "json": json.dumps({**facts, **times}).encode()})
        shard.close()
        ledger = [LedgerRow(video_id, f"/{video_id}", "ok", num_items=count) for video_id, count in counts.items()]
        writer.commit(ledger, items=num_clips)
    return product, unit, source


def frame_pool(videos: Path, most: int = 400) -> tuple[list[np.ndarray], str]:
    """128×171 RGB frames of real videos at about 5 fps; drifting noise where there are none."""
    pool: list[np.ndarray] = []
    for path in sorted(videos.glob("ucf101/*.avi")) + sorted(videos.glob("kinetics/*.mp4")):
        capture = cv2.VideoCapture(str(path))
        while capture.grab() and len(pool) < most:
            found, bgr = capture.retrieve()
            for _ in range(5):
                capture.grab()
            if found:
                pool.append(cv2.cvtColor(cv2.resize(bgr, (171, 128)), cv2.COLOR_BGR2RGB))
    if len(pool) >= FRAMES:
        return pool, f"real frames of {videos}"
    noise = cv2.resize(np.random.default_rng(0).integers(0, 256, (16, 21, 3), np.uint8), (171, 128))
    return [np.roll(noise, 2 * t, axis=1) for t in range(most)], "drifting noise"


def features_product(clips: Product, layer: str, batch_size: int) -> Product:
    section = Features.model_validate(
        {"from": clips.path, "model": "c3d", "weights": "random:0", "layer": layer, "batch_size": batch_size}
    )
    settings = section.model_dump(mode="json", by_alias=True)
    return Product("features", "bench", settings, {clips.path: clips.fingerprint}, 1, "0" * 64)


def embeddings(path: str) -> np.ndarray:
    """(rows, D) float64."""
    return np.array(pq.read_table(path)["embedding"].to_pylist(), np.float64)


if __name__ == "__main__":
    main()
