"""`reelmill evaluate`: a config's heads, or predictions in files by a benchmark's own rules."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from jobs.entry import interruptible

HEADS = ""  # the action without a name: all words are its own
ACTIONS = {HEADS: "evaluate", "temporal": "evaluate_temporal", "ava": "evaluate_ava", "tubes": "evaluate_tubes"}


class _Group(TyperGroup):
    """Its first word is an action; else it is a config, and all words are those of evaluating its heads."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in (*ACTIONS, "--help"):
            args = [HEADS, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name in ACTIONS if name != HEADS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        # imported when it is called: evaluating heads takes torch and ray, which metrics of files do not need
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(cmd_name)(interruptible(import_module(f"jobs.{ACTIONS[cmd_name]}").main))
        return typer.main.get_command(app)


main = typer.Typer(
    cls=_Group,
    help="Evaluate the trained heads of a config, overall and class by class; or predictions in files, as the code of "
    "a benchmark does. `reelmill evaluate CONFIG --help` has the options of the first. A config that has the name of a "
    "command is ./NAME.",
    subcommand_metavar="CONFIG | COMMAND …",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@main.callback()
def _no_options() -> None:
    """Makes a group of an app whose commands typer does not know."""
