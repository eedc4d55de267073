"""A declaration is data: it can't be changed by whoever reads it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
from tiny_models import tiny


def test_a_declaration_is_not_changed() -> None:
    model = tiny()
    with pytest.raises(FrozenInstanceError):
        model.num_classes = 7  # type: ignore[misc]
    assert model.option_names == ("pool",)
    assert next(iter(model.recipes)) == "own"
