"""How long a video may still take: its limits, and the patience that its storage or its disk gets."""

from __future__ import annotations

from pipeline.storage.patience import patience_s
from pipeline.video.errors import VideoError
from schemas.config import Limits
from schemas.errors import StorageError

SLICE_S = 0.5  # a wait counts at most this much at a time, so that a machine asleep accuses no video
STORAGE_SPARE_S = 120.0  # beyond storage's patience: its last attempt, and the looks at the bucket after it


class TimeLeft:
    """What is left of a video's time. Only waiting for the decoder counts, not what the caller does with clips."""

    def __init__(self, limits: Limits, *, where: str) -> None:
        self._limits = limits
        self._where = where
        self._stall_left_s = limits.stall_s
        self._video_left_s = limits.video_s
        self._storage_left_s: float | None = None  # while storage is asked
        self._disk_s = self._disk_left_s = patience_s() + STORAGE_SPARE_S  # for a disk or mount that does not answer

    def advanced(self) -> None:
        """Something new came."""
        self._stall_left_s = self._limits.stall_s
        self._disk_left_s = self._disk_s

    def waits_for_storage(self, is_asked: bool) -> None:
        """A storage that is away for minutes is no fault of the video; the decoder process gives up by itself."""
        self._storage_left_s = patience_s() + STORAGE_SPARE_S if is_asked else None

    def slice_s(self) -> float:
        """How long to wait now. Raises VideoError "too_slow" or "stalled" when nothing is left, and StorageError where
        a disk has taken too long."""
        if self._disk_left_s <= 0:
            raise StorageError(
                f"{self._where}: the disk or mount that it lies on does not answer; when it is back, "
                "the same command goes on from here"
            )
        if self._storage_left_s is not None:
            if self._storage_left_s <= 0:  # native code wrote over its memory, and turns in circles
                raise VideoError("stalled", limit_sentence("stalled", self._limits))
            return min(self._storage_left_s, SLICE_S)
        for reason, left_s in (("too_slow", self._video_left_s), ("stalled", self._stall_left_s)):
            if left_s <= 0:
                raise VideoError(reason, limit_sentence(reason, self._limits))
        return min(self._video_left_s, self._stall_left_s, SLICE_S)

    def waited(self, elapsed_s: float, *, for_disk: bool) -> None:
        """So long nothing came; `for_disk`: the kernel held the decoder meanwhile."""
        counted_s = min(elapsed_s, SLICE_S)
        if self._storage_left_s is not None:
            self._storage_left_s -= counted_s
            return
        if for_disk:
            self._disk_left_s -= counted_s
            return
        self._video_left_s -= counted_s
        self._stall_left_s -= counted_s


def limit_sentence(reason: str, limits: Limits) -> str:
    """What became of a video that came to one of its limits; the reason itself for any other."""
    return {
        "stalled": f"the decoder made no progress for {limits.stall_s:g} s (limits.stall_s)",
        "too_slow": f"decoding took more than {limits.video_s:g} s (limits.video_s)",
        "out_of_memory": f"decoding needs more than {limits.memory_gb:g} GB (limits.memory_gb)",
    }.get(reason, reason)
