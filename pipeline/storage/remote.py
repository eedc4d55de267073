"""A pyarrow filesystem that waits for its server: whatever fails for a moment is tried again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from pipeline.storage.patience import Doing, T, persist
from pipeline.storage.ranges import RemoteFile


class Patient(pafs.FileSystemHandler):
    """The operations of another filesystem, each with patience. Make a filesystem of it with `pafs.PyFileSystem`.

    Files for writing are pyarrow's own, as they are: `upload` sends whole files.
    """

    def __init__(self, filesystem: pafs.FileSystem, scheme: str) -> None:
        self.filesystem = filesystem
        self.scheme = scheme

    def where(self, path: str) -> str:
        """How the user knows a path of this filesystem."""
        return f"{self.scheme}://{path}"

    def _persist(self, act: Callable[[], T], path: str, doing: Doing) -> T:
        return persist(act, self.where(path), doing=doing)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Patient) and self.filesystem == other.filesystem

    def __hash__(self) -> int:
        return hash(self.scheme)

    def get_type_name(self) -> str:
        return f"patient+{self.filesystem.type_name}"

    def normalize_path(self, path: str) -> str:
        return str(self.filesystem.normalize_path(path))

    def get_file_info(self, paths: list[str]) -> list[pafs.FileInfo]:
        return self._persist(lambda: self.filesystem.get_file_info(paths), paths[0] if paths else "", "look")

    def get_file_info_selector(self, selector: pafs.FileSelector) -> list[pafs.FileInfo]:
        return self._persist(lambda: self.filesystem.get_file_info(selector), selector.base_dir, "list")

    def create_dir(self, path: str, recursive: bool) -> None:
        self._persist(lambda: self.filesystem.create_dir(path, recursive=recursive), path, "write")

    def delete_dir(self, path: str) -> None:
        self._persist(lambda: self.filesystem.delete_dir(path), path, "write")

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        act = lambda: self.filesystem.delete_dir_contents(path, missing_dir_ok=missing_dir_ok)  # noqa: E731
        self._persist(act, path, "write")

    def delete_root_dir_contents(self) -> None:
        raise pa.ArrowInvalid("all buckets at once are not for this program to empty")

    def delete_file(self, path: str) -> None:
        self._persist(lambda: self.filesystem.delete_file(path), path, "write")

    def move(self, src: str, dest: str) -> None:
        self.filesystem.move(src, dest)  # not tried again: half of it may be done

    def copy_file(self, src: str, dest: str) -> None:
        self._persist(lambda: self.filesystem.copy_file(src, dest), dest, "write")

    def open_input_file(self, path: str) -> Any:
        return pa.PythonFile(RemoteFile(self.filesystem, path, self.where(path)), mode="r")

    def open_input_stream(self, path: str) -> Any:
        return self.open_input_file(path)

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        act = lambda: self.filesystem.open_output_stream(path, metadata=metadata, compression=None)  # noqa: E731
        return self._persist(act, path, "write")

    def open_append_stream(self, path: str, metadata: Any) -> Any:
        raise pa.ArrowNotImplementedError("objects are written whole")
