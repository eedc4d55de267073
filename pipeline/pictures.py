"""Pictures of what is stored, for people: a contact sheet of sampled clips."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import cast

import cv2
import numpy as np

from pipeline import receipts
from pipeline.shards import read_shard
from pipeline.store import Store
from pipeline.video.encode import Encoding, decode_frames

CELL_HEIGHT_PX = 96
LABEL_HEIGHT_PX = 18
GAP_PX = 2
INK, PAPER = (40, 40, 40), (255, 255, 255)


def contact_sheet(
    store: Store, product: str, *, labels: Sequence[str] = (), num_clips: int = 8, num_frames: int = 8
) -> bytes | None:
    """A PNG with one row per clip, `num_frames` of its frames from left to right, and a line that says what it is.

    The clips are taken from units spread evenly over the product. None where it holds no clip.
    """
    encoding = cast(Encoding, receipts.read_card(store, product).settings["encoding"])
    rows = [_row(members, encoding, labels, num_frames) for members in _spread_samples(store, product, num_clips)]
    if not rows:
        return None
    width = max(row.shape[1] for row in rows)
    padded = [cv2.copyMakeBorder(row, 0, 4, 0, width - row.shape[1], cv2.BORDER_CONSTANT, value=PAPER) for row in rows]
    _, png = cv2.imencode(".png", np.vstack(padded))
    return png.tobytes()


def _spread_samples(store: Store, product: str, count: int) -> list[dict[str, bytes]]:
    """The first sample of each of `count` shards spread over the product; more of each where shards are few."""
    made = [
        (unit, receipt)
        for unit in receipts.committed_units(store, product)
        if (receipt := receipts.load(store, product, unit))
    ]
    filled = [(unit, receipt) for unit, receipt in made if receipt.items]
    if not filled:
        return []
    picks = [filled[i * len(filled) // count] for i in range(count)] if len(filled) > count else filled
    share = -(-count // len(picks))
    samples: list[dict[str, bytes]] = []
    for unit, receipt in picks:
        wanted = {i * receipt.items // share for i in range(share)}
        with store.open(f"{product}/clips-{unit:06d}.tar") as file:
            samples += [members for i, (_, members) in enumerate(read_shard(file)) if i in wanted]
    return samples[:count]


def _row(members: dict[str, bytes], encoding: Encoding, labels: Sequence[str], num_frames: int) -> np.ndarray:
    """One clip as a (CELL_HEIGHT + LABEL_HEIGHT, W, 3) BGR strip."""
    about = json.loads(members["json"])
    frames = decode_frames(members, encoding)
    picks = [frames[i * len(frames) // num_frames] for i in range(min(num_frames, len(frames)))]
    width = round(frames.shape[2] * CELL_HEIGHT_PX / frames.shape[1])
    cells = [cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2BGR), (width, CELL_HEIGHT_PX)) for f in picks]
    strip = np.hstack([cv2.copyMakeBorder(c, 0, 0, 0, GAP_PX, cv2.BORDER_CONSTANT, value=PAPER) for c in cells])
    names = ", ".join(labels[i] if i < len(labels) else str(i) for i in about["label_ids"]) or "no label"
    text = f"{names}   {about['start_s']:.2f} - {about['end_s']:.2f} s   {about['video_id']}"
    line = np.full((LABEL_HEIGHT_PX, strip.shape[1], 3), PAPER, np.uint8)
    cv2.putText(line, text, (2, LABEL_HEIGHT_PX - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.4, INK, 1, cv2.LINE_AA)
    return np.vstack([line, strip])
