"""WebDataset shards: plain tar files whose bytes depend on their content only.

Written with the standard library, because the machines that read them need not have webdataset; a test reads
them back with webdataset itself.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from types import TracebackType
from typing import Any, BinaryIO, cast

import pyarrow as pa


class ShardWriter:
    """Writes samples to one tar: no clock, no user, members of a sample adjacent and in the given order."""

    def __init__(self, file: BinaryIO) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 20)
        self._keys: set[str] = set()

    def add(self, key: str, members: Mapping[str, bytes]) -> None:
        """Add one sample; `members` maps extensions such as "000.jpg", "json", "cls" to their bytes."""
        assert not {".", "/"} & set(key), f"a WebDataset key holds no dot and no slash, got {key!r}"
        assert key not in self._keys, f"two samples named {key!r}"
        self._keys.add(key)
        for extension, data in members.items():
            member = tarfile.TarInfo(f"{key}.{extension}")
            member.size = len(data)
            member.mode = 0o644
            self._tar.addfile(member, BytesIO(data))

    def close(self) -> None:
        self._tar.close()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:  # or tarfile, when it is collected, would write the end of the archive into a closed file, and complain
            cast(Any, self._tar.fileobj).closed = True


def read_shard(file: pa.NativeFile | BinaryIO) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield (key, {extension: bytes}) for each sample of a shard, in order. Names are only names: nothing is
    extracted to disk, so a member can't escape. Raises tarfile.ReadError for what is damaged or no tar."""
    key: str | None = None
    members: dict[str, bytes] = {}
    buffered = BufferedReader(cast(Any, file), READ_BYTES)
    try:
        for name, content in _members(buffered):
            this_key, extension = _split(name)
            if this_key != key:
                if key is not None:
                    yield key, members
                key, members = this_key, {}
            members[extension] = content
        if key is not None:
            yield key, members
    finally:
        buffered.detach()  # or it closes a file that is not its own


def shard_bytes(num_bytes: int) -> int:
    """The size of the shard whose samples take `num_bytes`, headers and all: the end of a tar is two empty blocks, and
    the whole is filled up to records of 10 KiB."""
    return -(-(num_bytes + 2 * BLOCK) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


@dataclass(frozen=True, slots=True)
class Span:
    """Where a sample is in its shard: bytes [start, stop), headers and all."""

    start: int
    stop: int


def sample_spans(file: pa.NativeFile | BinaryIO) -> Iterator[tuple[str, Span]]:
    """(key, where it is) of each sample of a shard, in order, for `read_sample`. Raises as `read_shard` does."""
    key: str | None = None
    start = stop = 0
    buffered = BufferedReader(cast(Any, file), READ_BYTES)
    try:
        for name, span in _member_spans(buffered):
            this_key, _ = _split(name)
            if this_key != key:
                if key is not None:
                    yield key, Span(start, stop)
                key, start = this_key, span.start
            stop = span.stop
        if key is not None:
            yield key, Span(start, stop)
    finally:
        buffered.detach()


def read_sample(file: pa.NativeFile | BinaryIO, span: Span) -> dict[str, bytes]:
    """{extension: bytes} of one sample, read alone. Raises tarfile.ReadError where it is not there any more."""
    file.seek(span.start)
    data = file.read(span.stop - span.start)
    if len(data) != span.stop - span.start:
        raise tarfile.ReadError("unexpected end of data")
    samples = list(read_shard(BytesIO(bytes(data) + bytes(BLOCK))))
    if len(samples) != 1:
        raise tarfile.ReadError(f"{len(samples)} samples where one was")
    return samples[0][1]


def _split(name: str) -> tuple[str, str]:
    """(key, extension) of a member's name, as webdataset has them; `tar -c .` puts "./" before all names."""
    folder, slash, base = name.removeprefix("./").rpartition("/")
    key, _, extension = base.partition(".")
    return f"{folder}{slash}{key}", extension


# ---------------------------------------------------------------- tar

# tarfile's own reader takes 0.1 ms a member under the GIL, and a clip has up to 128 of them: it would hold back the
# threads that decode. This one reads the regular files of any tar, and leaves out all else.

READ_BYTES = 1 << 20
BLOCK = 512
REGULAR, PAX, GNU_LONG_NAME = (b"0", b"\0"), b"x", b"L"


def _members(file: BufferedReader) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each regular file."""
    for name, _, size in _headers(file):
        content = _exactly(file, size)
        _exactly(file, -size % BLOCK)
        yield name, content


def _member_spans(file: BufferedReader) -> Iterator[tuple[str, Span]]:
    """(name, where it is) of each regular file, its headers included; contents are passed over."""
    for name, start, size in _headers(file):
        whole = size + -size % BLOCK
        _pass_over(file, whole)
        yield name, Span(start, file.tell())


def _headers(file: BufferedReader) -> Iterator[tuple[str, int, int]]:
    """(name, where its headers start, size) of each regular file. Whoever asks reads the content before the next."""
    beside: dict[str, str] = {}  # what a header of its own says of the next member
    start = file.tell()
    while any(header := _exactly(file, BLOCK)):
        size, kind = _size(header, beside), header[156:157]
        if kind in REGULAR:
            yield beside.get("path") or _short_name(header), start, size
            beside, start = {}, file.tell()
            continue
        content = _exactly(file, size)
        _exactly(file, -size % BLOCK)
        beside = {}
        if kind == PAX:
            beside = _pax_records(content)
        elif kind == GNU_LONG_NAME:
            beside = {"path": _text(content)}
        else:
            start = file.tell()


def _pass_over(file: BufferedReader, size: int) -> None:
    if size:  # the last byte is read: a seek beyond the end would go unseen
        file.seek(size - 1, 1)
        _exactly(file, 1)


def _exactly(file: BufferedReader, size: int) -> bytes:
    try:
        data = file.read(size)
    except (OverflowError, MemoryError):  # of a size that no file has
        data = b""
    if len(data) != size:
        raise tarfile.ReadError("unexpected end of data")
    return data


def _size(header: bytes, beside: dict[str, str]) -> int:
    """Bytes of a member. Raises ReadError where the header is damaged."""
    try:
        # the sum counts its own field as spaces
        is_sound = int(_text(header[148:156]), 8) == sum(header) - sum(header[148:156]) + 8 * ord(" ")
        size = int(beside.get("size") or tarfile.nti(header[124:136]))  # type: ignore[attr-defined]  # in digits, or binary
    except (ValueError, tarfile.TarError):
        raise tarfile.ReadError("bad header") from None
    if not is_sound or size < 0:
        raise tarfile.ReadError("bad header")
    return size


def _short_name(header: bytes) -> str:
    prefix = _text(header[345:500]) if header[257:262] == b"ustar" else ""
    return f"{prefix}/{_text(header[:100])}" if prefix else _text(header[:100])


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="replace")


def _pax_records(content: bytes) -> dict[str, str]:
    """The records of a PAX header, each "LENGTH KEY=VALUE\\n"."""
    records = {}
    while content:
        digits, _, _ = content.partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        if not len(digits) < length <= len(content):
            raise tarfile.ReadError("bad header")
        key, _, value = content[len(digits) + 1 : length - 1].partition(b"=")
        records[_text(key)] = _text(value)
        content = content[length:]
    return records
