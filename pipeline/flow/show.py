"""Flow as colour, for people: Baker et al., "A Database and Evaluation Methodology for Optical Flow" (IJCV 2011).

The hue is the direction (right red, down yellow, left cyan, up violet), the saturation is the length: white is still,
the full colour is `max_px`, and what is longer is darkened to three quarters. Unknown flow is black.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from pipeline.flow.flo import known
from schemas.errors import ReelmillError, UsageError

RED, YELLOW, GREEN = (255, 0, 0), (255, 255, 0), (0, 255, 0)
CYAN, BLUE, MAGENTA = (0, 255, 255), (0, 0, 255), (255, 0, 255)
# number of colours on the way from one corner of the wheel to the next: more where the eye tells more apart
ARCS = (
    (15, RED, YELLOW),
    (6, YELLOW, GREEN),
    (4, GREEN, CYAN),
    (11, CYAN, BLUE),
    (13, BLUE, MAGENTA),
    (6, MAGENTA, RED),
)
BEYOND = 0.75  # brightness of flow that is longer than max_px
STRIP_PERCENTILE = 99.9  # one small mover fills more than a thousandth of a frame; wild vectors at borders do not
CELL_HEIGHT_PX, GAP_PX, LEGEND_WIDTH_PX, LINE_PX = 128, 2, 120, 16
INK, PAPER = (40, 40, 40), (255, 255, 255)


def _wheel() -> np.ndarray:
    """The (55, 3) float32 colours in 0..1; each arc leaves its corner in whole levels and stops short of the next."""
    arcs = [
        np.array(start) + np.sign(np.subtract(end, start)) * (255 * np.arange(count) // count)[:, None]
        for count, start, end in ARCS
    ]
    return np.concatenate(arcs).astype(np.float32) / 255


WHEEL = _wheel()


def flow_colours(flow: np.ndarray, *, max_px: float | None = None) -> np.ndarray:
    """The (…,H,W,3) uint8 RGB picture of (…,H,W,2) floating-point flow (px; u to the right, v down).

    max_px: the length that gets the full colour. None takes the longest known vector of all of `flow`, as Middlebury's
    own program does, so that all fields of one call share a scale; give a number where pictures are to be compared.
    Raises UsageError for an array of another kind and for a max_px that is not a finite number above 0.
    """
    fields = _checked_flow(flow).reshape(-1, *flow.shape[-3:])
    scale_px = _longest_px(flow) if max_px is None else _checked_scale(max_px)
    pictures = np.empty((*fields.shape[:-1], 3), np.uint8)
    for field, picture in zip(fields, pictures, strict=True):  # one at a time: the temporaries stay small
        picture[...] = _field_colours(field, scale_px)
    return pictures.reshape(*flow.shape[:-1], 3)


def wheel_legend(size_px: int) -> np.ndarray:
    """A (size_px, size_px, 3) uint8 RGB disc: the colour of each vector from its middle, the longest at its rim."""
    if isinstance(size_px, bool) or not isinstance(size_px, int) or size_px < 1:
        raise UsageError(f"the colour wheel's size must be a whole number of px above 0, not {size_px!r}")
    steps = ((np.arange(size_px) + 0.5) / size_px * 2 - 1).astype(np.float32)
    vectors = np.stack(np.meshgrid(steps, steps), axis=-1)
    picture = _field_colours(vectors, 1.0)
    picture[np.hypot(vectors[..., 0], vectors[..., 1]) > 1] = PAPER
    return picture


def flow_strip(
    frames: Sequence[np.ndarray] | np.ndarray,
    flows: np.ndarray,
    *,
    max_px: float | None = None,
    num_columns: int = 8,
) -> np.ndarray:
    """A uint8 RGB picture: frames from left to right, each above its flow in colour, and the wheel with its scale.

    frames: (H,W) gray or (H,W,3) RGB, uint8, one for each field, or one more: the last field's second frame.
    flows: (N,H,W,2) floating point, in px. `num_columns` of the N are shown, spread evenly; all where there are fewer.
    max_px: the length that gets the full colour. None takes the 99.9th percentile of the lengths of all of `flows`,
    as TV-L1 leaves single wild vectors at borders, and the longest of them would pale the rest.
    Raises UsageError where frames and flows do not fit.
    """
    if _checked_flow(flows).ndim != 4 or not len(flows) or len(frames) - len(flows) not in (0, 1):
        raise UsageError(
            f"a strip takes (N, H, W, 2) flow and N or N + 1 frames, not {flows.shape} and {len(frames)} frames"
        )
    if num_columns < 1:
        raise UsageError(f"a strip has 1 column or more, not {num_columns}")
    scale_px = _two_digits(_longest_px(flows, STRIP_PERCENTILE)) if max_px is None else _checked_scale(max_px)
    count = min(num_columns, len(flows))
    picks = [column * len(flows) // count for column in range(count)]
    width = max(1, round(flows.shape[2] * CELL_HEIGHT_PX / flows.shape[1]))
    columns = [_stack(_cell(_rgb(frames[i]), width), _cell(_field_colours(flows[i], scale_px), width)) for i in picks]
    return np.hstack([*columns, _legend(scale_px, some_unknown=not known(flows[picks]).all())])


def png_bytes(rgb: np.ndarray) -> bytes:
    """An (H,W,3) uint8 RGB picture as a PNG. Equal pictures give equal bytes. Raises UsageError for another array."""
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size:
        raise UsageError("a picture is a uint8 numpy array of shape (H, W, 3)")
    _, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    return data.tobytes()


def save_png(path: str | Path, rgb: np.ndarray) -> None:
    """Write an (H,W,3) uint8 RGB picture as a PNG file. Raises ReelmillError where it can't be written."""
    try:
        Path(path).write_bytes(png_bytes(rgb))
    except OSError as error:
        raise ReelmillError(f"{path}: can't write this picture ({error.strerror})") from None


