"""Numbers for Prometheus, through Ray: each node's agent offers what the processes on it count.

They are counted on the driver, from what the workers tell it anyway: a worker that dies takes no count with it, and
none spends time on them. Ray puts `ray_` before each name, and passes new values on every ten seconds.
"""

from __future__ import annotations

from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge, Histogram

from schemas.ledger import STATUSES
from schemas.news import Began, GaveUp, News, Progress
from schemas.work import UnitWork

UNIT_SECONDS = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0]

# fields of UnitWork -> (name, what it is)
TOTALS: Mapping[str, tuple[str, str]] = {
    "items": ("reelmill_items_total", "Clips, flow samples or feature rows made"),
    "frames_decoded": ("reelmill_frames_decoded_total", "Frames decoded"),
    "frames_used": ("reelmill_frames_used_total", "Frames decoded that are in some clip"),
    "bytes_in": ("reelmill_bytes_read_total", "Bytes of videos or shards read"),
    "bytes_out": ("reelmill_bytes_written_total", "Bytes written"),
    "source_s": ("reelmill_video_seconds_total", "Seconds of video that went through"),
    "busy_s": ("reelmill_busy_seconds_total", "Seconds of workers: computing"),
    "reading_s": ("reelmill_input_wait_seconds_total", "Seconds of workers: waiting for input, inside a unit"),
    "writing_s": ("reelmill_output_wait_seconds_total", "Seconds of workers: waiting for output"),
    "opening_s": ("reelmill_opening_seconds_total", "Seconds of workers: loading code and models"),
    "cpu_s": ("reelmill_cpu_seconds_total", "CPU seconds of workers and their decoders"),
    "device_s": ("reelmill_gpu_seconds_total", "GPU seconds, by the GPU's own clock"),
}


class Metrics:
    """Counts what workers tell. Every series has the tags `product` and `node`."""

    def __init__(self) -> None:
        tags = ("product", "node")
        self._units = Counter("reelmill_units_total", "Units made", tag_keys=tags)
        self._given_up = Counter("reelmill_units_given_up_total", "Units that could not be made", tag_keys=("product",))
        self._again = Counter("reelmill_units_begun_again_total", "Units whose worker was lost", tag_keys=("product",))
        self._running = Gauge("reelmill_units_running", "Units that workers are at", tag_keys=("product",))
        self._videos = Counter("reelmill_videos_total", "Rows of the manifest done", tag_keys=(*tags, "status"))
        self._reasons = Counter(
            "reelmill_failures_total", "Rows that failed or are partial, by reason", tag_keys=(*tags, "reason")
        )
        self._unit_s = Histogram(
            "reelmill_unit_seconds", "How long units took", boundaries=UNIT_SECONDS, tag_keys=("product",)
        )
        self._totals = {field: Counter(name, text, tag_keys=tags) for field, (name, text) in TOTALS.items()}
        self._begun: set[tuple[str, int]] = set()

    def __call__(self, news: News) -> None:
        if isinstance(news, Began):
            if (news.product, news.unit) in self._begun:
                self._again.inc(1, {"product": news.product})
            self._begun.add((news.product, news.unit))
        elif isinstance(news, GaveUp):
            self._given_up.inc(1, {"product": news.product})
        elif isinstance(news, Progress) and news.work is not None:
            self._add(news.work)
        if isinstance(news, Progress | GaveUp):
            self._begun.discard((news.product, news.unit))
        if isinstance(news, Began | GaveUp | Progress):
            running = sum(product == news.product for product, _ in self._begun)
            self._running.set(running, {"product": news.product})

    def _add(self, work: UnitWork) -> None:
        tags = {"product": work.product, "node": work.node}
        self._units.inc(1, tags)
        self._unit_s.observe(work.wall_s, {"product": work.product})
        for status in STATUSES:
            _inc(self._videos, work.rows.get(status, 0), {**tags, "status": status})
        for reason, count in work.reasons.items():
            _inc(self._reasons, count, {**tags, "reason": reason})
        for field, counter in self._totals.items():
            _inc(counter, getattr(work, field) or 0, tags)


def _inc(counter: Counter, value: float, tags: dict[str, str]) -> None:
    if value > 0:  # Ray takes no zero
        counter.inc(value, tags)
