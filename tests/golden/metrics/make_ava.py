"""Golden numbers of AVA's frame-mAP, from the code of activitynet/ActivityNet.

    git clone https://github.com/activitynet/ActivityNet DIR/ActivityNet                          # 82304fa
    git -C DIR/ActivityNet worktree add ../ActivityNet-2020 c070fdb^      # the last that took excluded frames
    python make_ava.py --peers DIR                  # writes ava.json
    python make_ava.py --peers DIR --compare 300    # random tables, large and small: the largest differences

Its code runs as it is, and is given back what it had in the numpy of its time (it stops with 1.24): np.float, np.NAN,
and an argsort that is numpy's introsort on any processor. Tables are csv text, as it reads them.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import itertools
import json
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
IDS = (1, 3, 4, 7, 12)  # those of the label list; truth and predictions have others too
OTHER_IDS = (2, 80)
HEAD, OLD = "ActivityNet", "ActivityNet-2020"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="folder that holds ActivityNet and ActivityNet-2020")
    parser.add_argument("--compare", type=int, metavar="N", help="compare this project with it on N random tables")
    args = parser.parse_args()
    np.float, np.NAN = float, np.nan  # type: ignore[attr-defined]
    scripts = {name: load(args.peers / name / "Evaluation") for name in (HEAD, OLD)}
    if args.compare:
        compare(scripts, args.compare)
        return
    cases = {name: {**case, **official(scripts, case)} for name, case in {**by_hand(), **at_random()}.items()}
    (HERE / "ava.json").write_text(json.dumps(cases, indent=1) + "\n")


def load(folder: Path) -> ModuleType:
    sys.path[:0] = [str(folder), str(folder / "ava")]
    spec = importlib.util.spec_from_file_location(folder.parent.name, folder / "get_ava_performance.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def official(scripts: dict[str, ModuleType], case: dict[str, Any], *, is_introsort: bool = True) -> dict[str, Any]:
    """{"ap": {class: AP or null}, "map": …} of a case."""
    metrics = sys.modules["ava.object_detection_evaluation"].metrics  # type: ignore[attr-defined]
    metrics.np = OldNumpy() if is_introsort else np
    seen: list[dict[str, float]] = []
    files = [named(label_list()), named(case["truth"]), named(case["predictions"])]
    is_old = case["excluded"] is not None
    script = scripts[OLD if is_old else HEAD]
    script.pprint = SimpleNamespace(pformat=lambda *_, **__: "", pprint=lambda found, indent: seen.append(found))  # type: ignore[attr-defined]
    with np.errstate(all="ignore"):
        script.run_evaluation(*files, *([named(case["excluded"])] if is_old else []))
    numbers = {key.removeprefix("PascalBoxes_"): float(value) for key, value in seen[0].items()}
    ap = {key.rsplit("/", 1)[1]: none_if_nan(value) for key, value in numbers.items() if "ByCategory" in key}
    return {"ap": ap, "map": none_if_nan(numbers["Precision/mAP@0.5IOU"])}


class OldNumpy:
    """numpy with the sort that it had before 1.25: it has no other for long doubles."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def argsort(self, values: np.ndarray) -> np.ndarray:
        return np.argsort(values.astype(np.longdouble))


def named(text: str) -> io.StringIO:
    file = io.StringIO(text)
    file.name = "table"  # it prints it
    return file


def none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value


def label_list() -> str:
    return "".join(f'item {{\n  name: "class {i}"\n  id: {i}\n}}\n' for i in IDS)


# ---------------------------------------------------------------- cases


def case(truth: list[Any], predictions: list[Any], excluded: list[Any] | None = None) -> dict[str, Any]:
    tables = {"truth": csv(truth), "predictions": csv(predictions)}
    return {**tables, "excluded": None if excluded is None else csv(excluded)}


def csv(rows: list[Any]) -> str:
    return "".join(",".join(str(cell) for cell in row) + "\n" for row in rows)


