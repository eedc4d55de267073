"""The time of a decoded frame, where timestamps are missing or wrong as well."""

from __future__ import annotations


class Clock:
    """Gives decoded frames, in the decoder's order, their place on the presentation clock.

    Where the container stores presentation times, the frame's pts counts; once these have run backwards more often than
    the dts did, the dts does (the rule by which libavcodec makes its best-effort timestamp). Where the container stores
    none, pts are libavformat's guess from the order of packets, and the dts is the number of the frame. With neither, a
    frame follows when the one before it has been shown: its duration later, else `interval` ticks.
    """

    def __init__(self, *, has_pts: bool, interval: int) -> None:
        self._has_pts = has_pts
        self._interval = interval
        self._next = 0  # when the frame before has been shown
        self._last_pts = self._last_dts = -(1 << 63)
        self._faulty_pts = self._faulty_dts = 0

    def ticks(self, pts: int | None, dts: int | None, duration: int) -> int:
        """The time of the next frame, in the unit of pts and dts."""
        best = self._best(pts, dts) if self._has_pts else dts
        now = self._next if best is None else best
        self._next = now + (duration if duration > 0 else self._interval)
        return now

    def _best(self, pts: int | None, dts: int | None) -> int | None:
        if dts is not None:
            self._faulty_dts += dts <= self._last_dts
            self._last_dts = dts
        elif pts is not None:
            self._last_dts = pts
        if pts is not None:
            self._faulty_pts += pts <= self._last_pts
            self._last_pts = pts
        elif dts is not None:
            self._last_pts = dts
        return pts if pts is not None and (self._faulty_pts <= self._faulty_dts or dts is None) else dts
