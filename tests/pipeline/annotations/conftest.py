"""Files as datasets have them, and the real ones where they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """write("a.txt", "text") -> its path; a surrogate becomes the byte that it stands for."""

    def make(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        return str(path)

    return make


@pytest.fixture
def real() -> Callable[[str], str]:
    """real("thumos14/x.csv") -> the path of a file that others published; the test is skipped where it is absent."""

    def find(name: str) -> str:
        path = DATA / name
        if not path.exists():
            pytest.skip(f"there is no {path}")
        return str(path)

    return find
