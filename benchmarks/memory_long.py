"""Peak memory of long videos: the worker and its decoder process, clips written to disk.

    python -m benchmarks.memory_long [--hours 10] [VIDEO ...]

Bar: 2 minutes of 1080p, or 10 hours of anything, under 1 GB resident. The long video is made here: ten seconds of
synthetic motion, its packets repeated without a new encoding. Nothing is asserted; a table comes out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av

from benchmarks.machine import machine_line
from jobs.prepare import prepare
from pipeline.stages.clips import ClipsStage
from pipeline.survey import survey
from pipeline.synth import SynthSpec, make_dataset
from pipeline.video.guard import Decoder
from schemas.config import Config

SHARED_HD = Path(__file__).resolve().parents[2] / "shared/data/videos/long/hd_1080p_122s.mp4"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--hours", type=float, default=10)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        measure(Path(arguments.child[0]), Path(arguments.child[1]))
        return
    print(machine_line("av", "opencv-contrib-python-headless"))
    print(f"\n{'video':<44} {'clips':>6} {'seconds':>8} {'worker MB':>10} {'decoder MB':>11}", flush=True)
    with tempfile.TemporaryDirectory(prefix="memory_long_") as temporary:
        work = Path(temporary)
        for video in arguments.videos or standard_videos(work, arguments.hours):
            command = [sys.executable, "-m", "benchmarks.memory_long", "--child", str(video), str(work / video.stem)]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def standard_videos(work: Path, hours: float) -> list[Path]:
    make_dataset(
        work / "hd", SynthSpec(num_classes=1, videos_per_class=1, width_px=1920, height_px=1080, duration_s=10)
    )
    make_dataset(work / "small", SynthSpec(num_classes=1, videos_per_class=1, duration_s=10))
    hd = SHARED_HD
    if not hd.exists():
        hd = repeat(next((work / "hd").rglob("*.mp4")), 120, work / "synthetic_1080p_120s.mp4")
    return [hd, repeat(next((work / "small").rglob("*.mp4")), hours * 3600, work / f"synthetic_{hours:g}_hours.mp4")]


def repeat(source: Path, seconds: float, target: Path) -> Path:
    """The packets of `source` again and again until `seconds`, shifted in time, copied without decoding."""
    with av.open(str(source)) as container, av.open(str(target), "w") as out:
        stream = container.streams.video[0]
        copy = out.add_stream_from_template(stream)
        packets = [
            (bytes(p), p.pts, p.dts, p.duration, p.is_keyframe) for p in container.demux(stream) if p.pts is not None
        ]
        length = max(pts + duration for _, pts, _, duration, _ in packets)
        for number in range(int(seconds / (length * stream.time_base))):
            for data, pts, dts, duration, is_keyframe in packets:
                packet = av.Packet(data)
                packet.pts, packet.dts = pts + number * length, dts + number * length
                packet.duration, packet.time_base = duration, stream.time_base
                packet.stream, packet.is_keyframe = copy, is_keyframe
                out.mux(packet)
    return target


def measure(video: Path, out: Path) -> None:
    """In a process of its own: one video through the clips stage."""
    folder = out.with_suffix(".videos")
    folder.mkdir()
    (folder / video.name).symlink_to(video.resolve())
    source = {"kind": "directory", "videos": str(folder), "labels": "none"}
    clips = {"rgb16": {"frames": 16, "fps": 5, "stride_s": 3.2, "resize": [128, 171]}}
    prepared = prepare(
        Config.model_validate({"dataset": str(out), "source": source, "clips": clips, "limits": {"video_s": 1e5}})
    )
    decoder = Decoder(prepared.config.limits)
    stage = ClipsStage(prepared.plan.products[0], prepared.store, decoder)
    began_s = time.perf_counter()
    stage(prepared.plan.units[0])
    elapsed_s = time.perf_counter() - began_s
    peaks = [peak_mb("self"), peak_mb(str(decoder.pid))]
    (state,) = survey(prepared.store, prepared.plan)
    assert state.rows["ok"] == 1, state
    print(f"{video.name:<44} {state.items:>6} {elapsed_s:>8.0f} {peaks[0]:>10.0f} {peaks[1]:>11.0f}", flush=True)


def peak_mb(process: str) -> float:
    """VmHWM: the largest resident size so far."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
