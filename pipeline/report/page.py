"""What the page says, as plain text, and how it becomes HTML.

All of it may come from strangers' data: ids, labels, messages, metrics. The template escapes every value, and each
passes `redacted` on its way; the page forbids scripts, and whatever would be fetched, by its content security policy.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.secrets import redacted

TEMPLATES = Path(__file__).parent
LONGEST_CHARACTERS = 400  # of one text; an id may be a path, a message may repeat a whole file


@dataclass(frozen=True, slots=True)
class Cells:
    """A table: the first `num_texts` columns are words, the others numbers."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_texts: int = 1
    title: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """`uri` is a data URI of ours, long and without anything to escape; `alt` says what is seen to who can't see it."""

    uri: Markup
    alt: str
    width_px: int
    height_px: int
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """What is said of one product, reason or run: sentences, tables, pictures, and a table that is folded."""

    title: str = ""
    sentences: Sequence[str] = ()
    tables: Sequence[Cells] = ()
    pictures: Sequence[Picture] = ()
    folded: Cells | None = None


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    parts: Sequence[Part]

    @property
    def anchor(self) -> str:
        return self.title.lower().replace(" ", "-")


@dataclass(frozen=True, slots=True)
class Page:
    dataset: str
    made: str  # when
    is_complete: bool
    sentences: Sequence[str]  # what is pending, and who is at it
    sections: Sequence[Section]


def render(page: Page) -> str:
    """The page as HTML that needs nothing else."""
    css = (TEMPLATES / "page.css").read_text()
    found = _environment().get_template("page.html").render(page=page, css=Markup(css), csp=_policy(css))
    return found + "\n"


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(value: Any) -> Any:
    """Every value on its way into the page; afterwards it is escaped."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    text = redacted(value)
    return text if len(text) <= LONGEST_CHARACTERS else f"{text[:LONGEST_CHARACTERS]}…"


def _policy(css: str) -> str:
    """Nothing is run or fetched: only this very style sheet and pictures inside the page."""
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
