"""How every verb ends: errors as one sentence on stderr, and the exit status of DESIGN's table."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NoReturn

import typer

from schemas.errors import ReelmillError, UsageError

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_OVER_BUDGET = 3
EXIT_INTERRUPTED = 130  # what a shell reports for Ctrl-C


def run_verb(function: Callable[..., Any]) -> NoReturn:
    """Run one verb as a program of its own."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(function)
    run_app(app)


def run_app(app: typer.Typer) -> NoReturn:
    """Run a typer app and turn what it raises into a sentence and an exit status."""
    try:
        app()
    except UsageError as error:
        _fail(str(error), EXIT_USAGE)
    except ReelmillError as error:
        _fail(str(error), EXIT_ERROR)
    except KeyboardInterrupt:
        _fail("interrupted; what was finished is kept, and the same command goes on from here", EXIT_INTERRUPTED)
    except BrokenPipeError:
        sys.exit(EXIT_ERROR)  # the reader of our output went away
    sys.exit(0)


def _fail(message: str, status: int) -> NoReturn:
    print(f"reelmill: {message}", file=sys.stderr)
    sys.exit(status)
