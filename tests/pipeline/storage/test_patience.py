import errno
import time

import pytest

from pipeline.storage import patience
from pipeline.storage.patience import PATIENCE_VARIABLE, Truncated, is_transient, patience_s, persist
from schemas.errors import StorageError, UsageError

# as pyarrow 26 says them
PASSING = [
    "When reading information for key 'x' in bucket 'b': AWS Error NETWORK_CONNECTION during HeadObject operation: "
    "curlCode: 7, Could not connect to server; Details: Failed to connect to 127.0.0.1:5",
    "AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 28, Timeout was reached",
    "AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 6, Could not resolve hostname",
    "AWS Error SLOW_DOWN during GetObject operation: later",
    "AWS Error INTERNAL_FAILURE during PutObject operation: We encountered an internal error.",
    "AWS Error UNKNOWN (HTTP status 503) during HeadObject operation: No response body.",
    "AWS Error UNKNOWN (HTTP status 429) during HeadObject operation: No response body.",
    "Got the following 1 errors when deleting objects in S3 bucket 'b': - key 'x': InternalError",
    "google::cloud::Status(UNAVAILABLE: try later)",
    "When completing multiple part upload for key 'x' in bucket 'b': AWS Error NO_SUCH_UPLOAD during "
    "CompleteMultipartUpload operation: The specified upload does not exist.",
]
LASTING = [
    "When reading information for key 'x' in bucket 'b': AWS Error ACCESS_DENIED during HeadObject operation: No "
    "response body.",
    "AWS Error NO_SUCH_BUCKET during ListObjectsV2 operation: The specified bucket does not exist",
    "AWS Error SIGNATURE_DOES_NOT_MATCH during ListObjectsV2 operation: no (Request ID: 500500500)",
    "AWS Error UNKNOWN (HTTP status 400) during HeadObject operation: No response body.",
    "AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 60, SSL peer certificate was not OK",
    "google::cloud::Status(PERMISSION_DENIED: no)",
]


@pytest.mark.parametrize("text", PASSING)
def test_what_passes(text) -> None:
    assert is_transient(OSError(text))


@pytest.mark.parametrize("text", LASTING)
def test_what_lasts(text) -> None:
    assert not is_transient(OSError(text))


def test_errors_with_a_number() -> None:
    assert is_transient(ConnectionResetError())
    assert is_transient(TimeoutError())
    assert is_transient(Truncated("5 bytes came"))
    assert is_transient(OSError(errno.EHOSTUNREACH, "no route"))
    assert not is_transient(OSError(errno.ENOSPC, "disk full"))


def test_what_is_missing_is_told_at_once() -> None:
    with pytest.raises(FileNotFoundError):
        persist(lambda: open("/no/such/file"), "here", doing="read")  # noqa: PTH123


def test_an_outage_is_told_once_and_so_is_its_end(monkeypatch, capsys) -> None:
    monkeypatch.setattr(patience, "QUIET_S", 0.1)
    left = [OSError(PASSING[0])] * 4

    def act() -> str:
        if left:
            raise left.pop()
        return "done"

    assert persist(act, "s3://b/x", doing="read") == "done"
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith(
        "reelmill: s3://b/x: storage does not answer (NETWORK_CONNECTION during HeadObject operation: "
    )
    assert first.endswith("; trying again for 300 s") or first.endswith("; trying again for 299 s")
    assert last.startswith("reelmill: s3://b/x: storage answers again after ")


def test_whoever_listens_is_told_in_place_of_stderr(monkeypatch, capsys) -> None:
    monkeypatch.setattr(patience, "QUIET_S", 0.1)
    said = []
    for listening in (True, False):
        left = [OSError(PASSING[0])] * 4
        act = lambda left=left: left and (_ for _ in ()).throw(left.pop())  # noqa: E731
        if listening:
            with patience.telling(lambda sentence, is_away: said.append((sentence.split(" (")[0], is_away))):
                persist(act, "s3://b/x", doing="read")
            assert capsys.readouterr().err == ""
        else:
            persist(act, "s3://b/x", doing="read")
            assert len(capsys.readouterr().err.splitlines()) == 2
    assert said[0] == ("s3://b/x: storage does not answer", True)
    assert [is_away for _, is_away in said] == [True, False]


def test_a_short_absence_is_not_told(capsys) -> None:
    left = [OSError(PASSING[0])]
    persist(lambda: left and (_ for _ in ()).throw(left.pop()), "s3://b/x", doing="read")
    assert capsys.readouterr().err == ""


def test_no_request_id_in_a_sentence() -> None:
    def act() -> None:
        raise OSError(LASTING[2])

    with pytest.raises(StorageError, match="operation: no\\); check") as error:
        persist(act, "s3://b/x", doing="list")
    assert "500500500" not in str(error.value)


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan"])
def test_a_bad_patience(monkeypatch, text) -> None:
    monkeypatch.setenv(PATIENCE_VARIABLE, text)
    with pytest.raises(UsageError, match=PATIENCE_VARIABLE):
        patience_s()


def test_what_takes_longer_than_our_patience_is_tried_again_all_the_same(monkeypatch) -> None:
    monkeypatch.setenv(PATIENCE_VARIABLE, "0.5")
    tries = []

    def send() -> str:
        tries.append(1)
        if len(tries) == 1:
            time.sleep(0.6)  # a large upload that breaks near its end
            raise ConnectionResetError(errno.ECONNRESET, "reset")
        return "sent"

    assert persist(send, "s3://b/x", doing="write") == "sent"


def test_patience_ends_for_what_fails_slowly(monkeypatch) -> None:
    monkeypatch.setenv(PATIENCE_VARIABLE, "0.3")
    tries = []

    def send() -> None:
        tries.append(1)
        time.sleep(0.2)
        raise ConnectionResetError(errno.ECONNRESET, "reset")

    with pytest.raises(StorageError, match="did not answer"):
        persist(send, "s3://b/x", doing="write")
    assert 2 <= len(tries) <= 4
