"""Runs whose stages are fakes (benchmarks/fake_stages), on a local Ray in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
FAKES = ROOT / "benchmarks" / "fake_stages"

DRIVER = """\
import json, sys
import pyarrow as pa
import ray
from pipeline import runner
from pipeline.graph import Plan, Product, Unit
from pipeline.runner import connect, drain
from pipeline.store import Store
from pipeline.units import write_manifest
from schemas.config import Limits
from schemas.errors import ReelmillError
from schemas.manifest import MANIFEST_SCHEMA
from schemas.pools import Pools

LOST_AT_ONCE = connect.CRASHED_UNITS_ALLOWED

def run(ask):
    products = {}
    for path, upstream in ask["products"]:
        kind, name = path.split("/")
        settings = {"backend": "cpu"} if kind == "flow" else {}
        products[path] = Product(kind, name, settings, {u: products[u].fingerprint for u in upstream}, 1)
    units = [Unit(i, i, 1, f"{i}", num_bytes) for i, num_bytes in enumerate(ask["units"])]
    names = [f"v{i}" for i in range(len(units))]
    rows = [{"video_id": name, "uri": f"s3://videos/{name}.mp4", "labels": [], "label_ids": []} for name in names]
    store = Store(ask["dataset"])
    write_manifest(store, pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA))
    connect.CRASHED_UNITS_ALLOWED = drain.CRASHED_UNITS_ALLOWED = ask["lost_at_once"] or LOST_AT_ONCE
    ray.data.DataContext.get_current().max_errored_blocks = connect.CRASHED_UNITS_ALLOWED
    said = []
    try:
        errors = runner.run_plan(
            Plan(tuple(products.values()), tuple(units)), store, limits=Limits(), pending=units,
            pools=Pools.model_validate(ask["pools"]), on_progress=lambda news: None, say=said.append,
        )
    except ReelmillError as error:
        errors = [runner.UnitError(-1, str(error), True)]
    return {"errors": [[e.unit, e.message] for e in errors], "said": said}

with runner.cluster(**json.loads(sys.argv[1])):
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)
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


def environment_of(folder: Path) -> dict[str, str]:
    """What makes a Python (a cluster's, too) take the fakes that the folder's file describes."""
    return {"PYTHONPATH": f"{FAKES}:{ROOT}", "REELMILL_FAKE_STAGES": str(folder / "stages.json")}


class Driver:
    """A process with a Ray, which makes one run after the other."""

    def __init__(self, folder: Path, *, cwd: Path = ROOT, **connection: object) -> None:
        self._log = folder / "driver.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", DRIVER, json.dumps(connection)],
                env={**os.environ, **environment_of(folder)},
                cwd=cwd,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def __call__(self, ask: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(ask) + "\n")
        self._process.stdin.flush()
        while line := self._process.stdout.readline():
            if line.startswith('{"errors"'):
                return json.loads(line)
        raise AssertionError(self._log.read_text()[-3000:])

    def end(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0, self._log.read_text()[-3000:]


@dataclass(frozen=True)
class FakeRunner:
    """Runs units through fake stages."""

    folder: Path  # of this run's dataset and log
    shared: Path  # of the file that describes the fakes, which workers look at for each unit
    local: Callable[[], Driver]

    def __call__(
        self,
        products: dict[str, list[str]],
        units: list[int],
        stages: dict[str, dict[str, Any]],
        *,
        pools: dict[str, Any] | None = None,
        workers: int | None = None,
        address: str | None = None,
        dataset: str | None = None,
        cwd: Path = ROOT,
        lost_at_once: int | None = None,
    ) -> FakeRun:
        """`products`: path -> upstream; `units`: the bytes of each; `stages`: what each product's stage does. On the
        local Ray of two workers that all tests share; with `address` or `workers`, from a process of its own."""
        log = self.folder / "log"
        with_log = {path: {"log": str(log), **stages.get(path, {})} for path in products}
        (self.shared / "stages.json").write_text(json.dumps(with_log))
        ask = {
            "products": list(products.items()),
            "units": units,
            "pools": pools or {},
            "lost_at_once": lost_at_once,
            "dataset": dataset or str(self.folder / "out"),
        }
        if address or workers:
            driver = Driver(self.shared, cwd=cwd, address=address, workers=workers)
            answer = driver(ask)
            driver.end()
        else:
            answer = self.local()(ask)
        lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        done = [Done(path, int(unit), node, float(began), float(end)) for path, unit, node, began, end in lines]
        return FakeRun(dict(answer["errors"]), answer["said"], sorted(done, key=lambda line: line.ended_s))


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the fakes of a file of tests are described."""
    return tmp_path_factory.mktemp("fakes")


@pytest.fixture(scope="module")
def fake_environment(fakes: Path) -> dict[str, str]:
    return environment_of(fakes)


@pytest.fixture(scope="module")
def local_driver(fakes: Path) -> Iterator[Callable[[], Driver]]:
    started: list[Driver] = []

    def driver() -> Driver:
        if not started:
            started.append(Driver(fakes, workers=2))
        return started[0]

    yield driver
    for one in started:
        one.end()


@pytest.fixture
def fake_run(fakes: Path, local_driver: Callable[[], Driver], tmp_path: Path) -> FakeRunner:
    return FakeRunner(tmp_path, fakes, local_driver)
