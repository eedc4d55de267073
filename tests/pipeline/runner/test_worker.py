import errno
import json
import os
from pathlib import Path

import pytest

from pipeline import receipts
from pipeline.graph import Product
from pipeline.runner import worker
from pipeline.storage import patience
from pipeline.store import Store
from schemas.config import Limits
from schemas.news import LeftOut, StorageWait

ROW = {"index": 0, "start_row": 0, "num_rows": 2, "rows_sha256": "r", "errors": "{}", "fatal": False}


@pytest.mark.parametrize(
    ("number", "is_fatal", "words"),
    [
        (errno.ESTALE, True, "can't get at /data/x on n1 (stale file handle); see to the mount that it lies on"),
        (errno.EIO, False, "this is a bug, please report it"),
    ],
)
def test_a_mount_that_is_away_ends_the_run_and_is_no_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_fatal: bool, words: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number), "/data/x")

    monkeypatch.setattr(receipts, "standing", fail)
    monkeypatch.setattr(worker, "_this_node", lambda: "n1")
    product = Product("clips", "c", settings={}, upstream={}, code_version=1)
    row = worker.step(dict(ROW), product=product, store=Store(str(tmp_path)), limits=Limits(), tell=lambda news: None)
    assert row["fatal"] is is_fatal
    assert words in json.loads(row["errors"])["clips/c"]


@pytest.mark.parametrize(("num_nodes", "reason", "goes"), [(2, "w is not here", True), (2, "", False), (1, "w", False)])
def test_a_worker_leaves_a_node_that_lacks_its_weights_where_there_are_others(
    monkeypatch: pytest.MonkeyPatch, num_nodes: int, reason: str, goes: bool
) -> None:
    def end(status: int) -> None:
        raise SystemExit(status)

    nodes = [{"Alive": True}] * num_nodes + [{"Alive": False}]
    monkeypatch.setattr(worker.ray, "nodes", lambda: nodes)
    monkeypatch.setattr(worker.ray.util, "get_node_ip_address", lambda: "10.0.0.7")
    monkeypatch.setattr(worker, "lacking", lambda product: reason)
    monkeypatch.setattr(worker, "LEFT_OUT_S", 0.0)
    monkeypatch.setattr(os, "_exit", end)
    product = Product("features", "c", settings={}, upstream={}, code_version=1)
    told: list[object] = []
    if goes:
        with pytest.raises(SystemExit):
            worker.leave_unfit_node(product, told.append)
    else:
        worker.leave_unfit_node(product, told.append)
    assert told == ([LeftOut("features/c", "10.0.0.7", reason)] if goes else [])


def test_the_driver_hears_that_a_worker_waits_for_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_this_node", lambda: "n1")
    told: list[object] = []
    with worker.telling_of_storage(told.append):
        patience.tell("s3://b/x: storage does not answer", is_away=True)
    assert told == [StorageWait("n1", "s3://b/x: storage does not answer", is_away=True)]
