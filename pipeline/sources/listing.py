"""The videos below a folder, local or remote, with their sizes and times of change."""

from __future__ import annotations

import heapq
import os
import posixpath
import stat
from array import array
from collections.abc import Callable
from typing import Literal
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from pipeline.sources.issues import Issues
from pipeline.storage.patience import MOUNT_IS_AWAY
from pipeline.store import resolve
from schemas.errors import StorageError, UsageError

# A file in a folder is a video when its name ends so, in any case. A file that a list names is taken as it is.
VIDEO_EXTENSIONS = frozenset(
    {"3g2", "3gp", "asf", "avi", "divx", "f4v", "flv", "m2ts", "m2v", "m4v", "mkv", "mov", "mp4", "mpe", "mpeg", "mpg"}
    | {"mts", "mxf", "ogv", "rm", "rmvb", "ts", "vob", "webm", "wmv", "y4m"}
)

Progress = Callable[[int], None]  # called now and then with the number of videos found so far
_PROGRESS_EVERY = 10_000


def is_video_name(name: str) -> bool:
    """Whether a file in a folder counts as a video."""
    stem, dot, extension = name.rpartition(".")
    return bool(dot and stem) and extension.lower() in VIDEO_EXTENSIONS


class Listing:
    """Files below a folder, by column. A file is known by its index; the order of indices means nothing."""

    def __init__(self, videos: str, issues: Issues, progress: Progress | None = None) -> None:
        self.videos = videos  # as given: a local path or a URI
        self.fs, self.root = resolve(videos)
        self.is_local = isinstance(self.fs, pafs.LocalFileSystem)
        if not _is_utf8(self.root):
            raise UsageError(f"{videos!r}: the name of this folder is not UTF-8, and a manifest is; rename it")
        self.relative: list[str] = []  # paths below the folder, with forward slashes
        self.num_ignored = 0  # files that are not videos
        self.issues = issues
        self._sizes = array("q")
        self._mtimes_ns = array("q")
        self._progress = progress

    def __len__(self) -> int:
        return len(self.relative)

    def add(self, relative: str, size: int, mtime_ns: int) -> int | None:
        """Take a file up; returns its index, or None (and an issue) where its name can't stand in a manifest."""
        if not relative.isascii() and not _is_utf8(relative):
            self.issues.add("name_not_utf8", relative, "this name is not UTF-8: rename the file to use it")
            return None
        self.relative.append(relative)
        self._sizes.append(size)
        self._mtimes_ns.append(mtime_ns)
        if self._progress and len(self.relative) % _PROGRESS_EVERY == 0:
            self._progress(len(self.relative))
        return len(self.relative) - 1

    def relative_paths(self, indices: np.ndarray) -> pa.Array:
        """(N,) strings. indices: (N,) int64."""
        return pa.array(self.relative, pa.string()).take(pa.array(indices))

    def columns(self, indices: np.ndarray) -> dict[Literal["uri", "bytes", "etag"], pa.Array]:
        """Manifest columns of N files. indices: (N,) int64. bytes is int64, the others are strings."""
        sizes = pa.array(np.frombuffer(self._sizes, np.int64)[indices])
        mtimes_ns = pa.array(np.frombuffer(self._mtimes_ns, np.int64)[indices])
        etag = pc.binary_join_element_wise(sizes.cast(pa.string()), mtimes_ns.cast(pa.string()), "-")
        return {"uri": self._uris(self.relative_paths(indices)), "bytes": sizes, "etag": etag}

    def _uris(self, relative: pa.Array) -> pa.Array:
        if self.is_local:
            uris = pc.binary_join_element_wise(self.root.rstrip("/"), relative, "/")
            return _replace(uris, pc.starts_with(relative, "../"), posixpath.normpath)
        folder, question_mark, query = self.videos.partition("?")  # s3://bucket/folder?region=…
        odd = pc.invert(pc.match_substring_regex(relative, "^[A-Za-z0-9_./-]*$"))
        quoted = _replace(relative, odd, quote)
        return pc.binary_join_element_wise(folder.rstrip("/") + "/", quoted, question_mark + query, "")


