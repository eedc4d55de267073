"""What the tests of flow share."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from interpreter import Interpreter


@pytest.fixture(scope="session")
def interpreted() -> Iterator[Callable[..., Any]]:
    """Runs a top-level function of a test module where Triton's kernels are interpreted on the CPU."""
    pytest.importorskip("triton", reason="Triton has no build for this platform")
    interpreter = Interpreter()
    yield interpreter.call
    interpreter.close()
