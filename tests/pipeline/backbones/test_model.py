"""A declaration is data: it can't be changed by whoever reads it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
from tiny_models import tiny


def test_a_declaration_is_not_changed() -> None:
    model = tiny()
    with pytest.raises(FrozenInstanceError):
        model.num_classes = 7  # type: ignore[misc]
    assert model.option_names == ("pool",)


def test_the_default_recipe_is_the_first_or_what_the_options_decide() -> None:
    assert tiny().default_recipe({}) == "own"
    model = replace(tiny(), recipe_of=lambda options: f"of {options['pool']}")
    assert model.default_recipe({"pool": "max"}) == "of max"
