"""A stage that does what a file says, for runs that are about scheduling.

REELMILL_FAKE_STAGES names a JSON file: {"clips/a": {"sleep_s": 0.1, "kills": [3], "write": true, "log": "/tmp/log"}},
by product. It is read anew for each unit.

    no_card   why its card can't be made
    sleep_s   how long a unit takes
    kills     units that kill their worker each time, after that
    write     the receipt is written as by a real stage; else it is only returned
    log       a file that gets a line for each unit: product, unit, node, and when it began and ended (monotonic clock)
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from pipeline import receipts
from pipeline.graph import Product, Unit
from pipeline.meter import Meter
from pipeline.store import Store
from schemas.config import Limits
from schemas.errors import ReelmillError
from schemas.ledger import LedgerRow
from schemas.receipt import Receipt

SETTINGS = "REELMILL_FAKE_STAGES"


def describe(product: Product, store: Store) -> dict[str, Any]:
    settings = _settings(product)
    if "no_card" in settings:
        raise ReelmillError(settings["no_card"])
    return {"backend": {"used": settings.get("backend", "cpu")}}


class _Fake:
    def __init__(self, product: Product, store: Store) -> None:
        self._product = product
        self._store = store
        self.meter = Meter()

    def __call__(self, unit: Unit) -> Receipt:
        settings = _settings(self._product)
        began_s = time.monotonic()
        time.sleep(settings.get("sleep_s", 0.0))
        if unit.index in settings.get("kills", ()):
            os.kill(os.getpid(), signal.SIGKILL)
        if "log" in settings:
            import ray

            node = ray.get_runtime_context().get_node_id()
            line = f"{self._product.path} {unit.index} {node} {began_s} {time.monotonic()}\n"
            with Path(settings["log"]).open("a") as file:
                file.write(line)  # one write of a short line: appends of several processes do not mix
        if not settings.get("write"):
            rows = {"ok": unit.num_rows, "partial": 0, "failed": 0, "filtered": 0}
            fingerprint = self._product.unit_fingerprint(unit)
            return Receipt(
                product=self._product.path, unit=unit.index, fingerprint=fingerprint, rows=rows, items=0, files=()
            )
        with receipts.begin(self._store, self._product, unit) as writer:
            names = (f"v{unit.start_row + row:07d}" for row in range(unit.num_rows))
            return writer.commit([LedgerRow(name, f"/{name}", "ok") for name in names], items=0)

    def close(self) -> None:
        """Nothing is held."""


def open_stage(product: Product, store: Store, limits: Limits) -> _Fake:
    return _Fake(product, store)


def _settings(product: Product) -> dict[str, Any]:
    path = os.environ.get(SETTINGS)
    found = json.loads(Path(path).read_text()) if path else {}
    return dict(found.get(product.path, {}))
