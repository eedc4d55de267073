from typing import get_args

import pytest

import pipeline.sources  # noqa: F401 (registers the formats)
from pipeline.sources.registry import SOURCES, register
from schemas.sources import Source


def test_every_source_section_has_its_format() -> None:
    union, _ = get_args(Source)
    kinds = {get_args(section.model_fields["kind"].annotation)[0] for section in get_args(union)}
    assert set(SOURCES) == kinds


def test_a_kind_is_registered_once() -> None:
    with pytest.raises(AssertionError, match="two sources of kind 'directory'"):
        register("directory")(lambda source, scan, issues: None)
