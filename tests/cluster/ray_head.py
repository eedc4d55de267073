"""A Ray head in processes of its own, with the dashboard's job server, that tests can kill and start again."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import requests
from processes import MARK, free_port, kill_marked, wait_until

BIN = Path(sys.executable).parent
TOKEN = uuid.uuid4().hex


class RealHead:
    """On free ports of this machine, with a token that nobody else has."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="rl-")  # short: Ray's socket paths must fit 107 characters
        names = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")
        self.ports = {name: free_port() for name in names}
        self.address = f"http://127.0.0.1:{self.ports['dashboard-port']}"
        self.start()

    def start(self) -> None:
        self.mark = uuid.uuid4().hex
        command = [str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=2", "--object-store-memory=100000000"]
        command += [f"--{name}={port}" for name, port in self.ports.items()]
        command += ["--include-dashboard=true", "--dashboard-host=127.0.0.1", "--disable-usage-stats"]
        command += ["--labels=reelmill-role=cpu", f"--temp-dir={self.folder}"]
        with Path(self.folder, "log").open("ab") as log:
            env = {**shell(), MARK: self.mark}
            self.process = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=self.folder)
        wait_until(lambda: self.jobs() is not None, every_s=0.2)

    def jobs(self) -> dict[str, str] | None:
        """Status by id, as the server itself says; None where it does not answer."""
        assert self.process.poll() is None, Path(self.folder, "log").read_text()[-2000:]
        try:
            answer = requests.get(f"{self.address}/api/jobs/", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)
            answer.raise_for_status()
        except requests.RequestException:
            return None
        return {found["submission_id"]: found["status"] for found in answer.json() if found["submission_id"]}

    def kill(self) -> None:
        """kill -9 of all that this head started: Ray's processes, the driver, workers and decoders."""
        kill_marked(self.mark)
        self.process.wait()


def shell(**more: str) -> dict[str, str]:
    """The environment of somebody who has activated reelmill's and has the cluster's token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, "PATH": f"{BIN}:{os.environ['PATH']}", "RAY_AUTH_TOKEN": TOKEN, **more}
