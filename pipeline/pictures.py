"""Pictures of what is stored, for people: contact sheets of sampled clips and of their flow."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from itertools import islice
from typing import Any, cast

import cv2
import numpy as np

from pipeline import receipts
from pipeline.flow.encode import decode_flow
from pipeline.flow.show import flow_strip
from pipeline.shards import read_shard
from pipeline.store import Store
from pipeline.video.encode import Encoding, decode_frames
from schemas.config import Flow
from schemas.errors import ReelmillError

CELL_HEIGHT_PX = 96
LABEL_HEIGHT_PX = 18
GAP_PX = 2
INK, PAPER = (40, 40, 40), (255, 255, 255)
PREVIEW_FILE = "_preview.png"  # in a product's folder: the sheet of it that a run has drawn
CLIPS_SHOWN, FLOWS_SHOWN = 8, 6  # rows of the sheets


def contact_sheet(
    store: Store, product: str, *, labels: Sequence[str] = (), num_clips: int = CLIPS_SHOWN, num_frames: int = 8
) -> bytes | None:
    """A PNG with one row per clip, `num_frames` of its frames from left to right, and a line that says what it is.

    The clips are taken from units spread evenly over the product. None where it holds no clip.
    """
    encoding = cast(Encoding, receipts.read_card(store, product).settings["encoding"])
    samples = _spread_samples(store, product, num_clips)
    return _sheet([_row(members, encoding, labels, num_frames) for _, members in samples])


def flow_sheet(
    store: Store, product: str, *, labels: Sequence[str] = (), num_clips: int = FLOWS_SHOWN, num_frames: int = 8
) -> bytes | None:
    """A PNG with two rows per clip: frames of its clips product, and below each the flow from it on, in colour.

    None where the product holds no flow.
    """
    flow = Flow.model_validate(receipts.read_card(store, product).settings)
    source = f"clips/{flow.clips}"
    encoding = cast(Encoding, receipts.read_card(store, source).settings["encoding"])
    rows = []
    for unit, members in _spread_samples(store, product, num_clips):
        about = json.loads(members["json"])
        clip = _sample_of(store, source, unit, about["clip_id"])
        rows.append(_flow_row(about, decode_flow(members, flow), clip, encoding, labels, num_frames))
    return _sheet(rows)


def _sheet(rows: Sequence[np.ndarray]) -> bytes | None:
    """(H, W, 3) BGR pictures one below the other, as a PNG; None where there are none."""
    if not rows:
        return None
    width = max(row.shape[1] for row in rows)
    padded = [cv2.copyMakeBorder(row, 0, 4, 0, width - row.shape[1], cv2.BORDER_CONSTANT, value=PAPER) for row in rows]
    _, png = cv2.imencode(".png", np.vstack(padded))
    return png.tobytes()


def spread(store: Store, product: str, count: int) -> list[tuple[int, int]]:
    """(unit, place in its shard) of the first sample of each of `count` shards spread over the product; more of each
    where shards are few. What the rows of a sheet are, from top to bottom."""
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
    places = [(unit, i) for unit, receipt in picks for i in sorted({i * receipt.items // share for i in range(share)})]
    return places[:count]


def _spread_samples(store: Store, product: str, count: int) -> list[tuple[int, dict[str, bytes]]]:
    """(unit, members) of each sample of `spread`."""
    wanted: dict[int, list[int]] = {}
    for unit, place in spread(store, product, count):
        wanted.setdefault(unit, []).append(place)
    samples: list[tuple[int, dict[str, bytes]]] = []
    for unit, places in wanted.items():
        with store.open(f"{product}/{product.partition('/')[0]}-{unit:06d}.tar") as file:
            first = islice(read_shard(file), places[-1] + 1)  # a shard may be a gigabyte, and in a bucket
            samples += [(unit, members) for i, (_, members) in enumerate(first) if i in places]
    return samples


def _sample_of(store: Store, source: str, unit: int, clip_id: str) -> dict[str, bytes]:
    """The members of one clip. Raises ReelmillError where its shard does not hold it."""
    with store.open(f"{source}/clips-{unit:06d}.tar") as file:
        for key, members in read_shard(file):
            if key == clip_id:
                return members
    raise ReelmillError(f"{source}/clips-{unit:06d}.tar holds no clip {clip_id}, though its flow does")


def _row(members: dict[str, bytes], encoding: Encoding, labels: Sequence[str], num_frames: int) -> np.ndarray:
    """One clip as a (CELL_HEIGHT + LABEL_HEIGHT, W, 3) BGR strip."""
    about = json.loads(members["json"])
    frames = decode_frames(members, encoding)
    picks = [frames[i * len(frames) // num_frames] for i in range(min(num_frames, len(frames)))]
    width = round(frames.shape[2] * CELL_HEIGHT_PX / frames.shape[1])
    cells = [cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2BGR), (width, CELL_HEIGHT_PX)) for f in picks]
    strip = np.hstack([cv2.copyMakeBorder(c, 0, 0, 0, GAP_PX, cv2.BORDER_CONSTANT, value=PAPER) for c in cells])
    return _captioned(strip, about, labels)


def _flow_row(
    about: dict[str, Any],
    fields: np.ndarray,
    clip: dict[str, bytes],
    encoding: Encoding,
    labels: Sequence[str],
    num_frames: int,
) -> np.ndarray:
    """One clip's frames above its flow, as an (H, W, 3) BGR strip; `about` and `fields` are of the flow sample."""
    frames, of_clip = decode_frames(clip, encoding), json.loads(clip["json"])
    real_pts_s = of_clip["frame_pts_s"][: of_clip["num_real_frames"]]
    num_real = about["num_real_fields"]
    picks = [i * num_real // num_frames for i in range(num_frames)] if num_real > num_frames else range(num_real)
    # the stored frame on display when the field begins: the clip may have fewer frames a second
    shown = [max(0, bisect_right(real_pts_s, about["from_pts_s"][pick]) - 1) for pick in picks]
    strip = flow_strip([frames[place] for place in shown], fields[list(picks)], num_columns=num_frames)
    return _captioned(cv2.cvtColor(strip, cv2.COLOR_RGB2BGR), about, labels)


def _captioned(strip: np.ndarray, about: dict[str, Any], labels: Sequence[str]) -> np.ndarray:
    """A BGR strip below a line that says of which clip it is."""
    names = ", ".join(labels[i] if i < len(labels) else str(i) for i in about["label_ids"]) or "no label"
    text = f"{names}   {about['start_s']:.2f} - {about['end_s']:.2f} s   {about['video_id']}"
    line = np.full((LABEL_HEIGHT_PX, strip.shape[1], 3), PAPER, np.uint8)
    cv2.putText(line, text, (2, LABEL_HEIGHT_PX - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.4, INK, 1, cv2.LINE_AA)
    return np.vstack([line, strip])
