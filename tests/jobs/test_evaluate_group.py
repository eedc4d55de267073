"""`reelmill evaluate`: its actions, and a config in their place."""

import subprocess
import sys
from importlib import import_module

import pytest
from typer.testing import CliRunner

from jobs.evaluate_group import ACTIONS, HEADS, main
from schemas.errors import UsageError


def test_help_names_all_actions_and_imports_no_torch() -> None:
    code = "import sys; sys.argv = ['reelmill', 'evaluate', '--help']\n"
    code += "from jobs import cli\ntry: cli.main()\nfinally: print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert all(f" {name} " in ended.stdout for name in ACTIONS if name != HEADS), ended
    assert ended.stdout.endswith("False\n")


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_has_a_main(action: str) -> None:
    assert callable(import_module(f"jobs.{ACTIONS[action]}").main)


@pytest.mark.parametrize("words", [["nowhere.yaml"], ["./ava"], ["--json", "nowhere.yaml"], ["x", "--split", "val"]])
def test_any_other_word_is_a_config(words: list[str]) -> None:
    error = CliRunner().invoke(main, words).exception
    assert isinstance(error, UsageError)
    assert "no such config file" in str(error)


@pytest.mark.parametrize(
    "words", [[], ["--split", "val"], ["tubes"], ["tubes", "--nonsense"], ["x.yaml", "--nonsense"]]
)
def test_wrong_usage(words: list[str]) -> None:
    ended = CliRunner().invoke(main, words)
    assert ended.exit_code == 2
    assert "Usage: " in ended.output


def test_help_of_a_config_has_its_options() -> None:
    shown = CliRunner().invoke(main, ["x.yaml", "--help"]).output
    assert all(option in shown for option in ("--head", "--split", "--json"))
