"""Reading the text files that come with datasets: lists, csv and label names, local or remote."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Literal

import pyarrow as pa
import pyarrow.fs as pafs

from pipeline.store import resolve
from schemas.errors import UsageError

Split = Literal["train", "val", "test"]

_SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def parse_split(text: str) -> Split:
    """train, val or test, from the names that datasets give them. Raises ValueError for any other."""
    split = _SPLITS.get(text) or _SPLITS.get(text.strip().lower())
    if split is None:
        raise ValueError(f"split {text!r} is not one of {', '.join(_SPLITS)}")
    return split


def read_bytes(path: str) -> bytes:
    """A whole file. Raises UsageError where it can't be read."""
    with _open(path) as stream:
        return stream.read()


def read_lines(path: str) -> Iterator[tuple[int, str]]:
    """(line number from 1, text without its end) for each line. The file is opened at once, not at the first line.

    A line that is not UTF-8 comes with surrogates in it; `check_utf8` refuses it. Raises UsageError where the file
    can't be read.
    """
    return _lines(_open(path))


def _lines(stream: pa.NativeFile) -> Iterator[tuple[int, str]]:
    # not str.splitlines: a name may hold one of the rarer line ends of Unicode
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape") as text:
        for number, line in enumerate(text, start=1):
            yield number, line.rstrip("\n")


def check_utf8(text: str) -> None:
    """Raises ValueError for a line of another encoding."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("this line is not UTF-8") from None


def list_names(folder: str) -> list[str]:
    """The sorted names of the files directly in a folder, but hidden ones. Raises UsageError where there is none."""
    filesystem, path = resolve(folder)
    try:
        infos = filesystem.get_file_info(pafs.FileSelector(path))
    except OSError as error:
        raise UsageError(f"{folder}: can't list this folder ({_reason(error)})") from None
    return sorted(info.base_name for info in infos if info.is_file and not info.base_name.startswith("."))


def join(folder: str, name: str) -> str:
    """The path of a file in a folder that may be a URI with options (`s3://bucket/lists?region=…`)."""
    base, question_mark, query = folder.partition("?") if "://" in folder else (folder, "", "")
    return f"{base.rstrip('/') if base != '/' else ''}/{name}{question_mark}{query}"


def parent(path: str) -> str:
    """The folder of a file, local or URI."""
    base, question_mark, query = path.partition("?") if "://" in path else (path, "", "")
    if "://" in base:
        return base.rpartition("/")[0] + question_mark + query
    return str(PurePosixPath(base).parent)


def _open(path: str) -> pa.NativeFile:
    filesystem, inner = resolve(path)
    try:
        return filesystem.open_input_stream(inner)
    except OSError as error:
        raise UsageError(f"{path}: can't read this file ({_reason(error)})") from None


def _reason(error: OSError) -> str:
    return "there is none" if isinstance(error, FileNotFoundError) else str(error)
