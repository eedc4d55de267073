"""What a seed draws, and what the faults do to a real process. Whole runs are in tests/cluster/test_faults.py."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from pipeline import chaos
from pipeline.chaos import VARIABLE, Fault, Kind, draw, striking, unleashed
from pipeline.graph import Product, Unit
from pipeline.store import Store

PRODUCTS = [
    Product(kind, "x", settings={}, upstream={}, code_version=1)  # type: ignore[arg-type]
    for kind in ("clips", "flow", "features")
]
VICTIM = """\
import sys, time
from pipeline import chaos
from pipeline.store import Store
store = Store(sys.argv[1])
with chaos.striking(store, "clips/x", 3):
    print("before", flush=True)
    {what}
print("after", flush=True)
"""


def units(number: int) -> list[Unit]:
    return [Unit(index, index, 1, "r") for index in range(number)]


def fault(kind: Kind, *, size: float = 1.0, after_s: float = 0.0) -> Fault:
    return Fault(7, kind, "clips/x", 3, after_s, size)


def strike(folder: Path, planned: Fault, what: str) -> subprocess.CompletedProcess[str]:
    environment = {VARIABLE: json.dumps([asdict(planned)]), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", VICTIM.format(what=what), str(folder)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_a_seed_is_a_plan() -> None:
    drawn = draw(1, PRODUCTS, units(40), is_local=False)
    assert drawn == draw(1, PRODUCTS, units(40), is_local=False)
    assert drawn != draw(2, PRODUCTS, units(40), is_local=False)
    assert {fault.kind for fault in drawn} >= {"kill worker", "kill decoder", "skew clock", "lose storage"}
    assert {fault.product for fault in drawn if fault.kind == "kill worker"} == {product.path for product in PRODUCTS}
    assert {fault.product for fault in drawn if fault.kind == "kill decoder"} == {"clips/x"}


@pytest.mark.parametrize("number", [1, 3, 12, 100_000])
def test_a_unit_suffers_one_fault_at_most(number: int) -> None:
    for seed in range(20):
        drawn = draw(seed, PRODUCTS, units(number), is_local=True)
        assert 0 < len(drawn) <= 64
        assert len({fault.unit for fault in drawn}) == len(drawn)
        assert "lose storage" not in {fault.kind for fault in drawn}
        assert [fault.kind for fault in drawn].count("fill disk") <= 1


def test_about_every_second_seed_fills_the_disk() -> None:
    kinds = [{fault.kind for fault in draw(seed, PRODUCTS, units(40), is_local=True)} for seed in range(100)]
    assert 30 < sum("fill disk" in drawn for drawn in kinds) < 70


def test_a_killed_worker_dies_in_the_middle_or_at_the_end_and_only_once(tmp_path: Path) -> None:
    middle = strike(tmp_path / "a", fault("kill worker"), "time.sleep(60)")
    end = strike(tmp_path / "b", fault("kill worker", after_s=60), "pass")
    assert (middle.returncode, end.returncode, end.stdout) == (-9, -9, "before\n")
    assert "after" not in middle.stdout
    again = strike(tmp_path / "b", fault("kill worker", after_s=60), "pass")
    assert (again.returncode, again.stdout) == (0, "before\nafter\n")


def test_a_decoder_is_killed_once_it_is_there(tmp_path: Path) -> None:
    what = (
        "import subprocess; time.sleep(0.3); name = 'pipeline.video.decoder_process'; "
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', name]).wait())"
    )
    assert strike(tmp_path, fault("kill decoder"), what).stdout == "before\n-9\nafter\n"


def test_a_full_disk_is_a_sentence_and_over_afterwards(tmp_path: Path) -> None:
    what = """
    try:
        store.put("clips/x/big", bytes(1 << 20))
    except Exception as error:
        print(type(error).__name__, error)
store.put("clips/x/small", b"1")
"""
    done = strike(tmp_path, fault("fill disk"), what.strip())
    assert "StorageError" in done.stdout, done.stderr
    assert "can't write here" in done.stdout
    assert done.stdout.endswith("after\n")
    assert Store(str(tmp_path)).files("clips/x") == ["small"]


def test_the_clock_is_off_by_a_day(tmp_path: Path) -> None:
    what = "import datetime; print(round(time.time() - datetime.datetime.now().timestamp()))"
    assert strike(tmp_path, fault("skew clock", size=-1.0), what).stdout == "before\n-86400\nafter\n"


def test_storage_that_is_away_is_waited_for(tmp_path: Path) -> None:
    what = """
    from pipeline.storage.patience import persist
    began = time.monotonic()
    print(persist(lambda: 'back', 'here', doing='read'), time.monotonic() - began > 1)
"""
    assert strike(tmp_path, fault("lose storage", size=2.0), what.strip()).stdout == "before\nback True\nafter\n"


def test_off_it_is_nothing(tmp_path: Path) -> None:
    store, said = Store(str(tmp_path / "none")), []
    with unleashed(None, store, PRODUCTS, units(3), tell=said.append) as environment, striking(store, "clips/x", 3):
        assert environment == {}
    assert said == []
    assert not (tmp_path / "none").exists()
    assert chaos._faults == {}


def test_it_says_what_is_coming_and_what_came(tmp_path: Path) -> None:
    store, said = Store(str(tmp_path)), []
    with unleashed(1, store, PRODUCTS, units(12), tell=said.append) as environment:
        planned = [Fault(**fields) for fields in json.loads(environment[VARIABLE])]
        store.put(planned[0].note, json.dumps({"at": "now", "fault": "kill", "pid": 1, "host": "h"}).encode())
    assert "hurts itself on purpose" in said[0]
    assert f"  {planned[0]}" in said
    assert said[-2:] == [f"CHAOS 1: 1 of {len(planned)} faults struck:", "  now kill (process 1 on h)"]
