"""What the card of a flow product says: all that is needed to make it again, and to read a level as px."""

from __future__ import annotations

from typing import Any

from pipeline import receipts
from pipeline.flow import TVL1Params, encode
from pipeline.flow.tvl1 import resolve
from pipeline.graph import Product
from pipeline.store import Store
from schemas.config import Clips, Flow

LOSS = "saturated, rmse_px and max_abs_px of each clip's real fields are in its KEY.json and in _index"


def describe(product: Product, store: Store) -> dict[str, Any]:
    """The card's details. Raises UsageError where the backend that is asked for can't be used."""
    flow = Flow.model_validate(product.settings)
    source = f"clips/{flow.clips}"
    clips = Clips.model_validate(receipts.read_card(store, source).settings)
    return {
        "windows": f"those of {source}, with its clip ids; see its card",
        "sampling": _sampling(flow, clips),
        "frames": _frames(flow.sampling(clips)),
        "algorithm": "TV-L1 as cv2.optflow.DualTVL1OpticalFlow computes it; u is motion to the right, v down, in px of "
        "these frames from one frame to the next",
        "params": flow.params.model_dump(by_alias=True),
        "shared": "a pair of source frames that several clips hold is computed once",
        "storage": {**encode.describe(flow), "loss": LOSS},
        "members": "fields, then KEY.cls (the label id, where there is exactly one), then KEY.json (the index row, and "
        "`fields`)",
        "backend": _backend(flow),
    }


def _sampling(flow: Flow, clips: Clips) -> dict[str, Any]:
    fps, num_fields = flow.rate_fps(clips), flow.num_fields(clips)
    last = {
        "T": "one for each frame of the window: the last one ends with the frame on display at the window's end",
        "T-1": "between the window's frames only",
    }[flow.fields]
    over = {
        "loop": "the fields come again from the first on, as the frames of the clip do",
        "pad": "fields are zero",
        "drop": "fields are zero",
    }[clips.tail]
    return {
        "fps": fps,
        "num_fields": num_fields,
        "field": f"field k is the motion from the frame on display at t = start_s + k / {fps:g} to the one at "
        f"start_s + (k + 1) / {fps:g}: the last with pts <= t",
        "fields": last,
        "end": "a field that would end where the video (or the row, or the segment) is over goes from its last frame "
        f"to itself and is zero; after that {over}: num_real_fields counts the fields before",
        "still": "a frame that is on display at both times gives a field of zeros",
        "short": "a clip of fewer than two frames before that end gives no sample",
    }


def _frames(frames: Clips) -> dict[str, str]:
    from pipeline.video import transform  # needs av, which workers do without

    words = transform.describe(frames)
    return {
        **words,
        "order": "colours, gray, resize (in the stored orientation), upright, crop, flow",
        "pixels": "gray, uint8, 0-255",
        "gray": "cv2.cvtColor COLOR_RGB2GRAY: 0.299 R + 0.587 G + 0.114 B, rounded to uint8, at the source's size",
        "source": "decoded from the video itself, not from stored clips",
    }


def _backend(flow: Flow) -> dict[str, str]:
    """What was asked for, what the workers use, and why."""
    used = resolve(flow.backend, TVL1Params(**flow.params.model_dump()))
    why = "as asked" if used == flow.backend else "a GPU was there" if used == "cuda" else "no GPU was there"
    return {
        "asked": flow.backend,
        "used": used,
        "why": why,
        "same_bits": "cpu and opencv (5.0, x86-64) give the same flow to the bit",
    }
