"""Writes temporal.npz and thumos.npz: what the official code says of the cases of temporal_cases.py.

    DIR/venv/bin/python tests/golden/metrics/make_temporal.py --peers DIR

DIR holds checkouts named ActivityNet (github activitynet/ActivityNet, commit 82304fa) and scnn (zhengshou/scnn, commit
ee05621, which carries the kit's TH14evalDet_Updated.m); Python 3.10 has numpy 1.23.5, pandas 1.5.3 and joblib; octave
(7.3 was used) is on the path.

ActivityNet's code is Python 2: lib2to3 translates it, and the blocked videos are not asked for. Its answers are there
twice: as it is, which with this numpy is introsort's order of ties on every machine ("introsort"), and with its calls
of argsort asking for a stable sort ("last"). The MATLAB code runs unchanged; Octave has no textread and is given one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import types
import warnings
from lib2to3.refactor import RefactoringTool, get_fixers_from_package
from pathlib import Path

import numpy as np
from temporal_cases import Case, hand_made, names, random_case, random_cases

HERE = Path(__file__).parent
TIOUS = {"activitynet": np.linspace(0.5, 0.95, 10), "thumos": np.array([0.1, 0.3, 0.5, 0.7])}
TEXTREAD = """function varargout = textread(name, format)
  words = strsplit(strtrim(fileread(name)));
  if isempty(words{1}), words = {}; end
  kinds = format(2:2:end);
  for k = 1:length(kinds)
    column = words(k:length(kinds):end)';
    if kinds(k) ~= 's', column = str2double(column); end
    varargout{k} = column;
  end
end
"""


def translated(folder: Path, name: str, *, stable: bool) -> types.ModuleType:
    """A module of the official code in Python 3, importable under its own name until the next one."""
    tool = RefactoringTool(get_fixers_from_package("lib2to3.fixes"))
    source = str(tool.refactor_string((folder / f"{name}.py").read_text() + "\n", name))
    if stable:
        source = source.replace(".argsort()", ".argsort(kind='stable')")
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, name, "exec"), module.__dict__)
    return module


def as_json(case: Case, folder: Path) -> tuple[str, str]:
    """The case in the benchmark's two files, videos in the order in which the columns name them first."""
    videos, classes = names(100, "video"), names(10, "class")
    database: dict[str, dict] = {}
    for video, label, start, end in case["truth"]:
        entry = database.setdefault(videos[int(video)], {"subset": "validation", "annotations": []})
        entry["annotations"].append({"segment": [start, end], "label": classes[int(label)]})
    results: dict[str, list] = {}
    for video, label, start, end, score in case["predictions"]:
        found = {"segment": [start, end], "label": classes[int(label)], "score": score}
        results.setdefault(videos[int(video)], []).append(found)
    paths = folder / "truth.json", folder / "predictions.json"
    paths[0].write_text(json.dumps({"database": database, "taxonomy": [], "version": ""}))
    paths[1].write_text(json.dumps({"results": results, "version": "", "external_data": {}}))
    return str(paths[0]), str(paths[1])


def grouped(case: Case) -> Case:
    """The rows video by video, in the order in which the videos come first, as the json holds them."""

    def by_video(rows: np.ndarray) -> np.ndarray:
        order = {video: index for index, video in enumerate(dict.fromkeys(rows[:, 0]))}
        return rows[np.argsort([order[video] for video in rows[:, 0]], kind="stable")]

    return {name: by_video(rows) for name, rows in case.items()}


