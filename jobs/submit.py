"""`reelmill submit`: `run` as a job of a Ray cluster, with this code; followed to its end, and begun again if lost."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.entry import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_OVER_BUDGET, EXIT_USAGE, run_verb
from jobs.head import DEFAULT_ADDRESS, AwayError, Head, TakenError, UnknownJobError, environment
from jobs.package import CONFIG, check_places, contents, write_package
from pipeline.config import load_config
from pipeline.say import say
from schemas.config import Config
from schemas.errors import ReelmillError, UsageError

RUN = ("python", "-m", "jobs.run", CONFIG, "--address", "auto")
OURS = {EXIT_USAGE, EXIT_OVER_BUDGET, EXIT_INTERRUPTED}  # said by `run` itself: another try would say the same
# A run that ends with an error is not begun again, unless it went well for so long: a mistake shows at once, and what
# shows after hours is mostly the cluster (all spot nodes taken away at the same time).
GOES_WELL_S = 600.0
NOT_FOUND = {126, 127}  # what a shell says of a program that it can't run
HEAD_AWAY_S = 1800.0  # how long a head may not answer
MOST_TAKEN = 10  # times that a name may turn out to be another's by the time it is used
WAITS_S = (5.0, 15.0, 60.0)  # before asking again, or beginning again; the last for all that follow


def main(
    config: Annotated[Path, typer.Argument(help="a config.yaml; its relative paths travel with the job")],
    address: Annotated[
        str, typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="the dashboard of the cluster")
    ] = DEFAULT_ADDRESS,
    detach: Annotated[bool, typer.Option("--detach", help="don't follow the job")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="end the job of this config; it can be resumed")] = False,
    retries: Annotated[int, typer.Option(min=0, help="times that a job lost with its node or head is resumed")] = 3,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="try again what failed before")] = False,
    driver_memory_gb: Annotated[
        float | None, typer.Option(min=0.1, help="reserve so much of the head's memory; default: nothing")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option(help="a variable to send along, by name; all who see the dashboard can read it")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the log on stderr, and at the end a line of JSON")] = False,
) -> None:
    """Run a config on a cluster as a Ray job; the same command attaches to it while it runs, and resumes it after."""
    loaded = load_config(config)
    check_places(loaded)
    head, name = Head(address), job_name(loaded)
    if stop:
        _stop(head, name)
        return
    with tempfile.TemporaryDirectory(prefix="reelmill-") as folder:
        package = Path(folder) / "package.zip"
        write_package(contents(loaded, config), package)
        order = Order(
            name=name,
            entrypoint=shlex.join([*RUN, *(["--retry-failed"] if retry_failed else [])]),
            package=package,
            env_vars=environment(os.environ, env or []),
            driver_memory_gb=driver_memory_gb,
        )
        try:
            attempt = take(head, order)
        except AwayError as error:
            raise ReelmillError(f"can't reach a Ray cluster at {head.address}: {error}") from None
        if detach:
            _tell(f"follow it: reelmill submit {config}    end it: reelmill submit {config} --stop")
            ended = Ended(attempt, "SUBMITTED", 0)
        else:
            try:
                ended = see_through(head, order, attempt, retries=retries, out=sys.stderr if as_json else sys.stdout)
            except KeyboardInterrupt:
                _tell(f"the job goes on. Follow it: the same command. End it: reelmill submit {config} --stop")
                raise typer.Exit(EXIT_INTERRUPTED) from None
    if as_json:
        print(json.dumps({"id": ended.attempt, "status": ended.status, "exit": ended.exit_status}))
    raise typer.Exit(ended.exit_status)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be run, whichever attempt it takes."""

    name: str
    entrypoint: str
    package: Path
    env_vars: dict[str, str] = field(default_factory=dict)
    driver_memory_gb: float | None = None

    @property
    def package_sha256(self) -> str:
        return hashlib.sha256(self.package.read_bytes()).hexdigest()


@dataclass(frozen=True, slots=True)
class Ended:
    attempt: str
    status: str  # Ray's, or SUBMITTED, or LOST
    exit_status: int


def job_name(config: Config) -> str:
    """The same for the same settings of the same dataset, however they are written down: `reelmill-k400-1f3a…`."""
    settings = json.dumps(config.model_dump(mode="json", by_alias=True), sort_keys=True)
    place = config.dataset.partition("?")[0].rstrip("/").rpartition("/")[2]
    dataset = re.sub(r"[^A-Za-z0-9_-]+", "-", place)[:40].strip("-") or "dataset"
    return f"reelmill-{dataset}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"


def attempts(head: Head, name: str) -> dict[int, Any]:
    """Ray's jobs of this name, by number: the first has the name itself, others `-2`, `-3` …: Ray uses no id twice."""
    matches = ((re.fullmatch(re.escape(name) + r"(?:-(\d+))?", other), job) for other, job in head.jobs().items())
    return {int(match[1] or 1): job for match, job in matches if match}


def take(head: Head, order: Order) -> str:
    """Attach to the job where it waits or runs, or start its next attempt; of several at once, one starts it.

    Raises AwayError, also where a head refuses the name of a job that it does not show.
    """
    for _ in range(MOST_TAKEN):
        try:
            known = attempts(head, order.name)
        except UnknownJobError:
            raise AwayError("nothing there knows of jobs") from None
        last = max(known, default=0)
        if last and not known[last].status.is_terminal():
            return _attach(head, order, known[last])
        attempt = order.name if not last else f"{order.name}-{last + 1}"
        options = {} if order.driver_memory_gb is None else head.placement(order.driver_memory_gb)
        try:
            head.submit(
                attempt,
                order.entrypoint,
                order.package,
                env_vars=order.env_vars,
                metadata={"reelmill_package": order.package_sha256},
                **options,
            )
        except TakenError:
            time.sleep(_wait_s(0))
            continue  # somebody else was quicker: attach to theirs
        _tell(f"submitted {attempt} to {head.address}")
        return attempt
    raise AwayError(f"it says that {attempt} exists already, and does not show it")


