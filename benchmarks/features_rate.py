"""Clips per second, shards to Parquet: the features stage against the loop that most people run.

    python -m benchmarks.features_rate [--model c3d|i3d_rgb|…] [--clips 24] [--rounds 2] [--videos FOLDER]

The loop: plain fp32 PyTorch, one video at a time; decode a clip (`one by one`) or a video's clips (`a video`), one
forward, append the rows. Same shards, same weights (random:0), same machine, in one run, alternating. Prints a table;
asserts nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.frames import VIDEOS, frame_pool
from benchmarks.machine import machine_line
from pipeline import receipts
from pipeline.backbones import build, same_padding
from pipeline.backbones.engine import Engine
from pipeline.backbones.network import Network
from pipeline.backbones.precision import DTYPES, device
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
UNIT_ROWS = "0" * 64
SIZES = {"c3d": (128, 171)}  # (height, width) of the stored frames; others: Kinetics' 340 × 256
STAGE = "features stage"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", default="c3d")
    arguments.add_argument("--clips", type=int, default=24, help="clips in the shard")
    arguments.add_argument("--rounds", type=int, default=2, help="times each side runs")
    arguments.add_argument("--batch-size", type=int, default=16, help="of the stage")
    arguments.add_argument("--precision", default="auto")
    arguments.add_argument("--videos", type=Path, default=VIDEOS, help="real videos; noise where there are none")
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        net = build(asked.model, weights="random:0")
        clips, unit, source = make_clips(store, net, asked.clips, asked.videos)
        print(f"{asked.model}: {asked.clips} clips of {net.spec.frames} frames, {unit.num_rows} videos, from {source}")
        compare(store, net.to(device()), clips, unit, asked)


def compare(store: Store, net: Network, clips: Product, unit: Unit, asked: argparse.Namespace) -> None:
    """Run both sides in turns and print the table."""
    product = features_product(clips, asked)
    receipts.write_card(store, card_of(product, store))
    stage = FeatureStage(product, store)
    shard, plain = store.path(f"{clips.path}/clips-000000.tar"), store.path("plain.parquet")
    threads = use_all_cores()
    sides: dict[str, Callable[[], object]] = {
        "plain fp32, a video": lambda: plain_loop(net, shard, plain, at_once=CLIPS_PER_VIDEO),
        "plain fp32, one by one": lambda: plain_loop(net, shard, plain, at_once=1),
        STAGE: lambda: stage(unit),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    with counted() as engines:
        for _ in range(asked.rounds):
            for name, side in sides.items():
                began_s = time.perf_counter()
                side()
                seconds[name].append(time.perf_counter() - began_s)
                print(f"  {name:<24} {asked.clips / seconds[name][-1]:7.2f} clips/s", flush=True)
    print_table(seconds, asked.clips)
    print_cosine(embeddings(store.path(f"{product.path}/part-000000.parquet")), embeddings(plain))
    used = receipts.read_card(store, product.path).details["precision"]
    print(f"{used['used']}: {used['why']}")
    rate = asked.clips / statistics.median(seconds[STAGE])
    print_ceiling(rate * gflop_per_clip(net), DTYPES[used["used"]])
    print_waiting(engines, sum(seconds[STAGE]))
    print(f"{machine_line('torch', 'opencv-contrib-python-headless', 'pyarrow')}; {threads} threads; {device_name()}")


@contextlib.contextmanager
def counted() -> Iterator[dict[str, float]]:
    """Seconds that engines waited for clips, and that a GPU spent on them, while the block runs."""
    found = {"waited_s": 0.0, "busy_s": 0.0}
    run, start = Engine.run, Engine._start
    events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def timed_run(self: Engine, clips: object) -> Iterator[np.ndarray]:
        before_s = self.waited_s
        yield from run(self, clips)  # type: ignore[arg-type]
        found["waited_s"] += self.waited_s - before_s

    def timed_start(self: Engine, clips: object) -> object:
        if not torch.cuda.is_available():
            return start(self, clips)  # type: ignore[arg-type]
        pair = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
        pair[0].record()
        flight = start(self, clips)  # type: ignore[arg-type]
        pair[1].record()
        events.append(pair)
        return flight

    Engine.run, Engine._start = timed_run, timed_start  # type: ignore[method-assign, assignment]
    try:
        yield found
    finally:
        Engine.run, Engine._start = run, start  # type: ignore[method-assign]
        for before, after in events:
            after.synchronize()
            found["busy_s"] += before.elapsed_time(after) / 1000


def print_waiting(found: dict[str, float], total_s: float) -> None:
    """How well the stage kept the net busy."""
    print(f"the engine waited for clips {found['waited_s'] / total_s:.1%} of the stage's time")
    if found["busy_s"]:
        print(f"the GPU was busy {found['busy_s'] / total_s:.1%} of it (copies and kernels of its stream)")


def gflop_per_clip(net: Network) -> float:
    """Counted by torch: two for each multiply-add of convolutions and matrix products."""
    preprocessing = net.spec.preprocessing
    size = preprocessing.crop or (224, 224)
    x = torch.zeros((1, 3 if net.spec.modality == "rgb" else 2, net.spec.frames, *size), device=device())
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        net.features(x)
    return counter.get_total_flops() / 1e9


def print_ceiling(gflops: float, dtype: torch.dtype) -> None:
    """The stage's arithmetic beside what this machine's matrix multiplication reaches in the same precision."""
    on = device()
    side, times = (3072, 5) if on.type == "cpu" else (8192, 20)
    a, b = torch.randn(side, side, device=on).to(dtype), torch.randn(side, side, device=on).to(dtype)
    took = []
    for _ in range(times):
        began_s = time.perf_counter()
        a @ b
        if on.type == "cuda":
            torch.cuda.synchronize()
        took.append(time.perf_counter() - began_s)
    machine = 2 * side**3 / min(took) / 1e9
    print(
        f"arithmetic: {gflops:.0f} GFLOP/s; a {side}-square {dtype} matmul here: {machine:.0f} ({gflops / machine:.0%})"
    )


def print_table(seconds: dict[str, list[float]], num_clips: int) -> None:
    """Medians over the rounds, and the range of the ratios round by round."""
    stage = seconds[STAGE]
    print(f"\n{'':<24} clips/s   stage is")
    for name, took in seconds.items():
        ratios = sorted(a / b for a, b in zip(took, stage, strict=True))
        ratio = f"{statistics.median(took) / statistics.median(stage):5.2f}x ({ratios[0]:.2f}-{ratios[-1]:.2f})"
        print(f"{name:<24} {num_clips / statistics.median(took):7.2f}   {ratio}")


def print_cosine(ours: np.ndarray, theirs: np.ndarray) -> None:
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    print(f"cosine of both results: min {cosine.min():.6f}, mean {cosine.mean():.6f}")


# ---------------------------------------------------------------- the loop that most people run


def plain_loop(net: Network, shard: str, out: str, *, at_once: int) -> None:
    """A video's clips decoded one after the other, fp32, default memory layout, batch norms as they are."""
    rows: list[np.ndarray] = []
    video_id, clips = None, []

    def flush() -> None:
        for start in range(0, len(clips), at_once):
            rows.extend(plain_forward(net, torch.stack(clips[start : start + at_once])))

    with Path(shard).open("rb") as file, torch.no_grad():
        for _, members in read_shard(file):
            facts = json.loads(members["json"])
            if facts["video_id"] != video_id:
                flush()
                video_id, clips = facts["video_id"], []
            clips.append(plain_clip(net, members))
        flush()
    pq.write_table(pa.table({"embedding": list(rows)}), out)


