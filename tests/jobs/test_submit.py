"""What `reelmill submit` makes of what a head says: attach, begin again, give up. tests/cluster has real heads."""

from __future__ import annotations

import io
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.job_submission import JobStatus

from jobs import submit
from jobs.head import AwayError, TakenError, UnknownJobError
from jobs.submit import Log, Order, attempts, job_name, see_through, take, verdict
from pipeline.config import parse_config
from schemas.errors import ReelmillError


class FakeHead:
    """A job server with the answers of a script: what `job` says, one after the other; the last for ever."""

    address = "http://head:8265"

    def __init__(self, *answers: Any, known: dict[str, Any] | None = None) -> None:
        self.answers, self.known, self.submitted = list(answers), known or {}, []

    def jobs(self) -> dict[str, Any]:
        return self.known

    def job(self, name: str) -> Any:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def submit(self, name: str, entrypoint: str, package: Path, **options: Any) -> None:
        if name in self.known:
            raise TakenError
        self.submitted.append(name)

    def follow(self, name: str, hear: Any) -> None:
        hear(f"log of {name}\n")

    def log(self, name: str) -> str:
        return f"log of {name}\n"


def job(status: str, code: int | None = None, *, name: str = "n", took_s: float = 5.0, **more: Any) -> Any:
    fields = {"message": "why", "error_type": None, "metadata": None, "entrypoint": "true", **more}
    return SimpleNamespace(
        submission_id=name,
        status=JobStatus(status),
        driver_exit_code=code,
        start_time=0,
        end_time=took_s * 1000,
        **fields,
    )


@pytest.fixture
def order(tmp_path: Path) -> Order:
    (tmp_path / "package.zip").write_bytes(b"zip")
    return Order(name="n", entrypoint="true", package=tmp_path / "package.zip")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "WAITS_S", (0.01,))


CONFIG = "dataset: {}\nsource: {{kind: directory, videos: /v}}\nclips: {{c: {{frames: 4, fps: {}}}}}\n"


def test_the_name_is_of_the_settings_however_they_are_written() -> None:
    name = job_name(parse_config(CONFIG.format("s3://bucket/sports 1m?region=x", 5), "a"))
    assert name.startswith("reelmill-sports-1m-")
    assert name == job_name(parse_config("# noted\n" + CONFIG.format("s3://bucket/sports 1m?region=x", "5.0"), "b"))
    assert name != job_name(parse_config(CONFIG.format("s3://bucket/sports 1m?region=x", 6), "a"))
    assert name != job_name(parse_config(CONFIG.format("s3://other/sports 1m?region=x", 5), "a"))


def test_attempts_are_of_this_name_only() -> None:
    known = {other: job("FAILED", 1) for other in ("n", "n-2", "n-10", "n-x", "nn", "m-2", "n-2-3")}
    assert set(attempts(FakeHead(known=known), "n")) == {1, 2, 10}


@pytest.mark.parametrize(
    ("ended", "status"),
    [
        (job("SUCCEEDED", 0), 0),
        (job("FAILED", 1), 1),
        (job("FAILED", 2), 2),
        (job("FAILED", 3), 3),
        (job("FAILED", 130), 130),
        (job("STOPPED"), 130),
        (job("FAILED", 127), 1),
        (job("FAILED", None, error_type="JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE"), 1),
        (job("FAILED", None, error_type="JOB_SUPERVISOR_ACTOR_DIED"), None),
        (job("FAILED", -9), None),
        (job("FAILED", 137), None),
        (job("FAILED", 1, took_s=3600), None),  # hours of work, then an error
        (job("FAILED", 3, took_s=3600), 3),
    ],
)
def test_what_an_end_stands_for(ended: Any, status: int | None) -> None:
    assert verdict(ended) == status


def test_a_log_goes_on_where_it_was() -> None:
    out = io.StringIO()
    log = Log(out)
    for pieces in (["a\nb", "c\n"], ["a\n", "bc\nd\n"], ["a\n"], ["a\nbc\nd\ne\n"]):
        log.begin()
        for piece in pieces:
            log(piece)
    assert out.getvalue() == "a\nbc\nd\ne\n"


