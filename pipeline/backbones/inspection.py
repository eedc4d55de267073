"""What a weights file is: the facts that `reelmill weights inspect` prints."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from pipeline.backbones.checkpoint_file import container, read
from pipeline.backbones.identity import file_sha256
from pipeline.backbones.recognise import Recognised, recognise


def inspect(path: Path) -> dict[str, Any]:
    """The file's facts as plain JSON values, with one entry in `models` for each model that takes it.

    Raises ReelmillError for a file that can't be read, and for one that no model takes: what it looks like instead.
    """
    checkpoint = read(path)
    found = recognise(checkpoint)
    dtypes = Counter(str(value.dtype).removeprefix("torch.") for value in checkpoint.tensors.values())
    return {
        "file": str(path),
        "container": container(path),
        "sha256": file_sha256(path),
        "arrays": len(checkpoint.tensors),
        "dtypes": dict(sorted(dtypes.items())),
        "models": [_facts(one) for one in found],
    }


def _facts(found: Recognised) -> dict[str, Any]:
    matched, spec = found.matched, found.net.spec
    return {
        "model": spec.name,
        "modality": spec.modality,
        "format": matched.keymap.format,
        "classifier": spec.classifier,
        "num_classes": spec.num_classes,
        "parameters": sum(value.numel() for value in found.net.parameters()),
        "options": dict(found.net.options),
        "recipe": spec.preprocessing.recipe,
        "default_layer": spec.default_layer,
        "layers": dict(spec.layers),
        "map_layers": list(spec.map_layers),
        "note": matched.keymap.note,
        "unused": list(matched.unused),
        "ignored": dict(sorted(matched.ignored.items())),
    }
