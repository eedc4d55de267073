import errno
import json
import os
from pathlib import Path

import pytest

from pipeline import receipts
from pipeline.graph import Product
from pipeline.runner import worker
from pipeline.store import Store
from schemas.config import Limits

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
