"""WebDataset shards: plain tar files whose bytes depend on their content only.

Written with the standard library, because the machines that read them need not have webdataset; a test reads
them back with webdataset itself.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from io import BytesIO
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
    extracted to disk, so a member can't escape."""
    key: str | None = None
    members: dict[str, bytes] = {}
    with tarfile.open(fileobj=file, mode="r|", bufsize=1 << 20) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isfile() else None
            if content is None:
                continue
            this_key, _, extension = member.name.partition(".")
            if this_key != key:
                if key is not None:
                    yield key, members
                key, members = this_key, {}
            members[extension] = content.read()
    if key is not None:
        yield key, members
