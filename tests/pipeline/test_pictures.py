import json

import cv2
import numpy as np
import pytest

from pipeline import receipts
from pipeline.flow.encode import clip_members, encode_field
from pipeline.graph import Product, Unit
from pipeline.pictures import CELL_HEIGHT_PX, LABEL_HEIGHT_PX, contact_sheet, flow_sheet, spread
from pipeline.shards import ShardWriter
from pipeline.store import Store
from pipeline.video.encode import encode_clip, encode_frame
from schemas.config import Clips, Flow
from schemas.errors import ReelmillError
from schemas.ledger import LedgerRow
from schemas.receipt import Card

SPEC = Clips(frames=4, fps=4, resize=(48, 64), encoding="npy")
RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture
def store(tmp_path) -> Store:
    """Three units: a red clip, none, and a blue clip."""
    store = Store(str(tmp_path))
    product = Product("clips", "c", SPEC.model_dump(mode="json"), {}, 1)
    card = {"product": "clips/c", "fingerprint": product.fingerprint, "code_version": 1}
    receipts.write_card(store, Card(**card, settings=dict(product.settings), upstream={}, details={}, versions={}))
    for index, colour in enumerate((RED, None, BLUE)):
        with receipts.begin(store, product, Unit(index, index, 1, "r")) as writer:
            with ShardWriter(writer.file(f"clips-{index:06d}.tar")) as shard:
                if colour:
                    frame = encode_frame(np.full((48, 64, 3), colour, np.uint8), SPEC)
                    about = {"video_id": f"v{index}", "start_s": 0.0, "end_s": 1.0, "label_ids": [0]}
                    about |= {"frame_pts_s": [0.0, 0.25, 0.5, 0.5], "num_real_frames": 3}
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


def test_what_the_rows_of_a_sheet_are(store) -> None:
    assert spread(store, "clips/c", 8) == [(0, 0), (2, 0)]  # (unit, place in its shard); unit 1 holds none
    assert spread(store, "clips/c", 1) == [(0, 0)]


def test_nothing_to_show(store) -> None:
    for index in (0, 2):
        receipts.retract(store, "clips/c", index)
    assert contact_sheet(store, "clips/c") is None


# ---------------------------------------------------------------- flow


def write_flow(store: Store, *, clip_ids: list[str]) -> None:
    """A flow product of one unit: 8 fields a second, of which 5 are real, to the right and then still."""
    spec = Flow(clips="c", encoding="png")
    product = Product("flow", "f", spec.model_dump(mode="json", by_alias=True), {}, 1)
    card = {"product": "flow/f", "fingerprint": product.fingerprint, "code_version": 1}
    receipts.write_card(store, Card(**card, settings=dict(product.settings), upstream={}, details={}, versions={}))
    flow = np.zeros((8, 48, 64, 2), np.float32)
    flow[:5, ..., 0] = 3
    members = clip_members([encode_field(field, spec) for field in flow], spec, height=48, width=64)
    with receipts.begin(store, product, Unit(0, 0, 1, "r")) as writer:
        with ShardWriter(writer.file("flow-000000.tar")) as shard:
            for clip_id in clip_ids:
                about = {"clip_id": clip_id, "video_id": "v", "start_s": 0.0, "end_s": 1.0, "label_ids": [0]}
                about |= {"from_pts_s": [k / 8 for k in range(8)], "num_real_fields": 5}
                shard.add(clip_id, {**members, "json": json.dumps(about).encode()})
        writer.commit([LedgerRow("v", "/v", "ok")], items=len(clip_ids))


def test_frames_stand_above_their_flow(store) -> None:
    write_flow(store, clip_ids=["v0"])
    png = flow_sheet(store, "flow/f", labels=["red"])
    assert png is not None
    assert flow_sheet(store, "flow/f", labels=["red"]) == png
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB)
    height = (picture.shape[0] - LABEL_HEIGHT_PX) // 2
    for column in range(5):  # the real fields only
        at = 85 + 172 * column
        assert tuple(picture[LABEL_HEIGHT_PX + height // 2, at]) == RED
        below = picture[LABEL_HEIGHT_PX + height * 3 // 2, at].astype(int)
        assert below[0] > 200 > below[1]  # to the right is red, too
    assert picture.shape[1] < 172 * 6 + 172


def test_flow_of_a_clip_that_is_not_there(store) -> None:
    write_flow(store, clip_ids=["v7"])
    with pytest.raises(ReelmillError, match="holds no clip v7"):
        flow_sheet(store, "flow/f")


def test_no_flow_to_show(store) -> None:
    write_flow(store, clip_ids=[])
    assert flow_sheet(store, "flow/f") is None
