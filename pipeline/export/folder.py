"""The local folder that an export fills: many small files, alone or in subfolders that appear whole or not at all.

Names are refused that would lead out of the folder: they are made from video ids, which may come from elsewhere.

_export.json    written first: of what this is the export, so that the same command goes on here and no other does
_tmp/           files and subfolders in the making; swept when an export starts and when it ends
NAME, NAME/     a finished file or subfolder
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.store import TEMP_FOLDER, Store
from schemas.errors import UsageError

MARKER = "_export.json"


class ExportFolder:
    """A local folder that is new, empty, or holds an earlier export with the same `identity` (plain JSON values).

    `facts` go into the marker, too, for whoever reads the export. Raises UsageError for any other folder.
    """

    def __init__(self, out: str, *, identity: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        if "://" in out:
            raise UsageError(f"--out {out}: an export is read from a local disk; give a local folder")
        self.root = Path(out).expanduser().absolute()
        if self.root.exists() and not self.root.is_dir():
            raise UsageError(f"--out {out} is a file; give a folder")
        self.store = Store(str(self.root))
        self._check_earlier(out, identity)
        self.sweep()
        self.root.mkdir(parents=True, exist_ok=True)
        marker = _json({**facts, "export": dict(identity)})
        if self.store.read_or_none(MARKER) != marker:
            self.store.put(MARKER, marker)

    def _check_earlier(self, out: str, identity: Mapping[str, Any]) -> None:
        data = self.store.read_or_none(MARKER)
        if data is None:
            # a first export that was killed before its marker stood has left _tmp at most
            if self.root.exists() and any(path.name != TEMP_FOLDER for path in self.root.iterdir()):
                raise UsageError(f"--out {out} is not empty and holds no export (no {MARKER}); give a new folder")
            return
        try:
            earlier = json.loads(data)["export"]
            differing = [key for key in {**identity, **earlier} if earlier.get(key) != identity.get(key)]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UsageError(f"--out {out}: its {MARKER} is damaged; delete that folder or give another") from None
        for key in differing[:1]:
            raise UsageError(
                f"--out {out} holds another export: its {key} is {earlier.get(key)}, and this one's would be "
                f"{identity.get(key)}; delete that folder or give another"
            )

    def stands(self, name: str, *, num_files: int) -> bool:
        """Whether the subfolder `name` is finished, with so many files in it."""
        try:
            with os.scandir(self.store.path(name)) as entries:
                return sum(1 for _ in entries) == num_files
        except FileNotFoundError:
            return False

    def begin(self, name: str) -> Path:
        """A new, empty folder that becomes the subfolder `name` when it is published."""
        path = Path(self.store.path(f"{TEMP_FOLDER}/{name}"))
        path.mkdir(parents=True)
        return path

    def begin_file(self, name: str) -> Path:
        """Where to write a file that becomes `name` when it is published."""
        path = Path(self.store.path(f"{TEMP_FOLDER}/{name}"))
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def publish(self, names: Iterable[str]) -> None:
        """Give files and subfolders that were begun their names, all bytes being safe on the disk."""
        os.sync()  # once for all: to sync each picture of millions would take longer than to write it
        for name in names:
            path = Path(self.store.path(name))
            if path.is_dir():
                shutil.rmtree(path)
            path.parent.mkdir(exist_ok=True)
            (self.root / TEMP_FOLDER / name).replace(path)

    def withdraw(self) -> None:
        """Leave the folder to any other export, since this one has put nothing into it."""
        self.sweep()
        self.store.delete(MARKER)

    def sweep(self) -> None:
        """Remove what is not finished."""
        shutil.rmtree(self.root / TEMP_FOLDER, ignore_errors=True)


def _json(value: object) -> bytes:
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()
