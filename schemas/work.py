"""What making one unit of one product cost. Never part of a product: a receipt holds no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class UnitWork:
    """One unit as its worker measured it, by that machine's monotonic clock.

    wall_s = busy_s + reading_s + writing_s; what opening the stage took came before. docs/observing.md says what counts
    as what.
    """

    product: str
    unit: int
    node: str  # of the Ray node; "" outside of Ray
    pid: int  # of the worker
    wall_s: float  # from taking the unit up to its receipt
    busy_s: float  # computing
    reading_s: float  # waiting for input
    writing_s: float  # waiting for output
    opening_s: float = 0.0  # loading code and model; only with the first unit of a worker
    device_s: float | None = None  # of the GPU, by its own clock; None where none was used
    cpu_s: float = 0.0  # of all threads and of the decoder process
    bytes_in: int = 0
    bytes_out: int = 0
    videos: int = 0  # rows of the manifest
    items: int = 0  # clips, feature rows …
    source_s: float = 0.0  # seconds of video, from the start of a video's first clip to the end of its last
    frames_decoded: int = 0
    frames_used: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)  # of rows that failed or are partial -> how many
