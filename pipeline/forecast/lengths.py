"""How long videos are, by their packets, each read in a process of its own that may crash or hang.

python -m pipeline.forecast.lengths URI
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.threads import num_cores

TIMEOUT_S = 120


def lengths_s(uris: Sequence[str]) -> list[float | None]:
    """The seconds of each video; None for one that can't be read to its end."""
    with ThreadPoolExecutor(num_cores()) as pool:
        return list(pool.map(_length_s, uris))


def _length_s(uri: str) -> float | None:
    command = [sys.executable, "-P", "-m", "pipeline.forecast.lengths", uri]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
        return float(ended.stdout)
    except (subprocess.SubprocessError, ValueError):
        return None


def main(uri: str) -> None:
    # av: only in the process that may crash
    from pipeline.video.source import open_source
    from pipeline.video.timeline import scan

    with open_source(uri) as source:
        timeline = scan(source.file, progress=lambda count: None)
    print(float(timeline.end_s - timeline.begin_s))


if __name__ == "__main__":
    main(sys.argv[1])
