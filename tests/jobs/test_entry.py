import subprocess
import sys

import pytest

CODE = """
from jobs.entry import run_verb
from schemas.errors import ReelmillError, StorageError, UsageError
def main():
    raise {error}
run_verb(main)
"""


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        ("UsageError('bad key')", 2, "reelmill: bad key"),
        ("ReelmillError('it broke')", 1, "reelmill: it broke"),
        ("StorageError('disk full')", 1, "reelmill: disk full"),
        ("KeyboardInterrupt", 130, "the same command goes on from here"),
        ("SystemExit(3)", 3, ""),
    ],
)
def test_errors_become_a_sentence_and_a_status(error: str, status: int, words: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CODE.format(error=error)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == status
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_bug_keeps_its_traceback() -> None:
    code = CODE.format(error="ZeroDivisionError")
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr
