"""video_id: a file's path below the videos folder, quoted so that it can be a WebDataset key, and back.

    sport/run.mp4                    sport+run~mp4
    naïve run.mp4                    na%C3%AFve%20run~mp4
    abc.mp4, seconds 417 to 427.5    abc~mp4@417000-427500

Letters, digits, `_` and `-` stay; "/" becomes "+"; "." becomes "~"; every other byte of the UTF-8 name becomes %XX.
So an id holds no dot and no slash, two files never share one, and the file can be told from it.
"""

from __future__ import annotations

import re
import string

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_KEPT = string.ascii_letters + string.digits + "_-"
_QUOTED = [chr(byte) if chr(byte) in _KEPT else f"%{byte:02X}" for byte in range(256)]
_QUOTED[ord("/")] = "+"
_QUOTED[ord(".")] = "~"
_COMMON = " ()',&"  # what folder names of labels hold; these too are quoted a million at a time
_PLAIN = rf"^[A-Za-z0-9_/.{_COMMON}-]*$"

_ID = re.compile(r"((?:[A-Za-z0-9_+~-]|%[0-9A-F]{2})+)(?:@([0-9]+)-([0-9]+))?")
_CODE = re.compile(rb"[+~]|%(..)")


def video_id(relative: str, start_s: float | None = None, end_s: float | None = None) -> str:
    """The id of a file, or of the span [start_s, end_s) of a file; times count to the millisecond."""
    assert relative, "a video has a path"
    quoted = _quote(relative)
    if start_s is None or end_s is None:
        assert start_s is end_s, f"a span has both ends, got {start_s = }, {end_s = }"
        return quoted
    return f"{quoted}@{round(start_s * 1000)}-{round(end_s * 1000)}"


def relative_path(video_id: str) -> tuple[str, float | None, float | None]:
    """The (relative path, start_s, end_s) that `video_id` was made from. Raises ValueError for anything else."""
    match = _ID.fullmatch(video_id)
    if match is None:
        raise ValueError(f"{video_id!r} is not a video_id")
    quoted, start_ms, end_ms = match.groups()
    relative = _CODE.sub(_unquote, quoted.encode()).decode("utf-8", "surrogateescape")
    if start_ms is None:
        return relative, None, None
    return relative, int(start_ms) / 1000, int(end_ms) / 1000


def video_ids(relative: pa.Array, start_s: np.ndarray, end_s: np.ndarray) -> pa.Array:
    """`video_id` of N rows at once.

    relative: (N,) string array; start_s, end_s: (N,) float64, NaN where the whole file is meant. Returns a (N,) string
    array, equal to calling `video_id` N times.
    """
    quoted = relative
    for character in _COMMON:
        quoted = pc.replace_substring(quoted, character, _QUOTED[ord(character)])
    quoted = pc.replace_substring(pc.replace_substring(quoted, "/", "+"), ".", "~")
    odd = pc.invert(pc.match_substring_regex(relative, _PLAIN))
    if pc.any(odd).as_py():
        replacements = [_quote(path) for path in relative.filter(odd).to_pylist()]
        quoted = pc.replace_with_mask(quoted, odd, pa.array(replacements, pa.string()))
    if np.isnan(start_s).all():
        return quoted
    span = pc.binary_join_element_wise(_milliseconds(start_s), _milliseconds(end_s), "-")
    suffix = pc.fill_null(pc.binary_join_element_wise("@", span, ""), "")
    return pc.binary_join_element_wise(quoted, suffix, "")


def _milliseconds(times_s: np.ndarray) -> pa.Array:
    whole = np.isnan(times_s)
    milliseconds = np.rint(np.where(whole, 0, times_s) * 1000).astype(np.int64)
    return pa.array(milliseconds, mask=whole).cast(pa.string())


def _quote(relative: str) -> str:
    return "".join([_QUOTED[byte] for byte in relative.encode("utf-8", "surrogateescape")])


def _unquote(match: re.Match[bytes]) -> bytes:
    if match[1] is not None:
        return bytes([int(match[1], 16)])
    return b"/" if match[0] == b"+" else b"."