def activitynet(peers: Path) -> dict[str, np.ndarray]:
    answers: dict[str, np.ndarray] = {}
    cases = {**random_cases(), **hand_made()}
    cases["more_than_sixteen_truths"] = random_case(12, videos=1, classes=1, truths=40, decimals=0, score_decimals=1)
    for name, case in ((name, grouped(case)) for name, case in cases.items()):
        answers |= {f"{name}/{column}": rows for column, rows in case.items()}
        for ties in ("introsort", "last"):
            folder = peers / "ActivityNet/Evaluation"
            translated(folder, "utils", stable=ties == "last")
            detection = translated(folder, "eval_detection", stable=ties == "last")
            proposal = translated(folder, "eval_proposal", stable=ties == "last")
            detection.Parallel = lambda n_jobs: lambda calls: [run(*args, **kwargs) for run, args, kwargs in calls]
            with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                paths = as_json(case, Path(scratch))
                found = detection.ANETdetection(*paths, check_status=False, tiou_thresholds=TIOUS["activitynet"])
                found.evaluate()
                answers[f"{name}/{ties}/ap"] = found.ap
                answers[f"{name}/{ties}/average_map"] = np.array(found.average_mAP)
                for most in (100, None, 3):
                    proposed = proposal.ANETproposal(*paths, check_status=False, max_avg_nr_proposals=most)
                    proposed.evaluate()
                    answers[f"{name}/{ties}/recall_{most}"] = proposed.recall
                    answers[f"{name}/{ties}/per_video_{most}"] = proposed.proposals_per_video
        answers[f"{name}/classes"] = np.array(list(found.activity_index))
    return answers


def octave(case: Case, eval_folder: Path) -> np.ndarray:
    """(T, C) AP by TH14evalDet_Updated.m."""
    videos = names(100, "video")
    num_classes = int(case["truth"][:, 1].max()) + 1
    labels = names(num_classes, "class")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "textread.m").write_text(TEXTREAD)
        (folder / "detclasslist.txt").write_text("".join(f"{i + 1} {name}\n" for i, name in enumerate(labels)))
        for index, label in [*enumerate(labels), (-1, "Ambiguous")]:
            rows = case["truth"][case["truth"][:, 1] == index]
            lines = [f"{videos[int(video)]} {start!r} {end!r}\n" for video, _, start, end in rows.tolist()]
            (folder / f"{label}_test.txt").write_text("".join(lines))
        (folder / "found.txt").write_text(
            "".join(
                f"{videos[int(video)]} {start!r} {end!r} {int(label) + 1} {score!r}\n"
                for video, label, start, end, score in case["predictions"].tolist()
            )
        )
        calls = [f"addpath('{eval_folder}'); addpath('{folder}'); warning('off', 'all');"]
        for tiou in TIOUS["thumos"]:
            calls.append(f"[p, ap] = TH14evalDet_Updated('{folder}/found.txt', '{folder}', 'test', {tiou!r});")
            calls.append("printf('=%.17g', ap); printf('=\\n');")
        done = subprocess.run(
            ["octave-cli", "--no-gui", "--quiet", "--eval", "\n".join(calls)],
            capture_output=True,
            text=True,
            check=True,
        )
    rows = [line.strip("=").split("=") for line in done.stdout.splitlines() if line.startswith("=")]
    return np.array(rows, float)


def thumos(peers: Path) -> dict[str, np.ndarray]:
    answers: dict[str, np.ndarray] = {}
    cases = {**random_cases(ambiguous=8), **hand_made()}
    truth = [[0, 0, 10, 20], [0, 1, 0, 5], [0, -1, 18, 30], [1, -1, 0, 5], [1, 0, 4, 8]]
    found = [[0, 0, 10, 20, 0.9], [0, 0, 12, 19, 0.8], [0, 0, 25, 28, 0.7], [0, 0, 30, 40, 0.6], [0, 1, 0, 5, 0.5]]
    found += [[1, 0, 5, 9, 0.95], [1, 0, 3, 7, 0.3], [1, 1, 4, 6, 0.2]]
    cases["hand_made_ambiguous"] = {"truth": np.array(truth, float), "predictions": np.array(found, float)}
    for name, case in cases.items():
        answers |= {f"{name}/{column}": rows for column, rows in case.items()}
        answers[f"{name}/ap"] = octave(case, peers / "scnn/experiments/THUMOS14/eval")
        print(name, answers[f"{name}/ap"].mean(axis=1))
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True)
    peers = parser.parse_args().peers.resolve()
    if tuple(map(int, np.__version__.split(".")[:2])) >= (1, 24):
        sys.exit(f"numpy {np.__version__} has no np.float and, from 1.25 on, another order of ties: use 1.23.5")
    np.savez_compressed(HERE / "temporal.npz", tious=TIOUS["activitynet"], **activitynet(peers))
    np.savez_compressed(HERE / "thumos.npz", tious=TIOUS["thumos"], **thumos(peers))


if __name__ == "__main__":
    main()
