"""Runs whose stages are fakes (benchmarks/fake_stages), on a local Ray of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
FAKES = ROOT / "benchmarks" / "fake_stages"

DRIVER = """\
import json, sys
import pyarrow as pa
from pipeline import runner
from pipeline.graph import Plan, Product, Unit
from pipeline.runner import connect, drain
from pipeline.store import Store
from pipeline.units import write_manifest
from schemas.config import Limits
from schemas.errors import ReelmillError
from schemas.manifest import MANIFEST_SCHEMA
from schemas.pools import Pools

ask = json.loads(sys.argv[1])
products = {}
for path, upstream in ask["products"]:
    kind, name = path.split("/")
    settings = {"backend": "cpu"} if kind == "flow" else {}
    products[path] = Product(kind, name, settings, {u: products[u].fingerprint for u in upstream}, 1)
units = [Unit(i, i, 1, f"{i}", num_bytes) for i, num_bytes in enumerate(ask["units"])]
rows = [{"video_id": f"v{i}", "uri": f"s3://videos/{i}.mp4", "labels": [], "label_ids": []} for i in range(len(units))]
store = Store(ask["dataset"])
write_manifest(store, pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA))
if ask["lost_at_once"]:
    connect.CRASHED_UNITS_ALLOWED = drain.CRASHED_UNITS_ALLOWED = ask["lost_at_once"]
said = []
with runner.cluster(address=ask["address"], workers=ask["workers"]):
    try:
        errors = runner.run_plan(
            Plan(tuple(products.values()), tuple(units)), store, limits=Limits(), pending=units,
            pools=Pools.model_validate(ask["pools"]), on_progress=lambda news: None, say=said.append,
        )
    except ReelmillError as error:
        errors = [runner.UnitError(-1, str(error), True)]
print(json.dumps({"errors": [[e.unit, e.message] for e in errors], "said": said}))
"""


@dataclass(frozen=True)
class Done:
    """One line of the log: a unit went through a product."""

    product: str
    unit: int
    node: str
    began_s: float
    ended_s: float


@dataclass(frozen=True)
class FakeRun:
    errors: dict[int, str]
    said: list[str]
    log: list[Done]  # in the order in which they ended


@dataclass(frozen=True)
class FakeRunner:
    """Runs units through fake stages, in a process of its own."""

    folder: Path

    def environment(self) -> dict[str, str]:
        """What makes a Python (a cluster's, too) take the fakes."""
        return {"PYTHONPATH": f"{FAKES}:{ROOT}", "REELMILL_FAKE_STAGES": str(self.folder / "stages.json")}

    def __call__(
        self,
        products: dict[str, list[str]],
        units: list[int],
        stages: dict[str, dict[str, Any]],
        *,
        pools: dict[str, Any] | None = None,
        workers: int = 2,
        address: str | None = None,
        dataset: str | None = None,
        cwd: Path = ROOT,
        lost_at_once: int | None = None,
    ) -> FakeRun:
        """`products`: path -> upstream; `units`: the bytes of each; `stages`: what each product's stage does."""
        log = self.folder / "log"
        with_log = {path: {"log": str(log), **stages.get(path, {})} for path in products}
        (self.folder / "stages.json").write_text(json.dumps(with_log))
        ask = {
            "products": list(products.items()),
            "units": units,
            "pools": pools or {},
            "workers": workers,
            "address": address,
            "lost_at_once": lost_at_once,
            "dataset": dataset or str(self.folder / "out"),
        }
        ended = subprocess.run(
            [sys.executable, "-c", DRIVER, json.dumps(ask)],
            env={**os.environ, **self.environment()},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr[-3000:]
        answer = json.loads(ended.stdout.splitlines()[-1])
        lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        done = [Done(path, int(unit), node, float(began), float(end)) for path, unit, node, began, end in lines]
        return FakeRun(dict(answer["errors"]), answer["said"], sorted(done, key=lambda line: line.ended_s))


@pytest.fixture
def fake_run(tmp_path: Path) -> FakeRunner:
    return FakeRunner(tmp_path)
