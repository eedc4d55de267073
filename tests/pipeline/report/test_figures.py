import base64

import cv2
import numpy as np
import pytest

from pipeline.report.figures import LARGEST_BYTES, WIDEST_PX, Figures
from pipeline.stills import PNG, decode_still


def png(pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


def bytes_of(uri: str) -> bytes:
    return base64.b64decode(uri.partition(",")[2])


def test_a_drawing_stays_as_it_is() -> None:
    pixels = np.full((30, 50, 3), 255, np.uint8)
    pixels[10, 20] = (1, 2, 3)
    found = Figures().take(lambda: png(pixels), "a dot", "a caption")
    assert found is not None
    assert (found.alt, found.caption, found.width_px, found.height_px) == ("a dot", "a caption", 50, 30)
    assert found.uri.startswith("data:image/png;base64,")
    assert np.array_equal(decode_still(bytes_of(found.uri), "rgb"), pixels[:, :, ::-1])


def test_what_is_large_is_made_small() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1200, 3000, 3), np.uint8)
    found = Figures().take(lambda: png(noise), "noise")
    assert found is not None
    assert found.width_px <= WIDEST_PX
    assert abs(found.width_px / found.height_px - 2.5) < 0.02
    assert len(bytes_of(found.uri)) <= LARGEST_BYTES
    assert decode_still(bytes_of(found.uri), "rgb").shape[:2] == (found.height_px, found.width_px)


def test_a_page_has_so_many_and_no_more() -> None:
    figures, one = Figures(most=2), png(np.zeros((2, 2, 3), np.uint8))
    assert figures.take(lambda: None, "nothing stands there") is None
    assert [figures.take(lambda: one, "x") is not None for _ in range(4)] == [True, True, False, False]
    assert figures.num_left_out == 2


@pytest.mark.parametrize(
    "data",
    [b"<svg onload=alert(1)>", b"", PNG, PNG + b"\0\0\0\rIHDR" + b"\x7f\xff\xff\xff" * 2],
    ids=["svg", "empty", "cut", "bomb"],
)
def test_what_is_no_picture(data: bytes) -> None:
    with pytest.raises(ValueError, match="picture"):
        Figures().take(lambda: data, "x")
