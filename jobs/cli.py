"""`reelmill VERB`: ties the verbs together. Each verb's module is imported when it is called, so `--help` is quick."""

from __future__ import annotations

import sys
from importlib import import_module

import typer

from jobs.entry import interruptible, run_app

VERBS: dict[str, str] = {
    "index": "Build a manifest from a folder, a csv or a split list.",
    "plan": "Time a few videos here, and predict what a run takes on a cluster.",
    "run": "Run a config's graph here or on a cluster; the same command resumes it.",
    "submit": "Run a config on a cluster as a Ray job, with this code; the same command attaches and resumes.",
    "status": "Say what is done, failed and stale, from storage alone.",
    "report": "Write an HTML page of what was made: counts, clips, flow, heads, costs.",
    "verify": "Hash all files again, and make random clips again from what they were made from.",
    "train": "Train heads on stored features, or a feature network on stored clips.",
    "evaluate": "Evaluate trained heads, or predictions in files by the rules of a benchmark.",
    "weights": "Say what a weights file is, or convert it.",
    "export": "Write a product as another tool reads it.",
    "synth": "Make a labelled motion dataset.",
}
GROUPS = {"evaluate": "evaluate_group"}  # of actions that are imported one by one


def main() -> None:
    app = typer.Typer(
        help="Turn folders of video into clip shards, stored features and trained heads.",
        add_completion=False,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
    )
    wanted = [word for word in sys.argv[1:] if word in VERBS][:1]
    for verb, text in VERBS.items():
        # only the verb that is called is imported: importing torch for `--help` would cost seconds
        function = import_module(f"jobs.{GROUPS.get(verb, verb)}").main if wanted == [verb] else _not_called
        if isinstance(function, typer.Typer):  # a verb of several actions
            app.add_typer(function, name=verb)
            continue
        app.command(verb, help=None if wanted == [verb] else text, short_help=text)(interruptible(function))
    run_app(app)


def _not_called() -> None:
    raise AssertionError("a verb that was not named on the command line can't be reached")


if __name__ == "__main__":
    main()