def plain_clip(net: Network, members: dict[str, bytes]) -> torch.Tensor:
    """C×T×H×W float32, normalised with NumPy."""
    recipe = net.spec.preprocessing
    assert recipe.crop is not None
    height, width = recipe.crop
    frames = [cv2.imdecode(np.frombuffer(members[f"{t:03d}.jpg"], np.uint8), 1) for t in range(net.spec.frames)]  # BGR
    top, left = (frames[0].shape[0] - height) // 2, (frames[0].shape[1] - width) // 2
    pixels = np.stack([frame[top : top + height, left : left + width] for frame in frames]).astype(np.float32)
    pixels = pixels if recipe.colour == "BGR" else pixels[..., ::-1]
    low, high = recipe.range
    values = (pixels * ((high - low) / 255) + low - np.float32(recipe.mean)) / np.float32(recipe.std)
    return torch.from_numpy(np.ascontiguousarray(values.astype(np.float32).transpose(3, 0, 1, 2)))


def plain_forward(net: Network, x: torch.Tensor) -> np.ndarray:
    """The network as a plain sequence of PyTorch modules, on the whole batch at once: (N, D)."""
    taps, same_padding.MANY_TAPS = same_padding.MANY_TAPS, 1 << 30  # with torch's own pooling
    try:
        return net.features_of([x.to(device())]).cpu().numpy()
    finally:
        same_padding.MANY_TAPS = taps


