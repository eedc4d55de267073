"""What two runs of one config must have in common: every byte of every product."""

from __future__ import annotations

import hashlib

import pyarrow.fs as pafs

from pipeline.store import resolve

BESIDE_THE_PRODUCTS = ("_config.json", "_runs/")  # the dataset's own place; when and where it was run


def tree(uri: object) -> dict[str, str]:
    """Path -> sha256 of every file of the products of a dataset, and of its manifest."""
    filesystem, root = resolve(str(uri))
    found = {}
    for info in filesystem.get_file_info(pafs.FileSelector(root, recursive=True, allow_not_found=True)):
        path = info.path.removeprefix(root).strip("/")
        if info.is_file and not path.startswith(BESIDE_THE_PRODUCTS):
            with filesystem.open_input_file(info.path) as file:
                found[path] = hashlib.sha256(file.read()).hexdigest()
    return dict(sorted(found.items()))
