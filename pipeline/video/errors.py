"""Why a video gives nothing."""

from __future__ import annotations

from typing import Literal

Reason = Literal[
    "missing",  # no such file
    "empty_file",  # zero bytes
    "unreadable",  # not a video container, or damaged where it matters
    "no_video",  # audio, cover art or a still picture only
    "unsupported",  # a codec without a decoder here
    "no_frames",  # a video stream of which nothing decodes
    "outside",  # the row asks for a span that the file does not have
]


class VideoError(Exception):
    """A video that gives nothing. `reason` is a short class, `message` one sentence: what, and what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)  # both, so that the error survives pickling
        self.reason = reason
        self.message = message
        self.num_bytes_read = 0  # taken from the file before it was given up, where that is known

    def __str__(self) -> str:
        return self.message
