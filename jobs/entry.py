"""How every verb ends: errors as one sentence on stderr, and the exit status of DESIGN's table."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import typer

from pipeline.secrets import NO_SECRETS, has_secret, redacted
from schemas.errors import ReelmillError, UsageError

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_OVER_BUDGET = 3
EXIT_INTERRUPTED = 130  # what a shell reports for Ctrl-C


def run_verb(function: Callable[..., Any]) -> NoReturn:
    """Run one verb as a program of its own."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(interruptible(function))
    run_app(app)


class _Interrupted(Exception):  # noqa: N818
    """Ctrl-C, on its way past typer, which would end the process without a word."""


def interruptible(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same command, whose Ctrl-C reaches `run_app`."""

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except KeyboardInterrupt:
            raise _Interrupted from None

    return command


def run_app(app: typer.Typer) -> NoReturn:
    """Run a typer app and turn what it raises into a sentence and an exit status."""
    if any(has_secret(word) for word in sys.argv[1:]):  # before anything repeats it
        _fail(f"{' '.join(word for word in sys.argv[1:] if has_secret(word))}: {NO_SECRETS}", EXIT_USAGE)
    try:
        app()
    except UsageError as error:
        _fail(str(error), EXIT_USAGE)
    except ReelmillError as error:
        _fail(str(error), EXIT_ERROR)
    except (KeyboardInterrupt, _Interrupted):
        _fail("interrupted; what was finished is kept, and the same command goes on from here", EXIT_INTERRUPTED)
    except BrokenPipeError:
        sys.exit(EXIT_ERROR)  # the reader of our output went away
    except OSError as error:
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}", EXIT_ERROR)
    sys.exit(0)


def _fail(message: str, status: int) -> NoReturn:
    print(f"reelmill: {redacted(message)}", file=sys.stderr)
    sys.exit(status)
