import subprocess
import sys

import pytest

from jobs.entry import run_verb
from schemas.errors import ReelmillError, StorageError, UsageError

CODE = """
from jobs.entry import run_verb
from schemas.errors import UsageError
def main():
    raise {error}
run_verb(main)
"""


def program(error: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", CODE.format(error=error)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (UsageError("bad key"), 2, "reelmill: bad key"),
        (ReelmillError("it broke"), 1, "reelmill: it broke"),
        (StorageError("disk full"), 1, "reelmill: disk full"),
        (KeyboardInterrupt(), 130, "the same command goes on from here"),
        (SystemExit(3), 3, ""),
    ],
    ids=repr,
)
def test_errors_become_a_sentence_and_a_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, status: int, words: str
) -> None:
    def main() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["verb"])
    with pytest.raises(SystemExit) as ended:
        run_verb(main)
    assert ended.value.code == status
    assert words in capsys.readouterr().err


def test_a_process_ends_with_that_status() -> None:
    ended = program("UsageError('bad key')")
    assert (ended.returncode, ended.stderr) == (2, "reelmill: bad key\n")


def test_a_bug_keeps_its_traceback() -> None:
    ended = program("ZeroDivisionError")
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr
