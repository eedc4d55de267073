"""Golden numbers of the frame-mAP and video-mAP of tubes, from the code of MOC-detector and of ACT-detector.

    git clone https://github.com/MCG-NJU/MOC-Detector DIR/MOC-Detector                                    # 45c3fd0
    git clone -b act-detector https://github.com/vkalogeiton/caffe DIR/ACT-detector                       # a431461
    python make_tubes.py --peers DIR                  # writes tubes.json
    python make_tubes.py --peers DIR --compare 100    # random tubes, few and many: the largest differences

Their `frameAP` and `videoAP` run as they are; both must agree. What they import and the metric does not use (networks,
data sets, caffe) are empty modules, ACT-detector's Python 2 is read as Python 3, and numpy is given back what it had in
their time: its argsort on any processor, and int() of an array. Both stop where a class has predictions and no truth:
no case here is such a one.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import pickle
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
LABELS = ("run", "jump", "dive")


class OldArray(np.ndarray):
    """int() of an array of one number, which numpy has dropped with 2.4."""

    def __int__(self) -> int:
        return int(self.item())


class OldNumpy:
    """numpy as it was; with `introsort` also the sort of before 1.25, the only one that it has for long doubles."""

    def __init__(self, *, introsort: bool) -> None:
        self.introsort = introsort

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def argsort(self, values: Any) -> np.ndarray:
        return np.argsort(np.asarray(values).astype(np.longdouble) if self.introsort else values)

    def where(self, condition: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(found.view(OldArray) for found in np.where(condition))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="folder that holds MOC-Detector and ACT-detector")
    parser.add_argument("--compare", type=int, metavar="N", help="compare this project with them on N random sets")
    args = parser.parse_args()
    peers = {"MOC": moc(args.peers / "MOC-Detector/src"), "ACT": act(args.peers / "ACT-detector/act-detector-scripts")}
    if args.compare:
        compare(peers, args.compare)
        return
    cases = {name: {**case, **official(peers, case)} for name, case in {**by_hand(), **at_random()}.items()}
    (HERE / "tubes.json").write_text(json.dumps(cases, indent=1) + "\n")


# ---------------------------------------------------------------- their code


def moc(folder: Path) -> dict[str, Any]:
    sys.path.insert(0, str(folder))
    for name, names in {"datasets.init_dataset": "get_dataset", "opts": "opts", "progress.bar": "Bar"}.items():
        sys.modules[name] = ModuleType(name)
        setattr(sys.modules[name], names, None)
    import ACT
    from ACT_utils import ACT_utils

    return {"module": ACT.__dict__, "tools": ACT_utils.__dict__}


def act(folder: Path) -> dict[str, Any]:
    tools: dict[str, Any] = {}
    exec(python3(folder / "ACT_utils.py"), tools)
    module: dict[str, Any] = {**tools, "__file__": str(folder / "ACT.py"), "__name__": "act"}
    for name in ("cPickle", "cv2", "caffe", "Dataset"):
        sys.modules[name] = ModuleType(name)
    sys.modules["Dataset"].GetDataset = None  # type: ignore[attr-defined]
    sys.modules["ACT_utils"] = ModuleType("ACT_utils")
    exec(python3(folder / "ACT.py"), module)
    del sys.modules["cv2"], sys.modules["ACT_utils"]
    return {"module": module, "tools": tools}


def python3(path: Path) -> str:
    return re.sub(r"(?m)^(\s*)print (?=[^(])(.*)$", r"\1print(\2)", path.read_text().replace("xrange", "range"))


def official(
    peers: dict[str, Any], case: dict[str, Any], *, is_introsort: bool = True, dtype: Any = float
) -> dict[str, Any]:
    """{"frame": [AP of each class], "video": …}, in [0, 1]."""
    found = []
    for name, peer in peers.items():
        for scope in peer.values():
            scope["np"] = OldNumpy(introsort=is_introsort)
        aps: list[float] = []
        pr_to_ap = peer["tools"]["pr_to_ap"]
        peer["module"]["pr_to_ap"] = lambda pr, of=pr_to_ap, aps=aps: aps.append(of(pr)) or aps[-1]
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            run = run_moc if name == "MOC" else run_act
            run(peer["module"], case, Path(folder), dtype)
        count = len(case["labels"])
        found.append({"frame": [float(ap) for ap in aps[:count]], "video": [float(ap) for ap in aps[count:]]})
    assert all(one == found[0] for one in found), found
    return found[0]


def truth_of(case: dict[str, Any]) -> dict[str, dict[int, list[np.ndarray]]]:
    tubes: dict[str, dict[int, list[np.ndarray]]] = {video: {} for video in case["videos"]}
    for video, label, start, boxes in case["truth"]:
        frames = np.arange(start, start + len(boxes))[:, None] + 1
        tubes[case["videos"][video]].setdefault(label, []).append(np.hstack([frames, np.array(boxes)]))
    return tubes


def frame_detections(case: dict[str, Any], dtype: Any) -> np.ndarray:
    rows = []
    for video, label, start, boxes, score, scores in case["predictions"]:
        for at, box in enumerate(boxes):
            rows.append((video, start + at + 1, label, score if scores is None else scores[at], *box))
    rows.sort(key=lambda row: row[:2])
    return np.array(rows, dtype=dtype).reshape(-1, 8)


def video_tubes(case: dict[str, Any], video: int, dtype: Any) -> dict[int, list[Any]]:
    tubes: dict[int, list[Any]] = {label: [] for label in range(len(case["labels"]))}
    for of, label, start, boxes, score, _ in case["predictions"]:
        if of == video:
            frames = np.arange(start, start + len(boxes))[:, None] + 1
            tubes[label].append([np.hstack([frames, np.array(boxes)]).astype(dtype), dtype(score)])
    return tubes


def run_moc(module: dict[str, Any], case: dict[str, Any], folder: Path, dtype: Any) -> None:
    data = SimpleNamespace(labels=case["labels"], _test_videos=[case["videos"]], _gttubes=truth_of(case))
    module["get_dataset"] = lambda name: lambda opt, split: data
    (folder / "frame_detections.pkl").write_bytes(pickle.dumps(frame_detections(case, dtype)))
    write_tubes(case, folder, dtype)
    opt = SimpleNamespace(redo=False, th=case["iou"], model_name="", dataset="", split=1, inference_dir=str(folder))
    module["frameAP"](opt, print_info=False)
    module["videoAP"](opt, print_info=False)


def run_act(module: dict[str, Any], case: dict[str, Any], folder: Path, dtype: Any) -> None:
    data = SimpleNamespace(
        labels=case["labels"],
        nlabels=len(case["labels"]),
        test_vlist=lambda: case["videos"],
        gttubes=truth_of(case).__getitem__,
    )
    results = folder / "results/ACT-detector/set"
    results.mkdir(parents=True)
    (folder / "scripts").mkdir()
    write_tubes(case, results, dtype)
    module.update(
        GetDataset=lambda name: data,
        __file__=str(folder / "scripts/ACT.py"),
        load_frame_detections=lambda *_: frame_detections(case, dtype),
        pickle=pickle,
    )
    module["frameAP"]("set", th=case["iou"], redo=True)
    module["videoAP"]("set", th=case["iou"], redo=True)


def write_tubes(case: dict[str, Any], folder: Path, dtype: Any) -> None:
    for number, video in enumerate(case["videos"]):
        (folder / f"{video}_tubes.pkl").write_bytes(pickle.dumps(video_tubes(case, number, dtype)))


# ---------------------------------------------------------------- cases


def case(truth: list[Any], predictions: list[Any], *, iou: float = 0.5, videos: int = 2) -> dict[str, Any]:
    """Truth rows (video, label, start, boxes), predictions (video, label, start, boxes, score, box scores or None)."""
    names = [f"v{number}" for number in range(videos)]
    return {"iou": iou, "videos": names, "labels": list(LABELS), "truth": truth, "predictions": predictions}


def by_hand() -> dict[str, dict[str, Any]]:
    left, right = [[0.0, 0.0, 9.0, 9.0]], [[20.0, 0.0, 29.0, 9.0]]
    true = [(0, 0, 3, left * 4), (1, 1, 0, right * 2)]
    return {
        "no predictions": case(true, []),
        "no truth": case([], []),
        "a class without truth": case(true[:1], [(0, 0, 3, left * 4, 0.9, None)]),
        "another class and another video": case(true, [(1, 0, 3, left * 4, 0.9, None), (0, 1, 3, left * 4, 0.8, None)]),
        "duplicates": case(true, [(0, 0, 3, left * 4, score, None) for score in (0.9, 0.8, 0.7)]),
        "a duplicate of one that misses": case(
            true, [(0, 0, 3, right * 4, 0.9, None), (0, 0, 3, right * 4, 0.8, None), (0, 0, 3, left * 4, 0.7, None)]
        ),
        "the same truth twice": case(
            [true[0], true[0]],
            [(0, 0, 3, left * 4, 0.9, None), (0, 0, 30, left, 0.85, None), (0, 0, 3, left * 4, 0.8, None)],
        ),
        "the second largest IoU will do": case(
            [(0, 0, 0, [[0, 0, 9, 9]]), (0, 0, 0, [[0, 0, 11, 9]])],
            [(0, 0, 0, [[0, 0, 9, 9]], 0.9, None), (0, 0, 0, [[0, 0, 9, 10]], 0.8, None)],
        ),
        "boxes that touch": case(true[:1], [(0, 0, 3, [[9.0, 0.0, 18.0, 9.0]] * 4, 0.9, None)], iou=1 / 19),
        "boxes that would touch without + 1": case(
            true[:1], [(0, 0, 3, [[10.0, 0, 18.0, 9.0]] * 4, 0.9, None)], iou=1e-9
        ),
        "IoU of exactly a half": case(
            [(0, 0, 0, [[0, 0, 4, 9]] * 3), (1, 0, 0, [[0, 0, 4, 9]] * 3)],
            [(0, 0, 0, [[0, 0, 9, 9]] * 3, 0.9, None), (1, 0, 0, [[0, 0, 9.01, 9]] * 3, 0.8, None)],
        ),
        "half of the time": case(true, [(0, 0, 5, left * 2, 0.9, None), (1, 1, 1, right * 2, 0.8, None)]),
        "one frame in common": case(true, [(0, 0, 6, left * 3, 0.9, None), (0, 0, 7, left * 3, 0.8, None)], iou=1 / 6),
        "boxes of one pixel and inverted ones": case(
            [(0, 0, 0, [[3, 3, 3, 3]])],
            [
                (0, 0, 0, [[3, 3, 3, 3]], 0.5, None),
                (0, 0, 0, [[9, 9, 2, 1]], 0.9, None),
                (1, 0, 0, [[9, 0, 2, 9]], 0.8, None),
            ],
        ),
        "scores of boxes": case(true, [(0, 0, 3, left * 4, 0.2, [0.9, 0.1, 0.5, 0.5]), (0, 0, 9, left, 0.7, None)]),
        "equal scores": case(
            true,
            [(0, 0, 3, left * 4, 0.5, None), *[(1, 0, 5 * n, left * 4, 0.5, None) for n in range(9)]],
        ),
        "suppressed by a better one": case(
            [(0, 0, 0, left * 9), (0, 0, 0, right * 9)],
            [
                (0, 0, 0, [[3, 0, 12, 9]] * 9, 0.9, None),
                (0, 0, 0, left * 9, 0.8, None),
                (0, 0, 0, right * 9, 0.7, None),
            ],
        ),
        "one that was suppressed suppresses none": case(
            [(0, 0, 0, [[8, 0, 17, 9]] * 9)],
            [(0, 0, 0, [[4 * n, 0, 4 * n + 9, 9]] * 9, 0.9 - n / 10, None) for n in range(3)],
        ),
    }


def at_random() -> dict[str, dict[str, Any]]:
    return {
        "random": tubes(seed=1, videos=6, truth=2, predictions=9),
        "random, at 0.2": tubes(seed=2, videos=4, truth=2, predictions=8, iou=0.2),
        "random, on a grid": tubes(seed=3, videos=3, truth=3, predictions=12, grid=8.0),
        "random, equal scores": tubes(seed=4, videos=3, truth=2, predictions=12, grid=8.0, decimals=1, iou=0.2),
    }


def tubes(
    *,
    seed: int,
    videos: int,
    truth: int,
    predictions: int,
    iou: float = 0.5,
    grid: float = 0.125,
    decimals: int = 5,
    frames: int = 8,
) -> dict[str, Any]:
    """Random tubes of all classes but the last, and predictions that lie near them or anywhere."""
    random = np.random.default_rng(seed)

    def tube(near: tuple[int, np.ndarray] | None = None) -> tuple[int, list[Any]]:
        if near is None:
            low = random.random((1, 2)) * 40
            boxes = np.hstack([low, low + 8 + random.random((1, 2)) * 30]) + random.random(
                (random.integers(1, frames), 4)
            )
            return int(random.integers(0, 6)), (np.round(boxes / grid) * grid).tolist()
        start, boxes = near
        cut = random.integers(0, min(3, len(boxes)))
        moved = boxes[cut:] + 3 * random.standard_normal((1, 4)) + random.standard_normal((len(boxes) - cut, 4)) / 2
        return start + int(cut), (np.round(moved / grid) * grid).tolist()

    true: list[Any] = [(0, label, *tube()) for label in range(2)]
    guesses: list[Any] = []
    for video in range(videos):
        true += [(video, int(random.integers(0, 2)), *tube()) for _ in range(random.integers(0, truth + 1))]
        known = [row for row in true if row[0] == video]
        for _ in range(random.integers(0, predictions + 1)):
            near = known[random.integers(len(known))] if known and random.random() < 0.7 else None
            label = int(random.integers(0, 2)) if near is None or random.random() < 0.2 else near[1]
            start, boxes = tube(None if near is None else (near[2], np.array(near[3])))
            scores = np.float32(np.round(random.random(len(boxes) + 1), decimals)).astype(float).tolist()
            guesses.append((video, label, start, boxes, scores[0], scores[1:] if random.random() < 0.5 else None))
    true.sort(key=lambda row: row[0])
    return case(true, guesses, iou=iou, videos=videos)


# ---------------------------------------------------------------- side by side


def compare(peers: dict[str, Any], count: int) -> None:
    sys.path[:0] = [str(HERE.parents[2]), str(HERE.parents[1] / "pipeline/metrics")]
    from test_tubes import evaluate

    evaluate_as: Callable[..., dict[str, list[float]]] = evaluate
    shapes = {
        "all different": {"grid": 0.125, "decimals": 6},
        "boxes on a grid": {"grid": 8.0, "decimals": 6},
        "equal scores": {"grid": 0.125, "decimals": 1},
        "both": {"grid": 8.0, "decimals": 1},
    }
    for (name, shape), ties in itertools.product(shapes.items(), ("introsort", "installed")):
        for dtype in (np.float64, np.float32):
            largest = {"frame": 0.0, "video": 0.0}
            for seed in range(count):
                size = {"videos": 1 + seed % 9, "truth": 1 + seed % 4, "predictions": 1 + seed % 37}
                one = tubes(seed=1000 + seed, iou=(0.2, 0.5, 0.75)[seed % 3], frames=2 + seed % 60, **size, **shape)
                want = official(peers, one, is_introsort=ties == "introsort", dtype=dtype)
                got = evaluate_as(one, ties=ties)
                for metric in largest:
                    pairs = zip(want[metric], got[metric], strict=True)
                    largest[metric] = max([largest[metric], *(abs(a - b) for a, b in pairs)])
            print(f"{name}, {ties}, {dtype.__name__}: {count} sets, largest differences {largest}")


if __name__ == "__main__":
    main()
