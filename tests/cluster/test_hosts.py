"""Three hosts with their own networks, names, processes and disks, which share nothing but an S3 server: the whole
pipeline over real videos, while one of them loses its power or its network. Rows and bytes are those of a run on one
host that nobody disturbed.

`pytest -s` prints what was lost and when it was noticed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hosts
import pytest
from hosts import Host, Network

VIDEOS = hosts.ROOT.parent / "shared/data/videos"
NAMES = [
    *("ucf101/v_ApplyEyeMakeup_g01_c01.avi", "ucf101/v_Rowing_g16_c03.avi"),
    *("hmdb51/RATRACE_wave_f_nm_np1_fr_goo_37.avi", "hmdb51/TrumanShow_wave_f_nm_np1_fr_med_26.avi"),
    *("odd/h265_video.mp4", "odd/test_non_zero_start.mp4", "odd/rotated_90.mov", "odd/corrupted.mp4"),
]
IDENTITY = {
    "name": "tests",
    "credentials": [{"accessKey": "key", "secretKey": "secret"}],
    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
}
CONFIG = """\
dataset: {dataset}
source: {{kind: directory, videos: "{videos}"}}
units: {{videos_per_unit: 1}}
budget: {{failed: 1}}
clips:
  rgb16: {{frames: 16, fps: 8, stride_s: 1.0, resize: [128, 171]}}
flow:
  tvl1: {{clips: rgb16, resize: [48, 64], encoding: png, params: {{num_scales: 2, num_warps: 2}}}}
features:
  net: {{from: clips/rgb16, model: small_rgb, weights: "random:0", preprocess: {{resize: none, crop: [64, 64]}}}}
  maps: {{from: flow/tvl1, model: i3d_flow, weights: "random:0", layer: Conv3d_1a_7x7, dense: true,
         preprocess: {{resize: none, crop: none}}}}
heads:
  actions: {{kind: lstm, features: [net], hidden: 16, epochs: 5}}
"""
RECEIPTS = 4 * len(NAMES) + 1  # a unit a video in each of four products, and the head's own
PYTHON = sys.executable
BIN = Path(PYTHON).parent
ON_HOST = str(Path(__file__).with_name("on_host.py"))
ENV = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_EC2_METADATA_DISABLED": "true",
    "OMP_NUM_THREADS": "1",
    # Ray then asks whoever connects for the token; without it, anyone who reaches the head's port may run code there
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "f" * 64,
}
# A silent host counts as dead after three checks that wait two seconds each, in place of Ray's five of ten seconds.
HEALTH = {"health_check_period_ms": 1000, "health_check_timeout_ms": 2000, "health_check_failure_threshold": 3}
NODE = ["--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats"]
WAIT_S = 300.0
UNPLUGGED_S = 25.0
WHY_NOT = hosts.why_not()

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or ""),
    pytest.mark.skipif(not VIDEOS.is_dir(), reason=f"the real videos are not here ({VIDEOS})"),
]


class Storage:
    """A host with an S3 server, the videos in its bucket, and the tree of an undisturbed run on that host alone."""

    def __init__(self, network: Network) -> None:
        self.host = network.host("storage")
        self.endpoint = f"{self.host.address}:8333"
        self.host.path("/tmp/s3.json").write_text(json.dumps({"identities": [IDENTITY]}))
        self.host.path("/tmp/weed").mkdir()
        self.host.start(
            *(f"{BIN}/weed", "server", "-dir=/tmp/weed", f"-ip={self.host.address}", "-s3", "-s3.config=/tmp/s3.json"),
            *("-volume.max=20", "-master.volumeSizeLimitMB=64"),
            log=self.host.path("/tmp/weed.log"),
        )
        self.host.run(PYTHON, ON_HOST, "upload", self.endpoint, str(VIDEOS), *NAMES, env=ENV)
        self.host.run(PYTHON, "-m", "jobs.run", self.write_config(self.host, "undisturbed"), env=ENV)
        self.undisturbed = self.tree("undisturbed")

    def uri(self, name: str) -> str:
        return f"s3://bucket/{name}?endpoint_override={self.endpoint}&scheme=http&region=us-east-1"

    def write_config(self, host: Host, dataset: str) -> str:
        path = f"/tmp/{dataset}.yaml"
        host.path(path).write_text(CONFIG.format(dataset=self.uri(dataset), videos=self.uri("videos")))
        return path

    def tree(self, dataset: str) -> dict[str, str]:
        return json.loads(self.host.run(PYTHON, ON_HOST, "tree", self.uri(dataset), env=ENV))

    def times(self, dataset: str) -> dict[str, int]:
        """When each receipt was written."""
        return json.loads(self.host.run(PYTHON, ON_HOST, "times", self.uri(dataset), env=ENV))


class Run:
    """A cluster of three new hosts, and `reelmill run` on its head."""

    def __init__(self, network: Network, storage: Storage, dataset: str) -> None:
        self.head, *self.workers = (network.host(f"{dataset}-{name}") for name in ("head", "one", "two"))
        address = f"{self.head.address}:6379"
        at_head = ["--head", "--port=6379", "--include-dashboard=false", f"--system-config={json.dumps(HEALTH)}"]
        for host, options in ((self.head, at_head), *((host, [f"--address={address}"]) for host in self.workers)):
            host.run(f"{BIN}/ray", "start", *options, f"--node-ip-address={host.address}", *NODE, env=ENV)
        self._nodes, self._receipts = self.head.path("/tmp/nodes"), storage.host.path(f"/tmp/{dataset}.receipts")
        self.head.start(PYTHON, ON_HOST, "nodes", address, log=self._nodes, env=ENV)
        storage.host.start(PYTHON, ON_HOST, "receipts", storage.uri(dataset), log=self._receipts, env=ENV)
        self.wait(lambda: len(self.nodes) == 3, "three hosts in the cluster")
        config = storage.write_config(self.head, dataset)
        self.log = self.head.path("/tmp/log")
        command = (PYTHON, "-m", "jobs.run", config, "--address", address)
        self._process = self.head.start(*command, log=self.log, env=ENV)

    @property
    def nodes(self) -> list[str]:
        return _last_line(self._nodes)

    @property
    def num_receipts(self) -> int:
        return int((_last_line(self._receipts) or ["0"])[0])

    def wait(self, condition: Callable[[], bool], what: str) -> float:
        """Seconds until it holds."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < WAIT_S, f"no {what} after {WAIT_S:g} s: {self.log.read_text()[-3000:]}"
            time.sleep(0.05)
        return time.monotonic() - began

    def finish(self) -> None:
        status = self._process.wait(timeout=2 * WAIT_S)
        assert status == 0, self.log.read_text()[-3000:]


