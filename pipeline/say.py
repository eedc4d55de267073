"""Sentences for the person at the terminal."""

from __future__ import annotations

import sys

from pipeline.secrets import redacted


def say(sentence: str) -> None:
    """Print a sentence on stderr, at once and unwrapped, without a secret in it; beside a progress bar, too."""
    print(redacted(sentence), file=sys.stderr, flush=True)
