"""Finding the file that a row means: by path, by name, or by stem."""

from __future__ import annotations

import os
import posixpath
import stat
from functools import cached_property
from pathlib import Path

from pipeline.sources.listing import Listing, is_hidden, is_video_name


class Lookup:
    """Finds files of a listing; each index is made on its first use."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    def path(self, path: str) -> int | None:
        """The file at `path`: relative to the folder, absolute, or a URI below the folder's."""
        relative = self._below(path)
        index = self._by_path.get(relative)
        if index is None:
            index = self._unlisted(relative)
            if index is not None:
                self._by_path[relative] = index
        return index

    def name(self, name: str) -> int | None:
        """The file called `name`, in whatever folder; None also where several are."""
        found = self._by_name.get(name, [])
        return found[0] if len(found) == 1 else None

    def path_or_name(self, path: str) -> int | None:
        """The file at `path`, or the only one of that name where the folders are others than the list says."""
        index = self.path(path)
        return self.name(path.rpartition("/")[2]) if index is None else index

    def stem(self, stem: str, folders: tuple[str, ...] = ()) -> int | None:
        """The video called `stem` plus an extension: best in one of `folders`, then the one nearest to the top."""
        found = self._by_stem.get(stem)
        if isinstance(found, list):
            return min(found, key=lambda index: self._rank(index, folders))
        return found

    @cached_property
    def _by_path(self) -> dict[str, int]:
        return {path: index for index, path in enumerate(self._listing.relative)}

    @cached_property
    def _by_name(self) -> dict[str, list[int]]:
        names: dict[str, list[int]] = {}
        for index, path in enumerate(self._listing.relative):
            names.setdefault(path.rpartition("/")[2], []).append(index)
        return names

    @cached_property
    def _by_stem(self) -> dict[str, list[int] | int]:
        # most stems name one file, and a million lists of one would take more room than the names
        stems: dict[str, list[int] | int] = {}
        for index, path in enumerate(self._listing.relative):
            stem = path[path.rfind("/") + 1 : path.rfind(".")]
            other = stems.setdefault(stem, index)
            if isinstance(other, list):
                other.append(index)
            elif other != index:
                stems[stem] = [other, index]
        return stems

    def _rank(self, index: int, folders: tuple[str, ...]) -> tuple[bool, int, str]:
        path = self._listing.relative[index]
        parents = path.split("/")[:-1]
        return not (parents and parents[-1] in folders), len(parents), path

    def _below(self, path: str) -> str:
        """`path` as seen from the folder, in the form that the listing has."""
        if self._listing.is_local:
            return os.path.relpath(path, self._listing.root) if path.startswith("/") else posixpath.normpath(path)
        folder = self._listing.videos.partition("?")[0].rstrip("/") + "/"
        return posixpath.normpath(path.removeprefix(folder))

    def _unlisted(self, relative: str) -> int | None:
        """A file that the listing left out: hidden, outside the folder, behind a second link, or not called a video."""
        listing = self._listing
        if listing.is_local:
            try:
                info = Path(listing.root, relative).stat()
            except (OSError, ValueError):
                return None
            return listing.add(relative, info.st_size, info.st_mtime_ns) if stat.S_ISREG(info.st_mode) else None
        listed = is_video_name(relative) and not is_hidden(relative)
        if listed or "://" in relative or relative.startswith(("/", "../")):
            return None  # to ask a remote store about each of a million missing videos would take hours
        remote = listing.fs.get_file_info(f"{listing.root.rstrip('/')}/{relative}")
        return listing.add(relative, remote.size, remote.mtime_ns or 0) if remote.is_file else None
