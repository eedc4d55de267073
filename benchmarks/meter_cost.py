"""What measuring costs: seconds of a unit's meter, beside the seconds of a unit.

    python benchmarks/meter_cost.py [--clips 640] [--unit-s 30]

The counts are those of a unit of 64 videos with ten clips each. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import io
import os
import time
from collections.abc import Callable

from pipeline.meter import Meter
from schemas.ledger import LedgerRow
from schemas.receipt import Receipt

VIDEOS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--clips", type=int, default=640)
    parser.add_argument("--unit-s", type=float, default=30.0, help="what a unit takes")
    options = parser.parse_args()
    meter = Meter(child=os.getpid)
    receipt = Receipt(product="clips/a", unit=0, fingerprint="", rows={"ok": VIDEOS}, items=options.clips, files=())
    rows = [LedgerRow(str(video), "", "ok") for video in range(VIDEOS)]

    def unit(measured: bool) -> None:
        raw = io.BytesIO()
        file = meter.output(raw) if measured else raw
        if measured:
            meter.begin()
        for clip in range(options.clips):
            file.write(b"")
            if measured:
                meter.covers(str(clip % VIDEOS), clip, clip + 1)
        if measured:
            for _ in range(VIDEOS):
                meter.frames(decoded=1, used=1)
                meter.waited(0.0)
            meter.ledger(rows)
            with meter.writing():
                pass
            meter.end(receipt)

    cost_s = best(lambda: unit(True)) - best(lambda: unit(False))
    print(
        f"{cost_s * 1e3:.2f} ms a unit of {options.clips} clips: {cost_s / options.unit_s:.4%} of {options.unit_s:g} s"
    )


def best(run: Callable[[], None], times: int = 30) -> float:
    found = []
    for _ in range(times):
        began_s = time.perf_counter()
        run()
        found.append(time.perf_counter() - began_s)
    return min(found)


if __name__ == "__main__":
    main()
