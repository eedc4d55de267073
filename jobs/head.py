"""A cluster's job server, at the dashboard's address: what `reelmill submit` asks of it, with a time limit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from schemas.errors import ReelmillError, UsageError

Answer = TypeVar("Answer")

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
TOKEN_FILE = Path("~/.ray/auth_token")
REQUEST_S = 60.0  # a head may be busy; a connection that says nothing for so long is lost
QUIET_S = 300.0  # a log may be quiet; after so long it is asked for anew, in case the connection is dead
NODE_LABEL = "ray.io/node-id"


class AwayError(Exception):
    """The head does not answer, or not sensibly: it may be starting, or gone."""


class UnknownJobError(Exception):
    """The head does not know the job: it is another head than the one that was given it."""


class TakenError(Exception):
    """The name is that of another job."""


class Head:
    """One cluster's job server. Raises AwayError where it does not answer, ReelmillError where it wants a token."""

    def __init__(self, address: str) -> None:
        """Connects to nothing yet. Raises UsageError for what is no dashboard's address."""
        if not address.startswith(("http://", "https://")):
            raise UsageError(f"--address {address}: give the dashboard's address, http://HEAD:8265")
        if "@" in address:
            raise UsageError(
                "--address: leave user and password out; Ray's own token says who you are (docs/cluster.md)"
            )
        self.address = address.rstrip("/")
        _send_token()
        self._connected: Any = None

    def jobs(self) -> dict[str, Any]:
        """Every submitted job that the cluster knows, by its id: Ray's JobDetails."""
        return {job.submission_id: job for job in self._ask(lambda client: client.list_jobs()) if job.submission_id}

    def job(self, name: str) -> Any:
        """Ray's JobDetails of one job. Raises UnknownJobError."""
        return self._ask(lambda client: client.get_job_info(name))

    def submit(self, name: str, entrypoint: str, package: Path, **options: Any) -> None:
        """Start a job in a folder of the package's files, which is also where its workers import from.

        Raises TakenError where another job has this name, now or in the past.
        """
        environment = {"working_dir": str(package), "env_vars": dict(options.pop("env_vars"))}
        self._ask(
            lambda client: client.submit_job(
                entrypoint=entrypoint, submission_id=name, runtime_env=environment, **options
            )
        )

    def stop(self, name: str) -> bool:
        """Ask a job to end; whether it was running. Raises UnknownJobError."""
        return bool(self._ask(lambda client: client.stop_job(name)))

    def log(self, name: str) -> str:
        return str(self._ask(lambda client: client.get_job_logs(name)))

    def follow(self, name: str, hear: Callable[[str], None]) -> None:
        """Tell `hear` a job's log from its beginning, as it grows; returns when it ends or the connection does."""

        async def listen() -> None:
            stream = self._client().tail_job_logs(name)
            async with contextlib.aclosing(stream):
                while True:
                    hear(await asyncio.wait_for(anext(stream), QUIET_S))

        # whatever breaks it: the job's status is asked for next, and decides
        with contextlib.suppress(Exception):
            asyncio.run(listen())

    def placement(self, memory_gb: float) -> dict[str, Any]:
        """Options of `submit` that reserve memory for the driver, and keep it on the head all the same.

        Raises UsageError where the head has less.
        """
        nodes = self._ask(lambda client: client._do_request("GET", "/api/v0/nodes").json()["data"]["result"]["result"])
        head = next(node for node in nodes if node["is_head_node"] and node["state"] == "ALIVE")
        has_gb = head["resources_total"].get("memory", 0) / 2**30
        if has_gb < memory_gb:
            raise UsageError(f"--driver-memory-gb {memory_gb:g}: the head has {has_gb:.1f} GiB for all that runs on it")
        return {
            "entrypoint_memory": int(memory_gb * 2**30),
            "entrypoint_label_selector": {NODE_LABEL: head["node_id"]},
        }

    def _client(self) -> Any:
        if self._connected is None:
            self._connected = _connect(self.address)
        return self._connected

    def _ask(self, question: Callable[[Any], Answer]) -> Answer:
        """One request, its errors told apart."""
        import requests
        from ray.exceptions import AuthenticationError

        try:
            return question(self._client())
        except AuthenticationError:
            raise ReelmillError(
                f"{self.address} asks for a token, and has no use for the one given, if one was: put the cluster's "
                f"into {TOKEN_FILE}, or into RAY_AUTH_TOKEN (on the head, `ray get-auth-token` shows it)"
            ) from None
        except RuntimeError as error:  # Ray's form of an answer that is not 200
            text = str(error)
            if "already exists" in text:
                raise TakenError from None
            if self._connected is not None and "status code 404" in text:
                raise UnknownJobError from None
            raise AwayError(text.strip().splitlines()[-1] if text.strip() else "no reason given") from None
        except (requests.RequestException, OSError, ValueError, KeyError, TypeError, StopIteration) as error:
            raise AwayError(str(error)) from None


def _send_token() -> None:
    """Let Ray's client send the token where there is one: it has to be told so before it is loaded."""
    if any(os.environ.get(name) for name in TOKENS) or TOKEN_FILE.expanduser().is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _connect(address: str) -> Any:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):  # they would be taken in place of the address given
        os.environ.pop(name, None)
    from ray.job_submission import JobSubmissionClient

    class InTime(JobSubmissionClient):
        """Ray's own has no timeouts, and hangs for ever on a connection that died."""

        def _do_request(self, *words: Any, **named: Any) -> Any:
            return super()._do_request(*words, timeout=REQUEST_S, **named)

    for module in ("job.sdk", "dashboard_sdk"):
        logging.getLogger(f"ray.dashboard.modules.{module}").setLevel(logging.ERROR)
    return InTime(address)


def environment(names: Mapping[str, str], wanted: list[str]) -> dict[str, str]:
    """The variables to send along. Raises UsageError for one that is not set, and one whose name is a secret's."""
    for name in wanted:
        if re.search(r"SECRET|TOKEN|PASSW|ACCESS_KEY|CREDENTIAL", name, re.I):
            raise UsageError(
                f"--env {name}: who may open the dashboard reads the variables of a job; give the nodes credentials of "
                "their own (docs/cluster.md)"
            )
        if name not in names:
            raise UsageError(f"--env {name}: this variable is not set here; set it, or leave the option out")
    return {name: names[name] for name in wanted}
