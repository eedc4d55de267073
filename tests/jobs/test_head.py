"""What a job server answers, told apart: a real HTTP server that says what Ray's says. Real heads: tests/cluster."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from jobs import head as head_module
from jobs.head import AwayError, Head, TakenError, UnknownJobError, environment
from schemas.errors import ReelmillError, UsageError

JOB = {"type": "SUBMISSION", "submission_id": "n", "status": "RUNNING", "entrypoint": "x", "metadata": {"a": "b"}}
NODE = {"node_id": "1f", "is_head_node": True, "state": "ALIVE", "resources_total": {"memory": 8 * 2**30}}
ANSWERS: dict[tuple[str, str], tuple[int, Any]] = {
    ("GET", "/api/version"): (200, {"ray_version": "2.60.0"}),
    ("GET", "/api/jobs/"): (200, [JOB, {**JOB, "submission_id": None, "type": "DRIVER"}]),
    ("GET", "/api/jobs/n"): (200, JOB),
    ("POST", "/api/jobs/"): (500, "Traceback …\nValueError: Job with submission_id n already exists. Please …"),
    ("GET", "/api/jobs/busy"): (503, "no agent"),
    ("GET", "/api/jobs/slow"): (-1, ""),
    ("GET", "/api/jobs/closed"): (401, "Unauthorized"),
    ("GET", "/api/v0/nodes"): (200, {"data": {"result": {"result": [NODE]}}}),
}


class Handler(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, body = ANSWERS.get((self.command, self.path), (404, "Job does not exist"))
        if self.path.startswith("/api/packages/"):
            status, body = 200, ""
        if status < 0:
            time.sleep(3)
            return
        self.send_response(status)
        self.end_headers()
        self.wfile.write((body if isinstance(body, str) else json.dumps(body)).encode())

    do_GET = do_POST = do_PUT = _answer  # noqa: N815

    def log_message(self, *words: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # else the one of whoever runs the tests would be sent


@pytest.fixture
def head(server: str, monkeypatch: pytest.MonkeyPatch) -> Head:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # another cluster than the one asked for
    monkeypatch.setattr(head_module, "REQUEST_S", 0.5)
    return Head(f"{server}/")


def test_jobs_are_those_that_were_submitted(head: Head) -> None:
    assert set(head.jobs()) == {"n"}
    assert (str(head.job("n").status), head.job("n").metadata) == ("RUNNING", {"a": "b"})


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda head: head.job("unheard-of"), UnknownJobError),
        (lambda head: head.job("busy"), AwayError),
        (lambda head: head.job("slow"), AwayError),
        (lambda head: head.job("closed"), ReelmillError),
        (lambda head: head.stop("unheard-of"), UnknownJobError),
    ],
)
def test_errors_are_told_apart(head: Head, ask: Callable[[Head], Any], error: type[Exception]) -> None:
    head.jobs()
    with pytest.raises(error):
        ask(head)


def test_a_name_that_is_taken(head: Head, tmp_path: Path) -> None:
    (tmp_path / "package.zip").write_bytes(b"PK\5\6" + bytes(18))
    with pytest.raises(TakenError):
        head.submit("n", "true", tmp_path / "package.zip", env_vars={})


def test_nobody_there_and_somebody_else_there(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(AwayError):
            Head(f"http://127.0.0.1:{probe.getsockname()[1]}").jobs()
    monkeypatch.delitem(ANSWERS, ("GET", "/api/version"))
    with pytest.raises(AwayError):
        Head(server).jobs()


def test_a_driver_with_memory_of_its_own_stays_on_the_head(head: Head) -> None:
    wanted = {"entrypoint_memory": 2 * 2**30, "entrypoint_label_selector": {"ray.io/node-id": "1f"}}
    assert head.placement(2) == wanted
    with pytest.raises(UsageError, match=r"--driver-memory-gb 9: the head has 8.0 GiB"):
        head.placement(9)


def test_a_log_that_can_not_be_followed_is_no_error(head: Head) -> None:
    heard: list[str] = []
    head.follow("n", heard.append)
    assert heard == []


@pytest.mark.parametrize("address", ["head:8265", "ray://head:10001", "auto", "http://me:secret@head:8265"])
def test_an_address_is_a_dashboards(address: str) -> None:
    with pytest.raises(UsageError) as error:
        Head(address)
    assert "secret" not in str(error.value)


def test_only_named_variables_travel_and_no_secrets() -> None:
    here = {"OMP_NUM_THREADS": "2", "AWS_SECRET_ACCESS_KEY": "hidden", "HF_TOKEN": "hidden"}
    assert environment(here, []) == {}
    assert environment(here, ["OMP_NUM_THREADS"]) == {"OMP_NUM_THREADS": "2"}
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "NOT_SET"):
        with pytest.raises(UsageError, match=f"--env {name}"):
            environment(here, [name])