def test_a_running_job_is_attached_to_and_an_ended_one_begun_again(order: Order) -> None:
    running = FakeHead(known={"n": job("FAILED", 1), "n-2": job("RUNNING", name="n-2")})
    assert (take(running, order), running.submitted) == ("n-2", [])
    ended = FakeHead(known={"n": job("FAILED", 1), "n-2": job("SUCCEEDED", 0, name="n-2")})
    assert (take(ended, order), ended.submitted) == ("n-3", ["n-3"])


def test_of_two_that_submit_at_once_the_second_attaches(order: Order) -> None:
    head = FakeHead(known={})

    def quicker(name: str, *_: Any, **__: Any) -> None:
        head.known[name] = job("PENDING", name=name)
        raise TakenError

    head.submit = quicker  # type: ignore[method-assign]
    assert take(head, order) == "n"


def test_a_name_that_is_taken_and_not_shown_does_not_turn_for_ever(order: Order) -> None:
    head = FakeHead(known={})
    asked: list[str] = []

    def refuse(name: str, *_: Any, **__: Any) -> None:
        asked.append(name)
        raise TakenError

    head.submit = refuse  # type: ignore[method-assign]
    with pytest.raises(AwayError, match="n exists already, and does not show it"):
        take(head, order)
    assert 2 <= len(asked) <= 20


def test_something_that_is_no_job_server_is_as_if_nobody_answered(order: Order, monkeypatch) -> None:
    head = FakeHead()

    def not_found() -> dict[str, Any]:
        raise UnknownJobError

    monkeypatch.setattr(head, "jobs", not_found)
    with pytest.raises(AwayError, match="nothing there knows of jobs"):
        take(head, order)


def test_that_a_running_job_does_not_do_all_that_is_asked_for_is_said(order: Order, capsys) -> None:
    same = {"reelmill_package": order.package_sha256}
    take(FakeHead(known={"n": job("RUNNING", metadata=same)}), order)
    assert "begun as" not in capsys.readouterr().err
    take(FakeHead(known={"n": job("RUNNING", metadata=same)}), replace(order, entrypoint="true --retry-failed"))
    assert "it was begun as `true`, not as this command would" in capsys.readouterr().err


def test_other_code_than_here_is_said(order: Order, capsys: pytest.CaptureFixture[str]) -> None:
    take(FakeHead(known={"n": job("RUNNING", metadata={"reelmill_package": order.package_sha256})}), order)
    assert "other code" not in capsys.readouterr().err
    take(FakeHead(known={"n": job("RUNNING", metadata={"reelmill_package": "of yesterday"})}), order)
    assert "other code or other files" in capsys.readouterr().err


def test_a_lost_driver_is_begun_again_so_many_times(order: Order, capsys: pytest.CaptureFixture[str]) -> None:
    head = FakeHead(job("FAILED", -9), job("FAILED"), job("SUCCEEDED", 0))
    ended = see_through(head, order, "n", retries=2, out=io.StringIO())
    assert (ended.exit_status, head.submitted) == (0, ["n", "n"])
    assert "its driver ended with status -9" in capsys.readouterr().err
    ended = see_through(FakeHead(job("FAILED", -9)), order, "n", retries=2, out=io.StringIO())
    assert (ended.status, ended.exit_status) == ("FAILED", 1)
    assert "given up after 2 retries" in capsys.readouterr().err


def test_a_head_that_forgot_the_job_gets_it_again(order: Order) -> None:
    head = FakeHead(job("RUNNING"), AwayError("gone"), AwayError("gone"), UnknownJobError(), job("SUCCEEDED", 0))
    assert see_through(head, order, "n", retries=1, out=io.StringIO()).exit_status == 0
    assert head.submitted == ["n"]


def test_a_head_that_stays_away_is_given_up(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "HEAD_AWAY_S", 0.1)
    with pytest.raises(ReelmillError, match=r"has not answered for .* the same command attaches to it"):
        see_through(FakeHead(AwayError("refused")), order, "n", retries=1, out=io.StringIO())


def test_where_no_cluster_is_is_said_at_once(reelmill: Any, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format("/data", 5))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ended = reelmill("submit", config, "--address", f"http://127.0.0.1:{port}")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "can't reach a Ray cluster at http://127.0.0.1" in ended.stderr
