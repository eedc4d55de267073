import json

import cv2
import numpy as np
import pytest

from pipeline import receipts
from pipeline.graph import Product, Unit
from pipeline.pictures import CELL_HEIGHT_PX, LABEL_HEIGHT_PX, contact_sheet
from pipeline.shards import ShardWriter
from pipeline.store import Store
from pipeline.video.encode import encode_clip, encode_frame
from schemas.config import Clips
from schemas.ledger import LedgerRow
from schemas.receipt import Card

SPEC = Clips(frames=4, fps=4, resize=(48, 64), encoding="npy")
RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture
def store(tmp_path) -> Store:
    """Three units: a red clip, none, and a blue clip."""
    store = Store(str(tmp_path))
    product = Product("clips", "c", SPEC.model_dump(mode="json"), {}, 1)
    card = {"product": "clips/c", "fingerprint": "f", "code_version": 1, "settings": dict(product.settings)}
    receipts.write_card(store, Card(**card, upstream={}, details={}, versions={}))
    for index, colour in enumerate((RED, None, BLUE)):
        with receipts.begin(store, product, Unit(index, index, 1, "r")) as writer:
            with ShardWriter(writer.file(f"clips-{index:06d}.tar")) as shard:
                if colour:
                    frame = encode_frame(np.full((48, 64, 3), colour, np.uint8), SPEC)
                    about = {"video_id": f"v{index}", "start_s": 0.0, "end_s": 1.0, "label_ids": [0]}
                    shard.add(f"v{index}", {**encode_clip([frame] * 4, SPEC), "json": json.dumps(about).encode()})
            writer.commit([LedgerRow(f"v{index}", "/v", "ok")], items=1 if colour else 0)
    return store


def test_a_row_for_each_clip_in_its_colours(store) -> None:
    png = contact_sheet(store, "clips/c", labels=["red or blue"])
    assert png is not None
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB)
    height = CELL_HEIGHT_PX + LABEL_HEIGHT_PX + 4
    assert picture.shape[0] == 2 * height
    middle = LABEL_HEIGHT_PX + CELL_HEIGHT_PX // 2
    assert tuple(picture[middle, 20]) == RED
    assert tuple(picture[height + middle, 20]) == BLUE
    assert contact_sheet(store, "clips/c", labels=["red or blue"]) == png


def test_nothing_to_show(store) -> None:
    for index in (0, 2):
        receipts.retract(store, "clips/c", index)
    assert contact_sheet(store, "clips/c") is None
