"""How long videos are, by their packets, read in a process of its own that may crash or hang.

python -m pipeline.forecast.lengths URI ...
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

TIMEOUT_S = 60  # for one video, with those before it


def lengths_s(uris: Sequence[str], *, timeout_s: float = TIMEOUT_S) -> list[float | None]:
    """The seconds of each video; None for one that can't be read to its end."""
    found: list[float | None] = []
    while len(found) < len(uris):
        left = uris[len(found) :]
        lines = _read(left, timeout_s=timeout_s + len(left))
        found += lines
        if len(lines) < len(left):
            found.append(None)  # the one that it died of
    return found


def _read(uris: Sequence[str], *, timeout_s: float) -> list[float | None]:
    """The same as far as a process comes."""
    command = [sys.executable, "-P", "-m", "pipeline.forecast.lengths", *uris]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            text, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            text, _ = process.communicate()
        except BaseException:
            process.kill()
            raise
    return [float(line) if line != "-" else None for line in text.split()]


def main(uris: Sequence[str]) -> None:
    # av: only in the process that may crash
    from pipeline.video.errors import VideoError
    from pipeline.video.source import open_source
    from pipeline.video.timeline import scan

    for uri in uris:
        try:
            with open_source(uri) as source:
                timeline = scan(source.file, progress=lambda count: None)
            print(float(timeline.end_s - timeline.begin_s), flush=True)
        except VideoError:
            print("-", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
