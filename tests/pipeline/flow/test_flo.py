import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.flow.flo import known, read_flo, write_flo
from schemas.errors import ReelmillError, UsageError

MIDDLEBURY = Path(__file__).resolve().parents[3] / ".." / "shared/data/flow/middlebury"
FLOW = np.arange(24, dtype=np.float32).reshape(3, 4, 2) - 7.25

needs_middlebury = pytest.mark.skipif(not MIDDLEBURY.exists(), reason=f"{MIDDLEBURY} is not here")


def test_the_format(tmp_path) -> None:
    write_flo(tmp_path / "a.flo", FLOW)
    data = (tmp_path / "a.flo").read_bytes()
    assert data[:4] == b"PIEH"
    assert struct.unpack("<fii", data[:12]) == (202021.25, 4, 3)
    assert struct.unpack("<24f", data[12:]) == tuple(FLOW.ravel())  # u and v in turn, row by row
    assert list(tmp_path.iterdir()) == [tmp_path / "a.flo"], "nothing temporary is left"


def test_opencv_reads_what_we_write_and_we_read_what_it_writes(tmp_path) -> None:
    write_flo(tmp_path / "ours.flo", FLOW)
    assert np.array_equal(cv2.readOpticalFlow(str(tmp_path / "ours.flo")), FLOW)
    assert cv2.writeOpticalFlow(str(tmp_path / "theirs.flo"), FLOW)
    assert np.array_equal(read_flo(tmp_path / "theirs.flo"), FLOW)
    assert (tmp_path / "theirs.flo").read_bytes() == (tmp_path / "ours.flo").read_bytes()


@given(flow=hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(2))))
def test_every_bit_comes_back(tmp_path_factory, flow) -> None:
    path = tmp_path_factory.mktemp("flo") / "a.flo"
    write_flo(path, flow)
    back = read_flo(path)
    assert (back.dtype, back.shape) == (np.float32, flow.shape)
    assert back.tobytes() == flow.tobytes(), "NaN, infinity and negative zero too"


def test_views_and_other_floats(tmp_path) -> None:
    for name, flow in (("view", FLOW[::-1, ::2]), ("double", FLOW.astype(np.float64)), ("half", FLOW.astype("f2"))):
        write_flo(str(tmp_path / name), flow)
        assert np.array_equal(read_flo(str(tmp_path / name)), flow)
    read_flo(tmp_path / "view")[0, 0] = 1  # the array is the caller's own, and may be written


def test_known() -> None:
    flow = np.zeros((2, 4, 2), np.float32)
    flow[0, 0, 0], flow[0, 1, 1], flow[0, 2], flow[1, 0, 1], flow[1, 1, 0] = 1e9, -1e9, 1.6666668e9, np.nan, np.inf
    flow[1, 2] = 9.99e8
    assert known(flow).tolist() == [[False, False, False, True], [False, False, True, True]]
    assert known(np.stack([flow, flow])).shape == (2, 2, 4)


@needs_middlebury
@pytest.mark.parametrize(
    ("name", "size", "unknown"),
    [
        ("Dimetrodon", (388, 584), 10772),
        ("Grove2", (480, 640), 0),
        ("RubberWhale", (388, 584), 3622),
        ("Venus", (380, 420), 0),
    ],
)
def test_real_truth(tmp_path, name, size, unknown) -> None:
    path = MIDDLEBURY / name / "flow10.flo"
    flow = read_flo(path)
    assert flow.shape == (*size, 2)
    assert np.count_nonzero(~known(flow)) == unknown
    assert np.array_equal(flow, cv2.readOpticalFlow(str(path)))
    assert np.abs(flow[known(flow)]).max() < 10
    write_flo(tmp_path / "copy.flo", flow)
    assert (tmp_path / "copy.flo").read_bytes() == path.read_bytes()


def header(width: int, height: int) -> bytes:
    return b"PIEH" + struct.pack("<ii", width, height)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", r"no Middlebury \.flo file \(it starts with b'', not b'PIEH'\)"),
        (b"\x89PNG\r\n\x1a\n" + bytes(30), "no Middlebury .flo file"),
        (b"HEIP" + header(1, 1)[4:] + bytes(8), "no Middlebury .flo file"),
        (header(2, 2)[:9], "ends within its header"),
        (header(2, 3) + bytes(47), r"59 bytes, but flow of 2 x 3 px \(width x height\) takes 60"),
        (header(2, 3) + bytes(49), "61 bytes, but flow of 2 x 3 px"),
        (header(99_999, 99_999), "12 bytes, but flow of 99999 x 99999 px"),
        (header(0, 5), r"its header says 0 x 5 px \(width x height\), and a side has 1 to 99999"),
        (header(5, -1) + bytes(40), "its header says 5 x -1 px"),
        (header(100_000, 1) + bytes(800_000), "its header says 100000 x 1 px"),
    ],
)
def test_damaged_files(tmp_path, data, sentence) -> None:
    path = tmp_path / "bad.flo"
    path.write_bytes(data)
    with pytest.raises(ReelmillError, match=sentence) as caught:
        read_flo(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_no_file(tmp_path) -> None:
    with pytest.raises(ReelmillError, match=r"a.flo: can't read this flow file \(No such file or directory\)"):
        read_flo(tmp_path / "a.flo")
    with pytest.raises(ReelmillError, match="can't read this flow file"):
        read_flo(tmp_path)


@pytest.mark.parametrize(
    ("flow", "sentence"),
    [
        (np.zeros((3, 4, 2), np.uint8), "takes a floating-point numpy array in px, not uint8"),
        ([[[0.0, 0.0]]], "takes a floating-point numpy array in px, not list"),
        (np.zeros((3, 4, 3)), r"one field of shape \(H, W, 2\), sides of 1 to 99999 px, not \(3, 4, 3\)"),
        (np.zeros((1, 3, 4, 2)), r"not \(1, 3, 4, 2\)"),
        (np.zeros((0, 4, 2)), r"not \(0, 4, 2\)"),
    ],
)
def test_what_no_flo_file_holds(tmp_path, flow, sentence) -> None:
    with pytest.raises(UsageError, match=sentence):
        write_flo(tmp_path / "a.flo", flow)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch) -> None:
    write_flo(tmp_path / "a.flo", FLOW)

    def full_disk(source, target) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(ReelmillError, match=r"a.flo: can't write this flow file \(No space left on device\)"):
        write_flo(tmp_path / "a.flo", FLOW + 1)
    assert np.array_equal(read_flo(tmp_path / "a.flo"), FLOW)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.flo"]
    with pytest.raises(ReelmillError, match="can't write this flow file"):
        write_flo(tmp_path / "nowhere/a.flo", FLOW)