# ---------------------------------------------------------------- a clips product


def make_clips(store: Store, net: Network, num_clips: int, videos: Path) -> tuple[Product, Unit, str]:
    """A committed clips product of one unit, in JPEG, of frames as the model's recipe resizes them."""
    frames_per_clip, size = net.spec.frames, SIZES.get(net.spec.name, (256, 340))
    spec = Clips(frames=frames_per_clip, fps=5, resize=size)
    product = Product("clips", "bench", spec.model_dump(mode="json", by_alias=True), {}, 1)
    num_videos = -(-num_clips // CLIPS_PER_VIDEO)
    unit = Unit(index=0, start_row=0, num_rows=num_videos, rows_sha256=UNIT_ROWS)
    frames, source = frame_pool(videos, size, least=frames_per_clip)
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
            video_id, start = f"v{index // CLIPS_PER_VIDEO}", index * 7 % (len(frames) - frames_per_clip + 1)
            counts[video_id] = counts.get(video_id, 0) + 1
            pictures = [encode_frame(rgb, spec) for rgb in frames[start : start + frames_per_clip]]
            facts = {"clip_id": f"c{index}", "video_id": video_id, "label_ids": [0], "num_real_frames": frames_per_clip}
            facts |= {"height_px": size[0], "width_px": size[1]}
            times = {"start_s": 3.2 * index, "center_s": 3.2 * index + 1.6, "end_s": 3.2 * index + 3.2}
            members = {**encode_clip(pictures, spec), "json": json.dumps({**facts, **times}).encode()}
            shard.add(f"c{index}", members)
        shard.close()
        ledger = [LedgerRow(video_id, f"/{video_id}", "ok", num_items=count) for video_id, count in counts.items()]
        writer.commit(ledger, items=num_clips)
    return product, unit, source


def features_product(clips: Product, asked: argparse.Namespace) -> Product:
    section = Features.model_validate(
        {
            "from": clips.path,
            "model": asked.model,
            "weights": "random:0",
            "precision": asked.precision,
            "batch_size": asked.batch_size,
        }
    )
    settings = section.model_dump(mode="json", by_alias=True)
    return Product("features", "bench", settings, {clips.path: clips.fingerprint}, 1, "0" * 64)


def embeddings(path: str) -> np.ndarray:
    """(rows, D) float64."""
    return np.array(pq.read_table(path)["embedding"].to_pylist(), np.float64)


def device_name() -> str:
    return torch.cuda.get_device_name() if device().type == "cuda" else "no GPU"


if __name__ == "__main__":
    main()