def _attach(head: Head, order: Order, job: Any) -> str:
    attempt = str(job.submission_id)
    _tell(f"{attempt} is {str(job.status).lower()} at {head.address}: attached to it")
    if (job.metadata or {}).get("reelmill_package") != order.package_sha256:
        _tell("it has other code or other files than are here; to run these, end it (--stop) and submit again")
    if job.entrypoint != order.entrypoint:
        _tell(f"it was begun as `{job.entrypoint}`, not as this command would; for that submit again when it has ended")
    return attempt


def see_through(head: Head, order: Order, attempt: str, *, retries: int, out: Any) -> Ended:
    """Follow a job to its end, and begin it again where it was lost. Raises ReelmillError where the head stays away."""
    tries = 0
    while True:
        job = _patiently(head, lambda attempt=attempt: _follow(head, attempt, out))  # type: ignore[misc]
        status, exit_status = ("LOST", None) if job is None else (str(job.status), verdict(job))
        if exit_status is not None:
            _explain(job, exit_status)
            return Ended(attempt, status, exit_status)
        _tell(f"{attempt} was lost: {_reason(job)}")
        if tries == retries:
            _tell(
                f"given up after {retries} retries; what was finished is kept, and the same command goes on from there"
            )
            return Ended(attempt, status, EXIT_ERROR)
        time.sleep(_wait_s(tries))
        tries += 1
        attempt = _patiently(head, lambda: take(head, order))


def verdict(job: Any) -> int | None:
    """The exit status that an ended job stands for; None where the cluster was lost under it, and not the work."""
    code = job.driver_exit_code
    if str(job.status) == "SUCCEEDED":
        return 0
    if str(job.status) == "STOPPED":
        return EXIT_INTERRUPTED
    if code in OURS:
        return int(code)
    if code in NOT_FOUND or (code is None and "UNSCHEDULABLE" in str(job.error_type)):
        return EXIT_ERROR
    if code == EXIT_ERROR:
        went_well = (job.end_time or 0) - (job.start_time or 0) >= GOES_WELL_S * 1000
        return None if went_well else EXIT_ERROR
    return None


class Log:
    """A job's log as it is told again and again from its beginning; what was shown is not shown again."""

    def __init__(self, out: Any) -> None:
        self._out = out
        self._shown = self._at = 0

    def begin(self) -> None:
        self._at = 0

    def __call__(self, text: str) -> None:
        fresh = text[max(0, self._shown - self._at) :]
        self._at += len(text)
        self._shown = max(self._shown, self._at)
        self._out.write(fresh)
        self._out.flush()


def _follow(head: Head, attempt: str, out: Any) -> Any:
    """Show a job's log until it has ended; returns Ray's JobDetails, or None where the head does not know it."""
    log = Log(out)

    def look() -> Any:
        log.begin()
        head.follow(attempt, log)
        return head.job(attempt)

    try:
        while not (job := _patiently(head, look)).status.is_terminal():
            time.sleep(1)
    except UnknownJobError:
        return None
    log.begin()
    try:
        log(head.log(attempt))  # what came after the connection broke, if it did
    except (AwayError, UnknownJobError):
        pass
    return job


def _patiently(head: Head, ask: Callable[[], Any]) -> Any:
    """Ask until the head answers. Raises ReelmillError where it does not for HEAD_AWAY_S."""
    since, tries = time.monotonic(), 0
    while True:
        try:
            return ask()
        except AwayError as error:
            away_s = time.monotonic() - since
            if away_s > HEAD_AWAY_S:
                raise ReelmillError(
                    f"{head.address} has not answered for {away_s / 60:.0f} minutes ({error}); the job may still run. "
                    "When the cluster is back, the same command attaches to it or resumes it"
                ) from None
            if tries == 0:
                _tell(f"{head.address} does not answer ({error}); waiting for it")
            time.sleep(_wait_s(tries))
            tries += 1


def _wait_s(tries: int) -> float:
    return WAITS_S[min(tries, len(WAITS_S) - 1)]


def _stop(head: Head, name: str) -> None:
    try:
        running = [job.submission_id for job in attempts(head, name).values() if not job.status.is_terminal()]
        for attempt in running:
            head.stop(attempt)
            _tell(f"asked {attempt} to end; what was finished is kept")
    except (AwayError, UnknownJobError) as error:
        raise ReelmillError(f"can't end {name} at {head.address}: {error}") from None
    if not running:
        raise UsageError(f"no job of this config is running at {head.address}")


def _reason(job: Any) -> str:
    if job is None:
        return "the cluster does not know it any more, so its head is a new one"
    if job.driver_exit_code is not None:
        return f"its driver ended with status {job.driver_exit_code}"
    return str(job.message or "no reason given").strip().splitlines()[-1]


def _explain(job: Any, exit_status: int) -> None:
    """What Ray says of a job that never got to speak for itself, and the mistake that is easily made."""
    if exit_status == EXIT_ERROR and job.driver_exit_code is None:
        _tell(_reason(job))
    if job.driver_exit_code in NOT_FOUND or "No module named" in str(job.message):
        _tell(
            "the head's `python` lacks what a run needs: activate the environment in which Ray and reelmill are "
            "installed before `ray start`, on every node"
        )


def _tell(sentence: str) -> None:
    say(f"reelmill: {sentence}")


if __name__ == "__main__":
    run_verb(main)
