"""What a unit costs, measured with real processes and real waits."""

import os
import subprocess
import sys
import time
from io import BytesIO

import pytest

from pipeline.meter import Meter
from schemas.ledger import LedgerRow
from schemas.receipt import FileEntry, Receipt

RECEIPT = Receipt(
    product="clips/a",
    unit=3,
    fingerprint="f",
    rows={"ok": 2, "partial": 1, "failed": 1, "filtered": 0},
    items=9,
    files=(FileEntry(path="a.tar", bytes=100, sha256="0"), FileEntry(path="b.parquet", bytes=11, sha256="0")),
)


def test_time_is_busy_but_for_what_is_said_to_be_waiting() -> None:
    meter = Meter()
    meter.begin()
    with meter.reading():
        time.sleep(0.05)
    with meter.writing():
        time.sleep(0.03)
    time.sleep(0.02)
    meter.waited(0.01)
    work = meter.end(RECEIPT, node="n")
    assert work.reading_s >= 0.06
    assert work.writing_s >= 0.03
    assert work.wall_s >= 0.1
    assert work.busy_s == pytest.approx(work.wall_s - work.reading_s - work.writing_s)
    assert (work.product, work.unit, work.node, work.pid) == ("clips/a", 3, "n", os.getpid())


def test_counts_come_from_the_receipt_the_ledger_and_what_the_stage_says() -> None:
    meter = Meter()
    meter.begin()
    meter.read(70)
    meter.frames(decoded=40, used=10)
    meter.frames(decoded=2, used=1)
    meter.covers("v", 4.0, 8.0)
    meter.covers("v", 0.0, 4.0)
    meter.covers("w", 1.0, 5.0, shown=0.25)
    meter.ledger(
        [
            LedgerRow("a", "a", "ok"),
            LedgerRow("b", "b", "partial", "truncated"),
            LedgerRow("c", "c", "failed", "missing"),
            LedgerRow("d", "d", "filtered", "too_short"),
        ]
    )
    work = meter.end(RECEIPT)
    assert (work.bytes_in, work.bytes_out, work.videos, work.items) == (70, 111, 4, 9)
    assert (work.frames_decoded, work.frames_used) == (42, 11)
    assert work.source_s == pytest.approx(9.0)
    assert work.reasons == {"truncated": 1, "missing": 1}
    assert work.rows == {"ok": 2, "partial": 1, "failed": 1, "filtered": 0}


def test_a_unit_that_was_given_up_leaves_nothing_to_the_next() -> None:
    meter = Meter()
    meter.begin()
    with pytest.raises(ValueError, match="broken"), meter.reading():
        meter.frames(decoded=5, used=5)
        meter.device(3.0)
        raise ValueError("broken")
    meter.begin()
    work = meter.end(RECEIPT)
    assert work.frames_decoded == 0
    assert work.device_s is None
    assert work.reading_s == 0
    with meter.writing():
        pass
    assert meter.end(RECEIPT).writing_s > 0  # the error left it no mark either


def test_waiting_inside_waiting_counts_once_and_as_the_outer() -> None:
    meter = Meter()
    meter.begin()
    with meter.writing(), meter.reading():
        time.sleep(0.02)
    work = meter.end(RECEIPT)
    assert work.reading_s == 0
    assert 0.02 <= work.writing_s <= work.wall_s


def test_writes_of_an_output_are_waiting_for_output() -> None:
    class Slow(BytesIO):
        def write(self, data) -> int:
            time.sleep(0.02)
            return super().write(data)

    meter, raw = Meter(), Slow()
    meter.begin()
    file = meter.output(raw)
    assert file.write(b"abc") == 3
    assert file.tell() == 3
    assert not file.closed
    assert raw.getvalue() == b"abc"
    assert meter.end(RECEIPT).writing_s >= 0.02


def test_opening_is_told_once_and_is_no_part_of_the_unit() -> None:
    meter = Meter()
    meter.opened(5.0)
    meter.begin()
    first = meter.end(RECEIPT)
    meter.begin()
    assert first.opening_s == 5.0
    assert first.wall_s < 5.0
    assert meter.end(RECEIPT).opening_s == 0


def test_device_time_is_not_made_up() -> None:
    meter = Meter()
    meter.begin()
    assert meter.end(RECEIPT).device_s is None
    meter.begin()
    meter.device(0.5)
    meter.device(0.25)
    assert meter.end(RECEIPT).device_s == 0.75


SPIN = """
import sys, time
began = time.process_time()
while time.process_time() - began < 0.3: pass
print("spun", flush=True)
sys.stdin.read()
"""


def test_cpu_time_is_that_of_the_decoder_too_living_or_dead() -> None:
    decoder: subprocess.Popen[bytes] | None = None
    meter = Meter(child=lambda: decoder.pid if decoder else None)
    meter.begin()
    decoder = _spun()
    living = meter.end(RECEIPT)
    assert living.cpu_s >= 0.25  # in ticks of 10 ms
    meter.begin()
    _end(decoder)
    decoder = _spun()
    later = meter.end(RECEIPT)
    _end(decoder)
    assert 0.25 <= later.cpu_s < 1.6 * living.cpu_s  # what the dead one took before is not counted again


def _spun() -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", SPIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"spun\n"
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.communicate(b"")
