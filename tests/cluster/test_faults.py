"""Each fault, on real processes, and then the same tree, byte for byte, as a run that nobody touched.

What a fault may cost is what was under way: no receipt that stood when it struck is written again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster
from trees import tree
from victims import DECODER, FEATURES_ACTOR, NUM_VIDEOS, Run, kill_one, write_config

from pipeline import receipts
from pipeline.chaos import NOTES
from pipeline.receipts import Receipt
from pipeline.store import Store

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

OBJECT_STORE_BYTES = 100 << 20
SKEWED = """\
import os, time
seconds, now, now_ns = float(os.environ.get("TEST_SKEW_S", "0")), time.time, time.time_ns
time.time, time.time_ns = lambda: now() + seconds, lambda: now_ns() + int(seconds * 1e9)
"""
DEADLY = """\
import os, signal, sys
if "pipeline.video.decoder_process" in sys.orig_argv:
    import pipeline.video.source as module
    original = module.open_source
    def open_source(uri, *arguments, **named):
        if "deadly" in uri:
            os.kill(os.getpid(), signal.SIGSEGV)
        return original(uri, *arguments, **named)
    module.open_source = open_source
"""


def assert_sound(run: Run, expected: dict[str, str], stood: dict[Path, int]) -> None:
    """The same bytes; each receipt's hashes are those of its files; what stood was not made again."""
    assert run.ends() == 0, run.said[-3000:]
    hashes = tree(run.out)
    assert hashes == expected
    for path in run.receipts():
        receipt = Receipt.model_validate_json(path.read_bytes())
        assert sum(receipt.rows.values()) == 1
        assert {file.path: file.sha256 for file in receipt.files} == {
            file.path: hashes[f"{receipt.product}/{file.path}"] for file in receipt.files
        }
    assert stood.items() <= run.receipts().items()


# ---------------------------------------------------------------- a cluster that loses parts


@contextmanager
def cluster_of(*nodes: dict[str, object]) -> Iterator[tuple[Cluster, list[Any]]]:
    """A head that does no work itself, and these nodes."""
    head = {"num_cpus": 0, "object_store_memory": OBJECT_STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        started = [cluster.add_node(object_store_memory=OBJECT_STORE_BYTES, **node) for node in nodes]
        cluster.wait_for_nodes()
        yield cluster, started
    finally:
        cluster.shutdown()


def test_a_node_of_three_is_killed_where_clocks_disagree_by_two_days(
    videos: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    """The clock of a node is that of the python processes on it: nothing else asks what day it is."""
    (tmp_path / "sitecustomize.py").write_text(SKEWED)
    nodes = [
        {"num_cpus": 1, "env_vars": {"PYTHONPATH": str(tmp_path), "TEST_SKEW_S": str(days * 86400)}} for days in (1, -1)
    ]
    with cluster_of(*nodes) as (cluster, started):
        run = Run(write_config(tmp_path, videos), "--address", cluster.address)
        stood = run.wait_for_receipts(6)
        cluster.remove_node(started[1], allow_graceful=False)
        assert_sound(run, undisturbed, stood)
    assert len(stood) < 3 * NUM_VIDEOS
    record = json.loads((run.out / "_runs/run-000001.json").read_text())  # nor is the news lost with the node
    assert all(record["products"][product]["units"] > 0 for product in ("clips/rgb16", "features/net", "flow/tvl1"))


def test_a_worker_and_the_actor_on_the_gpu_are_killed(
    videos: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    """The GPU is one that Ray takes on trust: what is tested is that the actor comes back, on its node."""
    with cluster_of({"num_cpus": 1, "num_gpus": 1}, {"num_cpus": 1}) as (cluster, _):
        run = Run(write_config(tmp_path, videos), "--address", cluster.address)
        run.wait_for_receipts(1, "clips")
        worker = kill_one(os.getpid(), DECODER, its_parent=True)
        stood = run.wait_for_receipts(1, "features")
        actor = kill_one(os.getpid(), FEATURES_ACTOR)
        assert_sound(run, undisturbed, stood)
    assert worker != actor
    assert len(stood) < 3 * NUM_VIDEOS


def test_the_head_is_killed_and_the_same_command_goes_on_at_a_new_one(
    videos: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    """With it the driver, as where a job runs on its head, and all nodes."""
    config = write_config(tmp_path, videos)
    with cluster_of({"num_cpus": 2}) as (cluster, started):
        run = Run(config, "--address", cluster.address)
        run.wait_for_receipts(6)
        run.kill()
        for node in [*started, cluster.head_node]:
            cluster.remove_node(node, allow_graceful=False)
    stood = run.receipts()
    assert len(stood) < 3 * NUM_VIDEOS
    with cluster_of({"num_cpus": 2}) as (cluster, _):
        again = Run(config, "--address", cluster.address)
        assert_sound(again, undisturbed, stood)
    assert "waiting" not in again.said  # the holder of the lease is gone, and that can be told


# ---------------------------------------------------------------- storage, videos


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB, all but half a megabyte of it taken by the file `ballast`."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("a disk that is full needs the right to mount one")
    try:
        (folder / "ballast").write_bytes(bytes((24 << 20) - (512 << 10)))
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_one_sentence_and_with_room_the_same_command_goes_on(
    videos: Path, undisturbed: dict[str, str], small_disk: Path
) -> None:
    config = write_config(small_disk, videos)
    run = Run(config, "--workers", "2")
    assert run.ends() == 1, run.said[-3000:]
    assert "no space left on device" in run.said
    assert "make room" in run.said
    assert "Traceback" not in run.said
    stood = run.receipts()
    (small_disk / "ballast").unlink()
    assert_sound(Run(config, "--workers", "2"), undisturbed, stood)


def test_a_video_that_kills_its_decoder_every_time_costs_its_own_row(videos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    shutil.copytree(videos / "trimmed/videos", folder / "trimmed/videos")
    first = sorted(folder.rglob("*.mp4"))[0]
    shutil.copy(first, first.with_name("deadly.mp4"))
    (tmp_path / "sitecustomize.py").write_text(DEADLY)
    environment = {"PYTHONPATH": str(tmp_path)}
    run = Run(write_config(tmp_path, folder, budget=1), "--workers", "2", "--json", environment=environment)
    assert run.ends() == 0, run.said[-3000:]
    summary, _ = json.JSONDecoder().raw_decode(run.said[run.said.index("\n{") + 1 :])
    (failure,) = summary["failed"].values()
    assert failure["reason"] == "crashed"
    for product in summary["products"].values():
        assert (product["rows"]["ok"], product["rows"]["failed"]) == (NUM_VIDEOS, 1)


# ---------------------------------------------------------------- all at once


@pytest.mark.parametrize("seed", [1])
def test_chaos(videos: Path, undisturbed: dict[str, str], tmp_path: Path, seed: int) -> None:
    config = write_config(tmp_path, videos)
    run = Run(config, "--workers", "2", "--chaos", str(seed))
    if run.ends() == 1:  # a full disk was among the faults: the same command goes on
        assert "can't write here" in run.said
        run = Run(config, "--workers", "2", "--chaos", str(seed))
    assert_sound(run, undisturbed, {})
    store = Store(str(run.out))
    struck = [json.loads(store.read(f"{NOTES}/{name}"))["fault"] for name in store.files(NOTES)]
    assert {fault.partition(":")[0] for fault in struck} >= {"kill worker", "kill decoder"}
    assert f"CHAOS {seed}: {len(struck)} of {len(struck)} faults struck" in run.said
    assert receipts.committed_units(store, "features/net") == list(range(NUM_VIDEOS))
