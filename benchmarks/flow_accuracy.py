"""How far the backends' TV-L1 flow lies from OpenCV's, from Middlebury's truth and from DeepMind's own flow.

    python -m benchmarks.flow_accuracy [VIDEO ...] [--backend cpu] [--pairs 4]

End-point differences in px. It reads ../shared/data/flow: four Middlebury pairs with true flow, and the flow that
DeepMind published with I3D for a UCF101 clip (GIF: 8 bits for -10 to 10 px).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageSequence

from benchmarks.flow_frames import SHARED, gray_frames, real_videos, spread_pairs
from benchmarks.machine import machine_line
from pipeline.flow import dequantise, tvl1, tvl1_sequence
from pipeline.flow.flo import known, read_flo
from pipeline.flow.tvl1 import Backend

CRICKET = "v_CricketShot_g04_c01"
CRICKET_BOUND_PX = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--backend", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--pairs", type=int, default=4, help="of each video")
    arguments = parser.parse_args()
    print(machine_line("numba", "opencv-contrib-python-headless"), "\n")
    middlebury(arguments.backend)
    against_opencv(real_videos(arguments.videos), arguments.pairs, arguments.backend)
    cricket(arguments.backend)


def end_point(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.hypot(a[..., 0] - b[..., 0], a[..., 1] - b[..., 1])


def middlebury(backend: Backend) -> None:
    print(f"{'Middlebury':<48} {'EPE opencv':>11} {'EPE ' + backend:>11} {'max difference':>15}")
    for folder in sorted((SHARED / "flow/middlebury").iterdir()):
        frames = [cv2.imread(str(folder / f"{name}.png"), cv2.IMREAD_GRAYSCALE) for name in ("frame10", "frame11")]
        truth = read_flo(folder / "flow10.flo")
        reference = tvl1(*frames, backend="opencv")
        flow = tvl1(*frames, backend=backend)
        errors = [float(end_point(found, truth)[known(truth)].mean()) for found in (reference, flow)]
        print(f"{folder.name:<48} {errors[0]:>11.4f} {errors[1]:>11.4f} {end_point(flow, reference).max():>15.6f}")
    print()


def against_opencv(videos: list[Path], num_pairs: int, backend: Backend) -> None:
    heads = ("mean |flow|", "mean difference", "within 0.1 px", "max difference")
    print(f"{'against opencv, 340x256':<48} " + " ".join(f"{head:>15}" for head in heads))
    for video in videos:
        prev, following = spread_pairs(gray_frames(video, size=(340, 256)), num_pairs)
        reference = tvl1(prev, following, backend="opencv")
        difference = end_point(tvl1(prev, following, backend=backend), reference)
        length = end_point(reference, np.zeros_like(reference)).mean()
        worst = min((field < 0.1).mean() for field in difference)  # of the pairs
        print(f"{video.name:<48} {length:>15.3f} {difference.mean():>15.6f} {worst:>15.2%} {difference.max():>15.6f}")
    print()


def cricket(backend: Backend) -> None:
    gif = Image.open(SHARED / "flow/cricket" / f"{CRICKET}_flow.gif")
    levels = np.stack([np.asarray(frame.convert("RGB"))[..., :2] for frame in ImageSequence.Iterator(gif)])
    published = dequantise(levels, bound=CRICKET_BOUND_PX)
    frames = gray_frames(SHARED / f"videos/ucf101/{CRICKET}.avi", size=(341, 256))  # short side 256
    flow = tvl1_sequence(frames, backend=backend)
    top, left = (flow.shape[1] - 224) // 2, (flow.shape[2] - 224) // 2
    flow = flow[:, top : top + 224, left : left + 224]
    print(f"{'against DeepMind, cricket, 79 fields':<48} {'correlation':>11} {'EPE':>11}")
    for name, ours, theirs in (
        ("field by field", flow, published),
        ("ours one frame late", flow[1:], published[:-1]),
        ("ours one frame early", flow[:-1], published[1:]),
    ):
        correlation = np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]
        print(f"{name:<48} {correlation:>11.4f} {end_point(ours, theirs).mean():>11.4f}")


if __name__ == "__main__":
    main()
