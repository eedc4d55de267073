"""What the file of a backbone declares, one `Model` for each name under which it can be built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipeline.backbones.checkpoints import KeyMap
from pipeline.backbones.identity import Option
from pipeline.backbones.network import Network
from pipeline.backbones.preprocess import Preprocessing
from pipeline.backbones.spec import Modality

# (num_classes, or None for a net without classifier; options; preprocessing) -> a net on the meta device
OpenNet = Callable[[int | None, Mapping[str, Option], Preprocessing], Network]


@dataclass(frozen=True, slots=True)
class Model:
    """A backbone: how it is opened, what its checkpoints look like, and how its published input was made."""

    name: str
    modality: Modality
    num_classes: int  # of the published model; random weights have as many
    classifier: str  # the module that a checkpoint may lack, or size differently
    formats: tuple[KeyMap, ...]  # the checkpoints it can read, as data
    recipes: Mapping[str, Preprocessing]  # by name; the first is the default
    open_net: OpenNet
    init_random: Callable[[Network, int], None]  # seeded values, in place
    option_names: tuple[str, ...] = ()  # what model_options may hold, beside num_classes
    recipe_of: Callable[[Mapping[str, Option]], str] | None = None  # by options, where they decide the default

    def default_recipe(self, options: Mapping[str, Option]) -> str:
        """The recipe that a net with these options was published with."""
        return self.recipe_of(options) if self.recipe_of else next(iter(self.recipes))
