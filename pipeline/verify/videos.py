"""Clips and flow, made again from the videos that they came from."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import receipts
from pipeline.shards import read_shard
from pipeline.store import Store, resolve
from pipeline.units import MANIFEST
from pipeline.verify.stored import Inputs
from pipeline.video.errors import VideoError
from pipeline.video.guard import Decoder
from schemas.errors import ReelmillError
from schemas.manifest import VideoRow

Members = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample of a clips or flow shard: what its index says, and its members."""

    facts: Mapping[str, Any]
    members: Members


@dataclass(slots=True)
class Remade:
    """Samples that were made again, and the sentences on those that were not."""

    samples: dict[str, Sample] = field(default_factory=dict)  # by clip_id
    unread: dict[str, str] = field(default_factory=dict)  # clip_id -> why its video can't be used here
    lost: dict[str, str] = field(default_factory=dict)  # clip_id -> its video gives no such clip


# (row, clip_ids, decoder) -> the samples of one video, in order; the caller may stop early
Sampler = Callable[[VideoRow, set[str], Decoder], Generator[Sample, None, Any]]


class Videos:
    """Reads the videos of a dataset again, with a decoder process that lives from video to video."""

    def __init__(self, inputs: Inputs, decoder: Decoder) -> None:
        self._inputs, self._decoder = inputs, decoder

    def remake(self, source: str, unit: int, wanted: Mapping[str, str], sampler: Sampler) -> Remade:
        """`wanted` maps clip_ids of a unit of the clips or flow product `source` to their video_ids."""
        remade, rows = Remade(), self._inputs.rows(source, unit)
        by_video: dict[str, set[str]] = {}
        for clip_id, video_id in wanted.items():
            by_video.setdefault(video_id, set()).add(clip_id)
        for video_id, clip_ids in sorted(by_video.items()):
            if video_id not in rows:
                remade.lost |= dict.fromkeys(clip_ids, f"{MANIFEST} has no row {video_id} in unit {unit:06d}")
                continue
            row, num_bytes = rows[video_id]
            problem = _why_unusable(row, num_bytes)
            if problem:
                remade.unread |= dict.fromkeys(clip_ids, problem)
                continue
            self._sample(row, clip_ids, sampler, remade)
        return remade

    def _sample(self, row: VideoRow, clip_ids: set[str], sampler: Sampler, remade: Remade) -> None:
        left = set(clip_ids)
        try:
            with closing(sampler(row, clip_ids, self._decoder)) as samples:
                for sample in samples:
                    if sample.facts["clip_id"] in left:
                        remade.samples[sample.facts["clip_id"]] = sample
                        left.discard(sample.facts["clip_id"])
                    if not left:
                        return
        except VideoError as error:
            if error.reason != "clips_differ":
                remade.unread |= dict.fromkeys(left, f"{row.uri} can't be read here: {error.message}")
                return
        except ReelmillError as error:  # no decoder process on this machine
            remade.unread |= dict.fromkeys(left, str(error))
            return
        if self._inputs.has_manifest:
            remade.lost |= dict.fromkeys(left, f"{row.uri} gives no such clip with the settings of the card")
        else:
            sentence = f"without {MANIFEST} nobody knows which part of {row.uri} was used"
            remade.unread |= dict.fromkeys(left, sentence)


def _why_unusable(row: VideoRow, num_bytes: int | None) -> str | None:
    """Why the file can't be the one that was used, or can't be had; None where it may be."""
    try:
        filesystem, path = resolve(row.uri)
        info = filesystem.get_file_info(path)
    except (ReelmillError, OSError) as error:
        return f"{row.uri} can't be reached from here ({' '.join(str(error).split())})"
    if not info.is_file:
        return f"{row.uri} is not there"
    if num_bytes is not None and info.size != num_bytes:
        return f"{row.uri} is another file by now: {info.size:,} bytes, and {num_bytes:,} in {MANIFEST}"
    return None


# ---------------------------------------------------------------- what is stored


def clip_videos(store: Store, product: str, unit: int, table: str) -> dict[str, str]:
    """clip_id -> video_id, in the order of a table of a unit ("_index/000000.parquet", "part-000000.parquet")."""
    path = f"{product}/{table}"
    try:
        with store.open(path) as file:
            rows = pq.read_table(file, columns=["clip_id", "video_id"])
    except (OSError, pa.ArrowInvalid) as error:
        raise receipts.unreadable(path, product, unit, error) from None
    return dict(zip(rows["clip_id"].to_pylist(), rows["video_id"].to_pylist(), strict=True))


def stored_samples(store: Store, product: str, unit: int, wanted: Sequence[str]) -> Iterator[tuple[str, Members]]:
    """(key, members) of the wanted samples of a unit's shard. Raises ReelmillError where it lacks one of them."""
    kind = product.partition("/")[0]
    path = f"{product}/{'maps' if kind == 'features' else kind}-{unit:06d}.tar"
    left = set(wanted)
    if not left:
        return
    try:
        with store.open(path) as file:
            for key, members in read_shard(file):
                if key in left:
                    left.discard(key)
                    yield key, members
                if not left:
                    return
    except (OSError, tarfile.TarError) as error:
        raise receipts.unreadable(path, product, unit, error) from None
    raise ReelmillError(f"{path} has no sample {min(left)}")


def said(members: Members) -> dict[str, Any]:
    """What KEY.json says. Raises ReelmillError where it is missing or damaged."""
    try:
        return dict(json.loads(members["json"]))
    except (KeyError, ValueError, TypeError) as error:
        raise ReelmillError(f"its json is missing or damaged ({error!r})") from None


def require_alike(stored: Mapping[str, Any], remade: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raises ReelmillError for the first fact in which a sample differs from what its video gives."""
    for name in names:
        if stored.get(name) != remade[name]:
            raise ReelmillError(f"its {name} is {_short(stored.get(name))}, and its video gives {_short(remade[name])}")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
