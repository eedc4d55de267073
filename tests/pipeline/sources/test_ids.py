import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.sources.ids import relative_path, video_id, video_ids

# any name that a Linux folder can hold, as Python shows it
NAMES = st.binary(min_size=1).map(lambda name: name.decode("utf-8", "surrogateescape"))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
TIMES_MS = st.integers(0, 10**9)


@pytest.mark.parametrize(
    ("relative", "expected"),
    [
        ("run.mp4", "run~mp4"),
        ("sport/run.mp4", "sport+run~mp4"),
        ("a+b~c%d@e.mp4", "a%2Bb%7Ec%25d%40e~mp4"),
        ("naïve run.mp4", "na%C3%AFve%20run~mp4"),
        ("bad\udcff.mp4", "bad%FF~mp4"),
        ("-_/.x", "-_+~x"),
    ],
)
def test_quoting(relative, expected) -> None:
    assert video_id(relative) == expected
    assert relative_path(expected) == (relative, None, None)


def test_spans_are_in_milliseconds() -> None:
    assert video_id("abc.mp4", 417, 427.5) == "abc~mp4@417000-427500"
    assert relative_path("abc~mp4@417000-427500") == ("abc.mp4", 417.0, 427.5)


@settings(deadline=None)
@given(NAMES)
@example("a@1-2")
@example("a%20b")
def test_reversible_and_a_legal_key(relative) -> None:
    quoted = video_id(relative)
    assert relative_path(quoted) == (relative, None, None)
    assert re.fullmatch(r"[A-Za-z0-9_+~%-]+", quoted)


@settings(deadline=None)
@given(NAMES, TIMES_MS, TIMES_MS)
def test_reversible_with_a_span(relative, start_ms, end_ms) -> None:
    assert relative_path(video_id(relative, start_ms / 1000, end_ms / 1000)) == (
        relative,
        start_ms / 1000,
        end_ms / 1000,
    )


@settings(deadline=None)
@given(NAMES, NAMES)
def test_two_names_never_share_an_id(one, other) -> None:
    assert (video_id(one) == video_id(other)) == (one == other)


@pytest.mark.parametrize("text", ["", "a.b", "a/b", "a b", "a%2", "a%fF", "a@1", "a@1-", "a@-1-2", "é", "a@1-2@3-4"])
def test_other_text_is_refused(text) -> None:
    with pytest.raises(ValueError, match="not a video_id"):
        relative_path(text)


@settings(deadline=None)
@given(st.lists(st.tuples(TEXTS, st.none() | st.tuples(TIMES_MS, TIMES_MS)), max_size=20))
@example([("plain/x.mp4", None), ("it's (a) b,&c!.mp4", (1, 2)), ("é%.mp4", None)])
def test_many_at_once_equal_one_by_one(rows) -> None:
    spans = [(span[0] / 1000, span[1] / 1000) if span else (None, None) for _, span in rows]
    starts_s = np.array([np.nan if start is None else start for start, _ in spans])
    ends_s = np.array([np.nan if end is None else end for _, end in spans])
    many = video_ids(pa.array([name for name, _ in rows], pa.string()), starts_s, ends_s)
    assert many.to_pylist() == [video_id(name, *span) for (name, _), span in zip(rows, spans, strict=True)]
