"""Trees of tiny files to index: what is in a video does not matter to a source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from pipeline.sources import Indexed, index_source
from schemas.sources import Source


@pytest.fixture
def make_tree(tmp_path: Path) -> Callable[..., Path]:
    """make_tree("a/x.mp4", …) -> the folder `videos`, with those files in it."""

    def make(*paths: str, folder: str = "videos") -> Path:
        root = tmp_path / folder
        root.mkdir(parents=True, exist_ok=True)
        for path in paths:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(path.encode())
        return root

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """write("list.txt", "text") -> its path."""

    def make(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        return path

    return make


@pytest.fixture
def index() -> Callable[..., Indexed]:
    """index(kind=…, videos=…) -> Indexed, through the config model as users write it."""

    def run(**settings: Any) -> Indexed:
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}
        return index_source(TypeAdapter(Source).validate_python(plain))

    return run


@pytest.fixture
def issues_of() -> Callable[..., list[tuple[str, int | None, str]]]:
    """issues_of(indexed) -> (kind, line, value) of each issue."""

    def read(indexed: Indexed) -> list[tuple[str, int | None, str]]:
        return [(row["kind"], row["line"], row["value"]) for row in indexed.issues.to_pylist()]

    return read


@pytest.fixture
def column() -> Callable[[Indexed, str], dict[str, Any]]:
    """column(indexed, name) -> video_id: value."""

    def read(indexed: Indexed, name: str) -> dict[str, Any]:
        return dict(zip(indexed.table["video_id"].to_pylist(), indexed.table[name].to_pylist(), strict=True))

    return read
