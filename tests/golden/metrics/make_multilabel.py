"""Writes multilabel.npz (made-up inputs) and multilabel.json: what the benchmarks' own code says of them.

    git clone https://github.com/open-mmlab/mmaction2 DIR/mmaction2                              # 4d6c93474730
    git clone https://github.com/piergiaj/super-events-cvpr18 DIR/super-events-cvpr18            # 50282dc55364
    git clone https://github.com/gsig/charades-algorithms DIR/gsig                               # 927794cd04c5
    git clone https://github.com/PJunhyuk/charades-algorithms DIR/charades-algorithms            # has the official *.m
    apt-get install octave; pip install scikit-learn==1.7.2 torch==2.13.0 numpy==2.4.6
    python tests/golden/metrics/make_multilabel.py --peers DIR

The *.m files are those of vuchallenge.org/vu17_charades.zip. They are run as they are, in GNU Octave 7.3, with a
textread of our own, because Octave's can't read the rest of a line. apmeter.py and map.py sort in an order that torch
and numpy do not promise for equal scores: apmeter.py gets a stable torch.sort here, and map.py is asked only where no
scores are equal.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score

HERE = Path(__file__).resolve().parent
CHARADES_CLASSES = 157
TEXTREAD = r"""
function varargout = textread(name, format)
  rest = strsplit(strtrim(fileread(name)), "\n")';
  for column = 1:nargout - 1
    [varargout{column}, rest] = strtok(rest);
  end
  varargout{nargout} = strtrim(rest);
  if nargout == 3
    varargout{2} = cellfun(@str2num, varargout{2});
  end
end
"""

Arrays = dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="folder of the checkouts")
    peers = parser.parse_args().peers
    inputs, answers = Arrays(), {}
    for name, (scores, targets) in matrices().items():
        inputs |= {f"{name}/scores": scores, f"{name}/targets": targets}
        answers[name] = by_python(peers, scores, targets)
    for name, case in charades_cases().items():
        inputs |= {f"{name}/{key}": value for key, value in case.items()}
        answers[name] = by_octave(peers, case)
    np.savez_compressed(HERE / "multilabel.npz", **inputs)
    text = json.dumps(plain(answers), indent=1, allow_nan=False)
    (HERE / "multilabel.json").write_text(re.sub(r",\n\s+(?=[\d-]|null)", ", ", text) + "\n")


def plain(value: Any) -> Any:
    """The value for JSON, which has no nan: null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, np.ndarray)):
        return [plain(item) for item in value]
    return None if math.isnan(value) else float(value)


# ---------------------------------------------------------------- scores and targets, rows by classes


def matrices() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    generator = np.random.default_rng(11)
    scores = generator.random((60, 6)).astype(np.float32)
    targets = (generator.random((60, 6)) < [0.5, 0.2, 0.05, 0.9, 0.3, 0.3]).astype(np.uint8)
    targets[0] = 1
    coarse = np.round(scores, 1)
    empty, full, unlabelled = targets.copy(), targets.copy(), targets.copy()
    empty[:, [0, 4]] = 0
    full[:, 2] = 1
    unlabelled[20:40] = 0
    return {
        "random": (scores, targets),
        "ties": (coarse, targets),
        "all_equal": (np.full_like(scores, 0.5), targets),
        "empty_classes": (coarse, empty),
        "full_class": (coarse, full),
        "unlabelled_rows": (scores, unlabelled),
        "right": (targets.astype(np.float32), targets),
        "wrong": (1 - targets.astype(np.float32), targets),
        "one_row": (scores[:1], targets[:1]),
        "nothing": (scores[:5], np.zeros((5, 6), np.uint8)),
        "negative_scores": (coarse - 0.7, targets),
    }


