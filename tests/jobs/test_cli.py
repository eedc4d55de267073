import subprocess
import sys
from importlib import import_module

import pytest

from jobs.cli import VERBS


def program(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "jobs.cli", *words], capture_output=True, text=True, check=False)


def test_help_names_every_verb() -> None:
    ended = program("--help")
    assert ended.returncode == 0
    assert all(verb in ended.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_main_and_helps(verb: str) -> None:
    assert callable(import_module(f"jobs.{verb}").main)


def test_a_verb_that_there_is_not() -> None:
    assert program("nonsense").returncode == 2


@pytest.mark.parametrize("words", [("run",), ("run", "x.yaml", "--nonsense")])
def test_wrong_usage(reelmill, words) -> None:
    assert reelmill(*words).returncode == 2


def test_a_missing_config_is_wrong_usage(reelmill) -> None:
    ended = reelmill("run", "nowhere.yaml")
    assert ended.returncode == 2
    assert "nowhere.yaml: no such config file" in ended.stderr