def by_hand() -> dict[str, dict[str, Any]]:
    left, right, wide = (0.0, 0.0, 0.4, 0.8), (0.5, 0.0, 0.9, 0.8), (0.0, 0.0, 0.8, 0.8)
    two = [("a", 902, *left, 1), ("a", 902, *right, 1), ("a", 903, *left, 3)]
    return {
        "no predictions": case(two, []),
        "no truth": case([], [("a", 902, *left, 1, 0.5)]),
        "a class without truth": case(two, [("a", 902, *left, 4, 0.9), ("a", 902, *left, 1, 0.8)]),
        "other classes": case([*two, ("a", 902, *left, 80)], [("a", 902, *left, 80, 0.9), ("a", 902, *left, 1, 0.8)]),
        "a frame with truth of another class only": case(
            [*two, ("b", 902, *left, 80)], [("b", 902, *left, 1, 0.9), ("a", 902, *left, 1, 0.8)]
        ),
        "a frame without boxes, and one that is not there": case(
            [*two, ("b", 902)],
            [("b", 902, *left, 1, 0.9), ("c", 902, *left, 1, 0.95), ("a", 902, *left, 1, 0.8)],
        ),
        "duplicates": case(two, [("a", 902, *left, 1, s) for s in (0.9, 0.8, 0.7)] + [("a", 902, *right, 1, 0.6)]),
        "the same truth twice": case([two[0], two[0]], [("a", 902, *left, 1, 0.9), ("a", 902, *left, 1, 0.8)]),
        "the second largest IoU would do": case(
            [("a", 902, 0.0, 0.0, 0.4, 0.8, 1), ("a", 902, 0.0, 0.0, 0.5, 0.8, 1)],
            [("a", 902, 0.0, 0.0, 0.41, 0.8, 1, 0.9), ("a", 902, 0.0, 0.0, 0.42, 0.8, 1, 0.8)],
        ),
        "boxes that touch": case(two[:1], [("a", 902, 0.4, 0.0, 0.8, 0.8, 1, 0.9), ("a", 902, 0, 0.8, 0.4, 1, 1, 0.8)]),
        "IoU of exactly a half": case(
            [("a", 902, 0, 0, 0.5, 1, 1), ("b", 902, 0, 0, 0.5, 1, 1)],
            [("a", 902, 0, 0, 1, 1, 1, 0.9), ("b", 902, 0, 0, 1.001, 1, 1, 0.8)],
        ),
        "boxes without area": case(
            [*two, ("a", 904, 0.3, 0.3, 0.3, 0.6, 3)],
            [("a", 902, 0.4, 0.0, 0.0, 0.8, 1, 0.9), ("a", 902, 0.1, 0.1, 0.1, 0.5, 1, 0.8), ("a", 904, *wide, 3, 0.7)],
        ),
        "between two truths": case(two, [("a", 902, *wide, 1, 0.9), ("a", 902, *wide, 1, 0.8)]),
        "equally far from two persons": case(
            [("a", 902, 0.0, 0, 0.5, 1, 1, 7), ("a", 902, 0.25, 0, 0.75, 1, 1, 9)],
            [("a", 902, 0.125, 0, 0.625, 1, 1, 0.9), ("a", 902, 0.0, 0, 0.5, 1, 1, 0.8)],
        ),
        "equal scores": case(
            two,
            [("a", 902, *left, 1, 0.5), *[("a", 903, *left, 1, 0.5)] * 9, ("a", 902, *right, 1, 0.5)],
        ),
        "seconds with fractions": case(
            [("a", "0902.5", *left, 1), ("a", "0902", *right, 1)],
            [("a", 902.5, *left, 1, 0.9), ("a", "902.0000001", *right, 1, 0.8), ("a", 902.4, *left, 1, 0.95)],
        ),
        "no scores": case(two, [("a", 902, *left, 1)]),
        "excluded frames": case(
            [*two, ("b", 902, *left, 1)],
            [("b", 902, *left, 1, 0.9), ("c", 902, *left, 1, 0.95), ("a", 902, *left, 1, 0.8)],
            [("b", 902), ("d", 1)],
        ),
        "nothing excluded": case(two, [("c", 902, *left, 1, 0.95), ("a", 902, *left, 1, 0.8)], []),
    }


