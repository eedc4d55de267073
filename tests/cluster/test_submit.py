"""`reelmill submit` on a real head: followed, attached to, stopped, and resumed after its head was killed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import heed_ctrl_c, wait_until
from ray_head import TOKEN, RealHead, shell
from trees import tree

from jobs.submit import job_name
from pipeline.config import load_config
from pipeline.synth import SynthSpec, make_dataset

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
VIDEOS = 8


@pytest.fixture(scope="module")
def head() -> Iterator[RealHead]:
    started = RealHead()
    try:
        yield started
    finally:
        started.kill()
        shutil.rmtree(started.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    make_dataset(folder, SynthSpec(num_classes=2, videos_per_class=VIDEOS // 2, duration_s=2.0))
    return folder / "trimmed"


def write_config(folder: Path, videos: Path, *, more: str = "") -> Path:
    """A config in a folder of its own, with a list that only this machine's folder has."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(videos / "kinetics.csv", folder / "list.csv")
    path = folder / "mine.yaml"
    path.write_text(
        f"dataset: {folder}/out\nsource: {{kind: kinetics, csv: list.csv, videos: {videos}/videos}}\n"
        "units: {videos_per_unit: 1}\nclips:\n  c: {frames: 8, fps: 8, resize: [48, 64]}\n"
        f"flow:\n  f: {{clips: c, encoding: png, backend: opencv}}\n{more}"
    )
    return path


def start(head: RealHead, config: Path, *options: str, code: Path = ROOT, **env: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "jobs.submit", config.name, "--address", head.address, *options]
    return subprocess.Popen(
        command,
        cwd=config.parent,
        env=shell(PYTHONPATH=str(code), **env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=400)
    return process.returncode, out, err


def receipts_of(config: Path) -> int:
    return len(list(config.parent.glob("out/*/*/_receipts/*.json")))


@pytest.fixture(scope="module")
def undisturbed(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    config = write_config(tmp_path_factory.mktemp("home"), videos)
    command = [sys.executable, "-m", "jobs.run", config.name]
    ended = subprocess.run(command, cwd=config.parent, env=shell(PYTHONPATH=str(ROOT)), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return tree(config.parent / "out")


@pytest.fixture(scope="module")
def other_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our packages in another place, of which each process that makes clips leaves word of where it has them from."""
    folder = tmp_path_factory.mktemp("code")
    for package in ("jobs", "pipeline", "schemas"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "pipeline/stages/clips.py").open("a") as file:
        word = f"Path({str(folder)!r}, f'told-{{os.getpid()}}').write_text(f'{{sys.argv[0]}} {{__file__}}')"
        file.write(f"\n\nimport os, sys\nfrom pathlib import Path\n{word}\n")
    return folder


def test_two_at_once_are_one_job_and_all_of_it_has_the_code_that_travelled(
    head: RealHead, videos: Path, undisturbed: dict[str, str], other_code: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "two", videos)
    both = [start(head, config, code=other_code) for _ in range(2)]
    wait_until(lambda: receipts_of(config) > 0 or both[0].poll() is not None)
    status = subprocess.run(
        [sys.executable, "-m", "jobs.status", str(tmp_path / "two/out"), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    ended = [end(process) for process in both]
    assert [code for code, _, _ in ended] == [0, 0], ended
    name = job_name(load_config(config))
    jobs = head.jobs() or {}
    assert {found: state for found, state in jobs.items() if found.startswith(name)} == {name: "SUCCEEDED"}
    assert sorted("attached to it" in err for _, _, err in ended) == [False, True]
    assert all(out.count("Running entrypoint for job") == 1 and "clips/c" in out for _, out, _ in ended)
    assert tree(tmp_path / "two/out") == undisturbed
    assert json.loads(status.stdout)["products"][0]["units"] == VIDEOS, status.stderr
    told = [path.read_text().split() for path in other_code.glob("told-*")]
    assert any("default_worker.py" in program for program, _ in told), told
    assert all("working_dir_files" in place for *_, place in told), told


def test_ctrl_c_leaves_the_job_and_stop_ends_it_and_the_same_command_resumes(
    head: RealHead, videos: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    config = write_config(tmp_path / "mine", videos)
    name = job_name(load_config(config))
    following = start(head, config)
    wait_until(lambda: receipts_of(config) > 0)
    following.send_signal(signal.SIGINT)
    code, _, err = end(following)
    assert (code, "the job goes on" in err, "Traceback" in err) == (130, True, False), err
    assert (head.jobs() or {})[name] == "RUNNING"
    code, _, err = end(start(head, config, "--stop"))
    assert code == 0, err
    wait_until(lambda: (head.jobs() or {})[name] == "STOPPED", every_s=0.2)
    code, _, err = end(start(head, config, "--stop"))
    assert (code, "no job of this config is running" in err) == (2, True), err
    code, out, err = end(start(head, config, "--json"))
    assert code == 0, err
    assert json.loads(out) == {"id": f"{name}-2", "status": "SUCCEEDED", "exit": 0}
    assert tree(tmp_path / "mine/out") == undisturbed


def test_the_exit_status_of_the_run_is_that_of_submit(head: RealHead, videos: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "bad", videos)
    (config.parent / "list.csv").write_text("label,youtube_id,time_start,time_end,split\n")  # no row: nothing to do
    code, out, err = end(start(head, config, "--json"))
    assert (code, json.loads(out)["status"]) == (1, "FAILED"), err
    assert "the full list is" in err  # what the run itself said
    code, _, err = end(start(head, config, RAY_AUTH_TOKEN="of another cluster"))
    assert (code, "asks for a token" in err, TOKEN in err) == (1, True, False), err


def test_a_head_killed_in_mid_run_and_started_again_is_given_the_job_again(
    head: RealHead, videos: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    config = write_config(tmp_path / "lost", videos)
    following = start(head, config, "--retries", "1")
    wait_until(lambda: receipts_of(config) >= 3)
    head.kill()
    assert receipts_of(config) < 2 * VIDEOS
    head.start()
    code, out, err = end(following)
    assert code == 0, err
    assert "does not know it any more, so its head is a new one" in err
    assert out.count("Running entrypoint for job") == 2
    assert tree(tmp_path / "lost/out") == undisturbed
