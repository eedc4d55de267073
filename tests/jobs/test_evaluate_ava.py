"""`reelmill evaluate ava` gives the official code's numbers from files."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.evaluate_ava import main
from schemas.errors import UsageError

GOLDEN = json.loads((Path(__file__).resolve().parents[1] / "golden/metrics/ava.json").read_text())
LABELS = "".join(f'item {{\n  name: "class {i}"\n  id: {i}\n}}\n' for i in (1, 3, 4, 7, 12))


@pytest.fixture
def files(tmp_path: Path) -> Any:
    """Writes a golden case, or csv text, as the files that the options name."""

    def write(case: dict[str, Any]) -> dict[str, str]:
        texts = {"groundtruth": case["truth"], "predictions": case["predictions"], "labels": LABELS}
        if case.get("excluded") is not None:
            texts["exclude"] = case["excluded"]
        for name, text in texts.items():
            (tmp_path / name).write_text(text)
        return {name: str(tmp_path / name) for name in texts}

    return write


@pytest.mark.parametrize("name", [name for name, case in GOLDEN.items() if "class" in case["truth"] or case["map"]])
def test_files_give_the_official_numbers(files: Any, capsys: pytest.CaptureFixture[str], name: str) -> None:
    main(**files(GOLDEN[name]), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert {row["label"]: row["ap"] for row in found["classes"]} == pytest.approx(GOLDEN[name]["ap"], abs=1e-12)
    assert found["map"] == pytest.approx(GOLDEN[name]["map"], abs=1e-12)


def test_table_and_coverage(files: Any, capsys: pytest.CaptureFixture[str]) -> None:
    case = {
        "truth": "a,902,0,0,.5,1,1\na,903,0,0,.5,1,1\na,904\n",
        "predictions": "a,902,0,0,.5,1,1,.9\nb,902,0,0,.5,1,1,.8\na,902,0,0,.5,1,80,.7\na,902,.5,0,.5,1,1,.6\na,902\n",
    }
    main(**files(case))
    shown = capsys.readouterr()
    rows = [line.replace("│", " ").split() for line in shown.out.splitlines()]
    assert ["class", "1", "50.00", "2", "1"] in rows
    assert ["class", "3", "–", "0", "0"] in rows
    assert ["mean", "over", "1", "class", "with", "truth", "50.00", "2", "1"] in rows
    assert "coverage: 1 of 3 frames of the truth (33.3%) have predictions" in shown.out
    assert "predictions: 1 counted, 1 in frames that the truth does not have (ignored), 1 without area" in shown.out
    assert "predictions: 1 × unknown class (dropped)" in shown.err


def test_predictions_without_scores_are_said(files: Any, capsys: pytest.CaptureFixture[str]) -> None:
    main(**files({"truth": "a,902,0,0,.5,1,1\n", "predictions": "a,902,0,0,.5,1,1\n"}))
    assert "predictions: 1 × no score (kept): " in capsys.readouterr().err


def test_limit_of_a_frame(files: Any, capsys: pytest.CaptureFixture[str]) -> None:
    paths = files({"truth": "a,902,0,0,.5,1,1\n", "predictions": "a,902,0,0,1,1,1,.9\na,902,0,0,.5,1,1,.8\n"})
    found = []
    for limit in (1, 0):
        main(**paths, max_per_frame=limit, as_json=True)
        found.append(json.loads(capsys.readouterr().out))
    assert [one["coverage"]["beyond_cap"] for one in found] == [1, 0]


def test_mistakes_are_one_sentence(reelmill, files: Any, tmp_path: Path) -> None:
    paths = files({"truth": "a,902,0,0,.5,1,99\n", "predictions": ""})
    with pytest.raises(UsageError, match=r"groundtruth: no box with an action of \S+labels in this file"):
        main(**paths)
    paths = files({"truth": "a,902,.6,0,.5,1,1\n", "predictions": "a,902,0,0,1,1,1,.9\n"})
    with pytest.raises(UsageError, match="groundtruth: the truth's box in row 0 is inverted"):
        main(**paths)
    with pytest.raises(UsageError, match="refused"):
        main(**{**paths, "predictions": str(tmp_path / "results.pkl")})
    paths = files({"truth": "a,902,0,0,.5,1,1\n", "predictions": '{"results": {}}'})
    with pytest.raises(
        UsageError, match=r"predictions: none of its 1 predictions can be used; malformed row: line 1: .* want 7"
    ):
        main(**paths)
    paths = files({"truth": "a,902,0,0,.5,1,1\n", "predictions": "", "excluded": "a,902,0,0,.5,1,1,.9\n"})
    with pytest.raises(
        UsageError, match=r"exclude: none of its 1 lines can be used; malformed row: line 1: .* want video,s"
    ):
        main(**paths)
    del paths["exclude"]
    words = ["ava", *(word for name, path in paths.items() for word in (f"--{name}", path)), "--exclude", "nowhere.csv"]
    done = reelmill("evaluate", *words)
    assert done.returncode == 2
    assert "nowhere.csv" in done.stderr