def _last_line(path: Path) -> list[str]:
    """The words after the seconds."""
    lines = [line for line in path.read_text().splitlines() if line[:1].isdigit()] if path.exists() else []
    return lines[-1].split()[1:] if lines else []


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture(scope="module")
def storage(network: Network) -> Storage:
    return Storage(network)


def test_a_host_that_loses_its_power_in_mid_run(network: Network, storage: Storage) -> None:
    run = Run(network, storage, "power")
    run.wait(lambda: run.num_receipts >= RECEIPTS // 4, "a quarter of the receipts")
    done, began = run.num_receipts, time.monotonic()
    run.workers[0].kill()
    detected_s = run.wait(lambda: len(run.nodes) == 2, "cluster without the dead host")
    run.finish()
    print(
        f"power: {done} of {RECEIPTS} receipts stood when the host died; "
        f"noticed after {detected_s:.1f} s; finished {time.monotonic() - began:.1f} s after"
    )
    assert done < RECEIPTS
    assert storage.tree("power") == storage.undisturbed


def test_a_host_that_loses_its_network_and_comes_back(network: Network, storage: Storage) -> None:
    run = Run(network, storage, "network")
    run.wait(lambda: run.num_receipts >= RECEIPTS // 4, "a quarter of the receipts")
    done, began = run.num_receipts, time.monotonic()
    network.unplug(run.workers[0])
    detected_s = run.wait(lambda: len(run.nodes) == 2, "cluster without the silent host")
    time.sleep(max(0.0, began + UNPLUGGED_S - time.monotonic()))
    before = storage.times("network")
    network.plug(run.workers[0])
    run.finish()
    run.wait(lambda: not run.workers[0].has_process("raylet"), "end of the raylet that was given up")
    after = storage.times("network")
    print(
        f"network: {done} of {RECEIPTS} receipts stood when the host went silent; noticed after {detected_s:.1f} s; "
        f"{len(before)} stood when it was back, and {sum(after[path] != before[path] for path in before)} of them were "
        f"written once more; finished {time.monotonic() - began:.1f} s after"
    )
    assert done < RECEIPTS
    assert storage.tree("network") == storage.undisturbed
