"""Paths, addresses and labels that a shell would run: they name what they say, and nothing is run."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from jobs import submit
from pipeline.sources import build_manifest
from pipeline.store import Store
from pipeline.units import read_labels, read_manifest
from pipeline.video.guard import Decoder
from schemas.config import Clips, Limits
from schemas.manifest import VideoRow
from schemas.sources import DirectorySource, PathListSource

NASTY = [
    "$(touch ran)",
    "`touch ran`",
    "a; touch ran;",
    "a && touch ran && b",
    "a | touch ran",
    "'; touch ran; '",
    '"; touch ran; "',
    "a\ntouch ran\n",
    "--help",
    "-rf",
    "a b  c",
    "${IFS}touch${IFS}ran",
    "> ran",
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which no file named `ran` may appear."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not list(tmp_path.rglob("ran"))


def test_a_shell_would_run_them(here: Path) -> None:
    """Else no test here could fail."""
    (here / "below").mkdir()
    subprocess.run(["sh", "-c", f"echo {NASTY[0]}"], check=True, cwd=here / "below")
    assert (here / "below/ran").exists()
    (here / "below/ran").unlink()


@pytest.mark.parametrize("name", NASTY)
def test_folders_files_and_labels(name: str, here: Path) -> None:
    folder = here / "videos" / name
    folder.mkdir(parents=True)
    (folder / f"{name}.mp4").write_bytes(b"no video")
    store = Store(str(here / "out" / name))
    report = build_manifest(store, DirectorySource(kind="directory", videos=str(here / "videos")))
    assert report.num_rows == 1
    assert read_labels(store) == [name]
    assert read_manifest(store)["uri"].to_pylist() == [str(folder / f"{name}.mp4")]


@pytest.mark.parametrize("name", [name for name in NASTY if "\n" not in name])
def test_rows_of_lists(name: str, here: Path) -> None:
    (here / "a.mp4").write_bytes(b"no video")
    (here / name).write_bytes(b"no video")
    (here / "list.txt").write_text(f"a.mp4\t{name}\n{name}\tother\n")
    store = Store(str(here / "out"))
    report = build_manifest(store, PathListSource(kind="list", list=str(here / "list.txt"), videos=str(here)))
    assert (report.num_rows, report.issue_counts) == (2, {})
    assert set(read_labels(store)) == {name, "other"}


def test_videos_with_such_names_are_decoded(here: Path) -> None:
    """In the decoder's process, whose command line holds numbers alone."""
    with av.open(str(here / "video.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    data = (here / "video.mp4").read_bytes()
    with closing(Decoder(Limits())) as decoder:
        for number, name in enumerate(NASTY):
            (here / f"{name}.mp4").write_bytes(data)
            row = VideoRow(f"v{number}", f"{name}.mp4", None, (name,), (0,), None, None)
            assert len(list(decoder.clips(row, Clips(frames=5, fps=5, encoding="npy")))) == 1
        words = Path(f"/proc/{decoder.pid}/cmdline").read_bytes().decode().split("\0")
    assert all(word.isdigit() for word in words[4:-1])


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("field", ["config", "dataset", "videos"])
def test_what_a_job_runs(name: str, field: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's entrypoint is a line that the head gives to a shell: nothing of the config stands in it."""
    places = {"dataset": "/data/out", "videos": "/data/videos", "config": "config", field: f"/data/{name}"}
    config = here / f"{places['config'].removeprefix('/data/')}.yaml"
    quoted = {key: "'" + value.replace("'", "''").replace("\n", "\n\n") + "'" for key, value in places.items()}
    config.write_text(
        f"dataset: {quoted['dataset']}\nsource: {{kind: directory, videos: {quoted['videos']}}}\n"
        "clips: {rgb16: {frames: 16, fps: 8}}\n"
    )
    orders: list[submit.Order] = []

    def take(head: Any, order: submit.Order) -> str:
        orders.append(order)
        return order.name

    monkeypatch.setattr(submit, "take", take)
    monkeypatch.setattr(submit, "Head", lambda address: SimpleNamespace(address=address))
    with pytest.raises(submit.typer.Exit):
        submit.main(config, address="http://127.0.0.1:1", detach=True, env=[], driver_memory_gb=None)
    (order,) = orders
    assert order.entrypoint == "python -m jobs.run config.yaml --address auto"
    assert shlex.split(order.entrypoint) == list(submit.RUN)
    assert set(order.name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