def list_videos(videos: str, issues: Issues, progress: Progress | None = None) -> Listing:
    """All videos below a folder. Hidden files and folders are skipped; files of other kinds are counted as ignored.

    Raises UsageError where the folder is missing or can't be listed, and StorageError where a mount is away. A folder
    inside it that can't be listed, or a file that can't be looked at, is an issue.
    """
    listing = Listing(videos, issues, progress)
    if listing.is_local:
        _scan_local(listing)
    else:
        _scan_remote(listing)
    return listing


def _scan_local(listing: Listing) -> None:
    """Real folders first, then links to folders in order of their names: so whatever several links lead to is listed
    once, under the same name each time, and a link to a folder above it ends there."""
    seen: set[tuple[int, int]] = set()
    folders, links = [""], list[str]()
    while folders or links:
        folder = folders.pop() if folders else heapq.heappop(links)
        path = f"{listing.root}/{folder}"
        try:
            info = os.stat(path)  # noqa: PTH116 (a Path per folder of a million files is slow)
            if (info.st_dev, info.st_ino) in seen:
                continue
            seen.add((info.st_dev, info.st_ino))
            with os.scandir(path) as entries:
                for entry in entries:
                    _scan_entry(listing, entry, folder, folders, links)
        except OSError as error:
            _require_a_mount(path, error)
            if not folder:
                raise UsageError(f"{listing.videos}: can't list this folder of videos ({error.strerror})") from None
            listing.issues.add("unreadable_folder", folder[:-1], error.strerror or "can't be listed")


def _require_a_mount(path: str, error: OSError) -> None:
    """Raises StorageError where a whole mount is away: an index without its files would take their products away."""
    if error.errno in MOUNT_IS_AWAY:
        raise StorageError(
            f"{path}: can't be looked at now ({(error.strerror or str(error)).lower()}); see to the mount that it lies "
            "on, then run the same command again"
        )


def _scan_entry(listing: Listing, entry: os.DirEntry[str], folder: str, folders: list[str], links: list[str]) -> None:
    name = entry.name
    if name.startswith("."):
        return
    if entry.is_dir(follow_symlinks=False):
        folders.append(f"{folder}{name}/")
    elif entry.is_symlink() and entry.is_dir():
        heapq.heappush(links, f"{folder}{name}/")
    elif not is_video_name(name):
        listing.num_ignored += 1
    else:
        try:
            info = entry.stat()
        except OSError as error:
            _require_a_mount(f"{listing.root}/{folder}{name}", error)
            listing.issues.add("unreadable_file", folder + name, error.strerror or "can't be read")
            return
        if stat.S_ISREG(info.st_mode):
            listing.add(folder + name, info.st_size, info.st_mtime_ns)
        else:
            listing.num_ignored += 1


def _scan_remote(listing: Listing) -> None:
    root = listing.root.rstrip("/")
    try:
        infos = listing.fs.get_file_info(pafs.FileSelector(root, recursive=True))
    except OSError as error:
        raise UsageError(f"{listing.videos}: can't list this folder of videos ({error})") from None
    for info in infos:
        relative = info.path[len(root) + 1 :]
        if not info.is_file or is_hidden(relative):
            continue
        if is_video_name(info.base_name):
            listing.add(relative, info.size, info.mtime_ns or 0)
        else:
            listing.num_ignored += 1


def is_hidden(relative: str) -> bool:
    """Whether a file, or a folder it lies in, has a name that starts with a dot."""
    return relative.startswith(".") or "/." in relative


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _replace(texts: pa.Array, mask: pa.Array, function: Callable[[str], str]) -> pa.Array:
    """`texts` with `function` applied where `mask` is true."""
    if not pc.any(mask).as_py():
        return texts
    replaced = [function(text) for text in texts.filter(mask).to_pylist()]
    return pc.replace_with_mask(texts, mask, pa.array(replaced, pa.string()))
