"""Fields to members and back, and what their loss says."""

from __future__ import annotations

from io import BytesIO

import cv2
import numpy as np
import pytest

from pipeline.flow.encode import clip_members, decode_flow, decode_stored, describe, encode_field, level_meanings
from schemas.config import Flow
from schemas.errors import ReelmillError

HEIGHT, WIDTH = 24, 40


def spec(**settings: object) -> Flow:
    return Flow.model_validate({"clips": "c", **settings})


def smooth(num_fields: int = 3, *, size_px: float = 5.0) -> np.ndarray:
    """(T,H,W,2) float32 px."""
    small = np.random.default_rng(0).normal(0, size_px, (num_fields, 4, 6, 2)).astype(np.float32)
    return np.stack([cv2.resize(field, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR) for field in small])


def members_of(flow: np.ndarray, settings: Flow) -> dict[str, bytes]:
    return clip_members([encode_field(field, settings) for field in flow], settings, height=HEIGHT, width=WIDTH)


@pytest.mark.parametrize(("encoding", "error_px"), [("jpeg", 0.6), ("png", 0.0785), ("npy", 0.01)])
def test_there_and_back(encoding, error_px) -> None:
    flow, settings = smooth(), spec(encoding=encoding)
    members = members_of(flow, settings)
    back = decode_flow({**members, "json": b"{}", "cls": b"1"}, settings)
    assert (back.shape, back.dtype) == (flow.shape, np.float32)
    assert 0 < np.abs(back - flow).max() <= error_px
    assert members == members_of(flow.copy(), settings)


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_levels_as_stored_and_what_they_mean(encoding) -> None:
    settings = spec(encoding=encoding, bound=32.0)
    members = members_of(smooth(), settings)
    levels, meanings = decode_stored(members, settings), level_meanings(settings)
    assert (levels.shape, levels.dtype) == (smooth().shape, np.uint8)
    assert (meanings.shape, meanings.dtype) == ((256,), np.float32)
    np.testing.assert_array_equal(meanings[levels], decode_flow(members, settings))
    np.testing.assert_allclose(meanings[255 - levels], -meanings[levels], atol=1e-5)  # a mirror image's u


def test_px_speak_for_themselves() -> None:
    settings = spec(encoding="npy")
    members = members_of(smooth(), settings)
    assert level_meanings(settings) is None
    stored = decode_stored(members, settings)
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, decode_flow(members, settings))


def test_u_is_x_and_v_is_y() -> None:
    flow = np.zeros((2, HEIGHT, WIDTH, 2), np.float32)
    flow[0, ..., 0], flow[1, ..., 1] = 7, -7
    members = members_of(flow, spec(encoding="png"))
    assert list(members) == ["x.000.png", "y.000.png", "x.001.png", "y.001.png"]
    levels = {name: int(cv2.imdecode(np.frombuffer(data, np.uint8), -1)[0, 0]) for name, data in members.items()}
    assert levels == {"x.000.png": 172, "y.000.png": 128, "x.001.png": 128, "y.001.png": 83}  # round(255 (v + 20) / 40)


@pytest.mark.parametrize("encoding", ["jpeg", "png", "npy"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_flow_that_is_no_number_is_not_stored(encoding, value) -> None:
    field = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    field[3, 4, 1] = value
    with pytest.raises(ReelmillError, match="flow holds NaN"):
        encode_field(field, spec(encoding=encoding))


@pytest.mark.filterwarnings("error")
def test_flow_beyond_float16_is_not_stored_as_infinity() -> None:
    field = np.full((HEIGHT, WIDTH, 2), 65520, np.float32)
    with pytest.raises(ReelmillError, match="more px than float16"):
        encode_field(field, spec(encoding="npy"))
    assert encode_field(field - 20, spec(encoding="npy")).max_abs_px == 65500


def test_a_thousand_fields_come_back_in_order() -> None:
    fields = np.zeros((1002, 16, 16, 2), np.float32)
    fields[:, :, :, 0] = (np.arange(1002) % 10)[:, None, None]
    settings = spec(encoding="png")
    members = clip_members([encode_field(field, settings) for field in fields], settings, height=16, width=16)
    assert np.abs(decode_flow(members, settings)[:, 0, 0, 0] - fields[:, 0, 0, 0]).max() < 0.08


@pytest.mark.parametrize("encoding", ["jpeg", "png", "npy"])
def test_loss_is_that_of_what_a_reader_gets(encoding) -> None:
    (field,), settings = smooth(1), spec(encoding=encoding, bound=8)
    stored = encode_field(field, settings)
    back = decode_flow(clip_members([stored], settings, height=HEIGHT, width=WIDTH), settings)[0].astype(np.float64)
    assert stored.mean_square_px == pytest.approx(np.square(back - field).mean(), rel=1e-5)
    assert stored.saturated == np.count_nonzero(np.abs(field) > 8) / field.size > 0
    assert stored.max_abs_px == np.abs(field).max()


def test_quality_costs_and_saves() -> None:
    (field,) = smooth(1)
    low, high = (encode_field(field, spec(quality=quality)) for quality in (50, 100))
    assert low.mean_square_px > high.mean_square_px
    assert sum(map(len, low.data)) < sum(map(len, high.data))


@pytest.mark.parametrize("encoding", ["jpeg", "png", "npy"])
def test_damage_is_one_sentence(encoding) -> None:
    settings = spec(encoding=encoding)
    members = members_of(smooth(2), settings)
    first = next(iter(members))
    for damaged in ({}, {**members, first: b""}, {**members, first: b"not this"}, dict(list(members.items())[1:])):
        with pytest.raises(ReelmillError, match="holds no readable"):
            decode_flow(damaged, settings)


def test_a_damaged_npy_header_is_one_sentence() -> None:
    settings = spec(encoding="npy")
    whole = members_of(smooth(1), settings)["npy"]
    for damaged in (whole.replace(b"(1,", b"(((", 1), whole.replace(b"(1,", b"(1" + b"0" * 15 + b",", 1)):
        with pytest.raises(ReelmillError, match="holds no readable npy flow"):
            decode_flow({"npy": damaged[: len(whole)]}, settings)


@pytest.mark.parametrize("px", [np.float16("inf"), np.float16("nan"), np.float64(1e300), np.float32(1)])
def test_npy_px_that_were_never_stored_are_damage(px: np.floating) -> None:
    file = BytesIO()
    np.save(file, np.full((1, HEIGHT, WIDTH, 2), px))
    with pytest.raises(ReelmillError, match="not all finite float16 numbers"):
        decode_flow({"npy": file.getvalue()}, spec(encoding="npy"))


def test_the_card_tells_the_rule_and_its_inverse() -> None:
    words = describe(spec(bound=15, quality=90))
    assert (words["quantise"][:25], words["dequantise"]) == ("q = round(255 (v + 15) / 30)"[:25], "v = 30 q / 255 - 15")
    assert words["quality"] == 90
    assert describe(spec(encoding="npy"))["quantised"] == "no"
