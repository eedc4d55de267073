import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.store import Store
from pipeline.units import manifest_source, read_manifest

ROOT = Path(__file__).resolve().parents[2]
HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"


@pytest.fixture
def videos(tmp_path) -> Path:
    for name in ("run/a.mp4", "run/b.mp4", "jump/a.mp4", "notes.txt"):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "videos"


def test_a_config_as_a_process(videos, tmp_path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"dataset: {tmp_path / 'out'}\nsource: {{kind: directory, videos: {videos}}}\n")
    command = [sys.executable, "-m", "jobs.index", str(config)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"next: reelmill run {config}" in done.stdout
    assert read_manifest(Store(str(tmp_path / "out"))).num_rows == 3


def test_flags_and_json(reelmill, videos, tmp_path) -> None:
    done = reelmill("index", "--kind", "directory", "--videos", videos, "--dataset", tmp_path / "out", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "dataset": str(tmp_path / "out"),
        "manifest": str(tmp_path / "out" / "manifest.parquet"),
        "rows": 3,
        "labels": 2,
        "splits": {"none": 3},
        "issues": {},
        "issues_file": str(tmp_path / "out" / "_manifest_issues.csv"),
        "ignored_files": 1,
        "unused_rows": 0,
    }


def test_the_next_step_it_prints_is_the_config_that_it_used(reelmill, videos, tmp_path) -> None:
    done = reelmill(
        "index", "--kind", "directory", "--videos", videos, "--dataset", tmp_path / "out", "--labels", "none"
    )
    source = done.stdout.split("`source: ")[1].split("` in a config")[0]
    before = manifest_source(Store(str(tmp_path / "out")))
    config = tmp_path / "config.yaml"
    config.write_text(f"dataset: {tmp_path / 'out'}\nsource: {source}\n")
    assert reelmill("index", config).returncode == 0
    assert manifest_source(Store(str(tmp_path / "out"))) == before


def test_issues_are_shown_three_of_a_kind(reelmill, videos, tmp_path) -> None:
    rows = [f"[bold]odd,gone{n},1,11,train,0\n" for n in range(5)] + ["run,a,1,11,train,0\n", "short\n"]
    (tmp_path / "k.csv").write_text(HEADER + "".join(rows))
    (videos / "a_000001_000011.mp4").write_bytes(b"x")
    done = reelmill(
        *(
            "index",
            "--kind",
            "kinetics",
            "--csv",
            tmp_path / "k.csv",
            "--videos",
            videos,
            "--dataset",
            tmp_path / "out",
        ),
    )
    assert done.returncode == 0
    shown = [line for line in done.stdout.splitlines() if "  row without file (line" in line]
    assert [line.split(":")[0:2] for line in shown] == [
        [f"  row without file (line {line})", f" gone{line - 2}_000001_000011"] for line in (2, 3, 4)
    ]
    assert "  … and 2 more" in done.stdout
    assert "  malformed row (line 8): short: 1 fields where the header has 6" in done.stdout
    assert f"the full list: {tmp_path / 'out' / '_manifest_issues.csv'}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a config.yaml, or --kind and --dataset"),
        (["--kind", "directory", "--dataset", "OUT"], "--kind directory needs --videos"),
        (["--kind", "kinetics", "--videos", "V", "--dataset", "OUT", "--fold", "2"], "does not take --fold"),
        (["--kind", "activitynet", "--videos", "V", "--dataset", "OUT"], "--kind activitynet needs --annotations"),
        (["--kind", "film", "--dataset", "OUT"], "--kind film: there is no such kind"),
        (["--kind", "ucf101", "--videos", "V", "--splits", "S", "--fold", "4", "--dataset", "OUT"], "--fold 4: input"),
        (
            ["--kind", "directory", "--videos", "/no/such/folder", "--dataset", "OUT"],
            "can't list this folder of videos",
        ),
        (["none.yaml"], "none.yaml: no such config file"),
        (["none.yaml", "--fold", "1"], "give none.yaml or flags, not both"),
    ],
)
def test_bad_usage_is_status_2_and_writes_nothing(reelmill, tmp_path, arguments, message) -> None:
    done = reelmill("index", *(str(tmp_path / "out") if word == "OUT" else word for word in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_empty_manifest_is_status_1(reelmill, tmp_path) -> None:
    (tmp_path / "videos").mkdir()
    done = reelmill("index", "--kind", "directory", "--videos", tmp_path / "videos", "--dataset", tmp_path / "out")
    assert done.returncode == 1
    assert "gives no row, so no manifest was written (there is nothing)" in done.stderr


def test_the_annotations_of_thumos14_are_a_folder(reelmill, videos, tmp_path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "Diving_test.txt").write_text("b 1 2\n")
    flags = ("--kind", "thumos14", "--videos", videos, "--dataset", tmp_path / "out")
    done = reelmill("index", *flags, "--annotations", tmp_path / "lists", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["splits"] == {"test": 1}
    missing = reelmill("index", *flags)
    assert (missing.returncode, missing.stderr.strip()) == (2, "reelmill: --kind thumos14 needs --annotations")