def by_python(peers: Path, scores: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    warnings.simplefilter("ignore")  # of classes without rows
    mmaction2 = load(peers / "mmaction2/mmaction/evaluation/functional/accuracy.py")
    precisions = {"average": None, "macro": "macro", "weighted": "weighted"}
    sklearn = {key: average_precision_score(targets, scores, average=average) for key, average in precisions.items()}
    answers = {
        "mmaction2": mmaction2.mean_average_precision(list(scores), list(targets)),
        "sklearn": {"per_class": sklearn["average"], "mean": sklearn["macro"], "weighted": sklearn["weighted"]},
        "multithumos": by_apmeter(peers / "super-events-cvpr18", scores, targets),
    }
    if all(len(np.unique(column)) == len(column) for column in scores.T):
        answers["gsig"] = by_gsig(peers / "gsig", scores, targets)
    return answers


def by_apmeter(folder: Path, scores: np.ndarray, targets: np.ndarray) -> list[float]:
    sys.path.insert(0, str(folder))  # apmeter.py imports meter.py
    torch.sort = stable_sort  # type: ignore[assignment]
    meter = load(folder / "apmeter.py").APMeter()
    for part in np.array_split(np.arange(len(scores)), 3):  # in batches, as it is used
        if len(part):
            meter.add(scores[part], targets[part].astype(np.int64))
    values: list[float] = meter.value().tolist()
    return values


def stable_sort(values: torch.Tensor, dim: int, descending: bool) -> Any:
    return torch.ops.aten.sort.stable(values, stable=True, dim=dim, descending=descending)


def by_gsig(folder: Path, scores: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    np.NINF = -np.inf  # type: ignore[attr-defined]  # which numpy 2 has no more
    module = load(next(folder.rglob("map.py")))
    per_class = module.map(scores, targets)[2]
    return {"localize": per_class, "classify": module.charades_map(scores, targets)[2]}


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---------------------------------------------------------------- Charades: files for the official scripts


def charades_cases() -> dict[str, Arrays]:
    """Scores are twentieths: few values, many ties. `predicted`: False where a video or instant has no line."""
    cases = {}
    for name, videos, actions, task in (
        ("charades_classify", 30, 240, "classify"),
        ("charades_classify_nan", 20, 30, "classify"),
        ("charades_localize", 12, 240, "localize"),
        ("charades_localize_nan", 4, 20, "localize"),
    ):
        generator = np.random.default_rng(len(name))
        length_s = generator.integers(20, 400, size=videos) / 10
        video = generator.integers(0, videos - 1, size=actions)  # the last has none
        video[video == 2] = 3  # nor has the third
        start_s = np.floor(generator.random(actions) * length_s[video] * 5) / 10  # in the first half
        end_s = np.minimum(start_s + generator.integers(0, 200, size=actions) / 10, length_s[video])
        start_s[:CHARADES_CLASSES:2] = 0.0  # and some from the first instant on, so that each class has a row
        end_s[7], start_s[9] = start_s[7], 0.04 * length_s[video[9]]  # no length; from the very second instant on
        rows = videos if task == "classify" else videos * 25
        predicted = np.ones(rows, dtype=bool)
        predicted[[1, rows // 2]] = False
        cases[name] = {
            "length_s": length_s,
            "video": video,
            "start_s": start_s,
            "end_s": end_s,
            "label": np.arange(actions) % CHARADES_CLASSES,
            "twentieths": generator.integers(0, 21, size=(rows, CHARADES_CLASSES)).astype(np.uint8),
            "predicted": predicted,
        }
    return cases


def by_octave(peers: Path, case: Arrays) -> dict[str, Any]:
    num_videos, num_rows = len(case["length_s"]), len(case["predicted"])
    task = "classify" if num_rows == num_videos else "localize"
    with tempfile.TemporaryDirectory() as folder:
        truth, submission = Path(folder, "truth.csv"), Path(folder, "submission.txt")
        truth.write_text(truth_csv(case))
        submission.write_text(submission_txt(case, per_video=num_rows // num_videos))
        Path(folder, "textread.m").write_text(TEXTREAD)
        code = (
            f"addpath('{(peers / 'charades-algorithms').resolve()}', '{folder}');"
            f"[r,p,ap,m]=Charades_v1_{task}('{submission}','{truth}');"
            "printf('AP %.17g\\n',ap);printf('MEAN %.17g\\n',m);"
        )
        run = subprocess.run(["octave-cli", "--quiet", "--eval", code], capture_output=True, text=True, check=False)
    numbers = {key: re.findall(rf"^{key} (\S+)$", run.stdout, re.MULTILINE) for key in ("AP", "MEAN")}
    weighted = re.search(r"WAP: (\S+) ", run.stdout)
    assert weighted, run.stdout + run.stderr
    assert len(numbers["AP"]) == CHARADES_CLASSES
    return {
        "per_class": [float(ap) for ap in numbers["AP"]],
        "mean": float(numbers["MEAN"][0]),
        "weighted": float(weighted[1]),  # printed with six decimals
    }


def truth_csv(case: Arrays) -> str:
    lines = ["id,subject,length,actions"]
    for index, length_s in enumerate(case["length_s"]):
        mine = np.flatnonzero(case["video"] == index)
        columns = zip(*(case[key][mine].tolist() for key in ("label", "start_s", "end_s")), strict=True)
        actions = ";".join(f"c{label:03d} {start_s!r} {end_s!r}" for label, start_s, end_s in columns)
        lines.append(f'V{index:04d},X,{length_s},"{actions}"')
    return "\n".join(lines) + "\n"


def submission_txt(case: Arrays, *, per_video: int) -> str:
    lines = []
    for row in np.flatnonzero(case["predicted"]):
        frame = "" if per_video == 1 else f" {row % per_video + 1}"
        scores = " ".join(repr(q / 20) for q in case["twentieths"][row].tolist())
        lines.append(f"V{row // per_video:04d}{frame} {scores}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