def at_random() -> dict[str, dict[str, Any]]:
    return {
        "random": table(seed=1, frames=24, boxes=4, predictions=16),
        "random, more than fifty a frame": table(seed=2, frames=3, boxes=5, predictions=90),
        "random, on a grid": table(seed=3, frames=12, boxes=4, predictions=12, grid=0.25),
        "random, fifty among equal scores": table(seed=4, frames=2, boxes=4, predictions=80, grid=0.25, decimals=1),
        "random, excluded": table(seed=5, frames=12, boxes=3, predictions=9, excluded=3),
    }


def table(
    *, seed: int, frames: int, boxes: int, predictions: int, grid: float = 0.0, decimals: int = 6, excluded: int = 0
) -> dict[str, Any]:
    """Random persons, and predictions that lie near them or anywhere; boxes on a grid have many equal IoUs."""
    random = np.random.default_rng(seed)

    def box(near: np.ndarray | None = None) -> np.ndarray:
        corners = random.random(4) if near is None else near + 0.03 * random.standard_normal(4)
        corners = np.round(corners / grid) * grid if grid else np.round(corners, 4)
        if random.random() < 0.95:
            corners = np.concatenate([np.minimum(corners[:2], corners[2:]), np.maximum(corners[:2], corners[2:])])
        return corners

    truth: list[Any] = []
    guesses: list[Any] = []
    ids = [*IDS[:4], *OTHER_IDS]  # the last of IDS has no truth
    for frame in range(frames):
        where = (f"v{frame % 3}", 902 + frame // 3)
        known = [np.sort(box().reshape(2, 2), axis=0).ravel() for _ in range(random.integers(0, boxes + 1))]
        classes = random.choice(ids, len(known))
        if not known and not excluded and random.random() < 0.7:  # a row that the older code does not take
            truth.append(where)
        for corners, label in zip(known, classes, strict=True):
            person = (int(random.integers(0, 3)),) if random.random() < 0.5 else ()
            truth.append((*where, *corners, label, *person))
        for _ in range(random.integers(0, predictions + 1)):
            chosen = random.integers(len(known)) if known and random.random() < 0.7 else None
            near = None if chosen is None else known[chosen]
            label = random.choice([*ids, IDS[4]]) if chosen is None or random.random() < 0.3 else classes[chosen]
            guesses.append((*where, *box(near), label, np.round(random.random(), decimals)))
    guesses.append(("nowhere", 902, 0.1, 0.1, 0.9, 0.9, IDS[0], 0.5))
    order = random.permutation(len(guesses))
    out = [(f"v{random.integers(3)}", 902 + int(random.integers(frames // 3 + 1))) for _ in range(excluded)]
    return case(truth, [guesses[i] for i in order], out if excluded else None)


# ---------------------------------------------------------------- side by side


def compare(scripts: dict[str, ModuleType], count: int) -> None:
    sys.path.insert(0, str(HERE.parents[2]))
    sys.path.insert(0, str(HERE.parents[1] / "pipeline/metrics"))
    from test_ava import evaluate

    shapes = {
        "all different": {"grid": 0.0, "decimals": 6},
        "boxes on a grid": {"grid": 0.25, "decimals": 6},
        "equal scores": {"grid": 0.0, "decimals": 1},
        "both": {"grid": 0.25, "decimals": 1},
    }
    for (name, shape), ties in itertools.product(shapes.items(), ("introsort", "installed")):
        largest, numbers = 0.0, 0
        for seed in range(count):
            size = {"frames": 1 + seed % 40, "boxes": 1 + seed % 6, "predictions": 1 + seed % 97}
            one = table(seed=1000 + seed, excluded=seed % 3, **size, **shape)
            want, got = official(scripts, one, is_introsort=ties == "introsort"), evaluate(one, ties=ties)
            pairs = [*((want["ap"][key], got["ap"][key]) for key in want["ap"]), (want["map"], got["map"])]
            assert set(want["ap"]) == set(got["ap"])
            assert all((a is None) == (b is None) for a, b in pairs), one
            differences = [abs(a - b) for a, b in pairs if a is not None]
            numbers += len(differences)
            largest = max([largest, *differences])
        print(f"{name}, {ties}: {count} tables, {numbers} numbers, largest difference {largest:g}")


if __name__ == "__main__":
    main()