# ---------------------------------------------------------------- colours


def _field_colours(field: np.ndarray, scale_px: float) -> np.ndarray:
    """The (H,W,3) uint8 RGB colours of one (H,W,2) field."""
    is_known = known(field)
    flow = np.where(is_known[..., None], field, 0).astype(np.float32) + np.float32(0)  # -0.0 + 0 is 0.0: right is red
    # from right over down, left and up; the last colour and the first one meet at right, as published
    place = (np.arctan2(-flow[..., 1], -flow[..., 0]) / np.float32(np.pi) + 1) / 2 * (len(WHEEL) - 1)
    low = place.astype(np.intp)
    part = (place - low)[..., None]
    hue = (1 - part) * WHEEL[low] + part * WHEEL[(low + 1) % len(WHEEL)]
    length = (_lengths(flow) / np.float32(scale_px))[..., None]
    colour = np.where(length <= 1, 1 - length * (1 - hue), BEYOND * hue)
    colour[~is_known] = 0
    return (255 * colour).astype(np.uint8)  # truncated, as published


def _lengths(flow: np.ndarray) -> np.ndarray:
    return np.hypot(flow[..., 0], flow[..., 1], dtype=np.float32)


def _longest_px(flow: np.ndarray, percentile: float = 100.0) -> float:
    """The longest of the known vectors, or a percentile of their lengths; 1 where nothing moves or is known."""
    lengths = _lengths(flow[known(flow)].astype(np.float32, copy=False))
    if not lengths.size:
        return 1.0
    return float(np.percentile(lengths, percentile)) or float(lengths.max()) or 1.0


def _two_digits(length_px: float) -> float:
    """Rounded, so that what is written on a strip is what was used."""
    return float(f"{length_px:.2g}")


# ---------------------------------------------------------------- the strip


def _rgb(frame: np.ndarray) -> np.ndarray:
    good = isinstance(frame, np.ndarray) and frame.dtype == np.uint8
    if not good or not (frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] == 3)):
        what = f"{frame.dtype} of shape {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise UsageError(f"a strip takes uint8 frames of shape (H, W) or (H, W, 3), not {what}")
    return cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB) if frame.ndim == 2 else frame


def _cell(picture: np.ndarray, width: int) -> np.ndarray:
    """A picture at the cell's size, with the gap at its right."""
    cell = cv2.resize(picture, (width, CELL_HEIGHT_PX), interpolation=cv2.INTER_AREA)
    return cv2.copyMakeBorder(cell, 0, 0, 0, GAP_PX, cv2.BORDER_CONSTANT, value=PAPER)


def _stack(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.vstack([top, np.full((GAP_PX, top.shape[1], 3), PAPER, np.uint8), bottom])


def _legend(scale_px: float, *, some_unknown: bool) -> np.ndarray:
    """The last column: what the colours mean, above the wheel."""
    words = np.full((CELL_HEIGHT_PX, LEGEND_WIDTH_PX, 3), PAPER, np.uint8)
    lines = [f"rim: {scale_px:.3g} px", "darker: longer", "white: still", *(["black: unknown"] if some_unknown else [])]
    for number, line in enumerate(reversed(lines)):
        place = (8, CELL_HEIGHT_PX - 8 - LINE_PX * number)
        cv2.putText(words, line, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, INK, 1, cv2.LINE_AA)
    margin = LEGEND_WIDTH_PX - 8
    wheel = cv2.copyMakeBorder(
        wheel_legend(margin - 8), 4, CELL_HEIGHT_PX - margin + 4, 8, 8, cv2.BORDER_CONSTANT, value=PAPER
    )
    return _stack(words, wheel)


# ---------------------------------------------------------------- checks


def _checked_flow(flow: np.ndarray) -> np.ndarray:
    if not isinstance(flow, np.ndarray) or not np.issubdtype(flow.dtype, np.floating):
        kind = flow.dtype if isinstance(flow, np.ndarray) else type(flow).__name__
        raise UsageError(f"flow must be a floating-point numpy array in px, not {kind}")
    if flow.ndim < 3 or flow.shape[-1] != 2 or 0 in flow.shape[-3:]:
        raise UsageError(f"flow must have the shape (…, H, W, 2), not {flow.shape}")
    return flow


def _checked_scale(max_px: float) -> float:
    good = isinstance(max_px, (int, float, np.integer, np.floating)) and not isinstance(max_px, bool)
    if not good or not 0 < max_px < math.inf:
        raise UsageError(f"max_px must be a finite number above 0, not {max_px!r}")
    return float(max_px)
