"""Writes the folders of one unit: flow_x, flow_y and img_ pictures, from the shards of the flow and of its clips."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.export.folder import ExportFolder
from pipeline.export.jpegs import flow_jpegs, frame_jpegs
from pipeline.export.layout import Folder, Part
from pipeline.export.source import samples, shard_path
from pipeline.graph import Product, Unit
from pipeline.receipts import unreadable
from pipeline.store import Store
from schemas.config import Clips, Flow
from schemas.errors import ReelmillError

Places = Mapping[str, tuple[Path, Part]]  # clip_id -> where its pictures go


class StoppedError(Exception):
    """The export ends before this unit is whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawframeWriter:
    """Several threads may write units at a time; each holds one sample."""

    store: Store
    out: ExportFolder
    start_index: int
    flow: tuple[Product, Flow]
    frames: tuple[Product, Clips] | None  # the clips whose frames become img_ pictures, if any
    stop: threading.Event  # set it, and threads end at their next sample

    def write(self, unit: Unit, folders: Iterable[Folder]) -> None:
        """Write those of a unit's folders that do not stand. Raises ReelmillError where a shard is damaged."""
        absent = [
            folder
            for folder in folders
            if not self.out.stands(folder.name, num_files=2 * folder.num_fields + folder.num_frames)
        ]
        if not absent:
            return
        places: dict[str, tuple[Path, Part]] = {}
        for folder in absent:
            path = self.out.begin(folder.name)
            places.update({part.clip_id: (path, part) for part in folder.parts})
        flow_product, flow = self.flow
        self._each(unit, flow_product, places, lambda members, path, part: self._flow(members, flow, path, part))
        if self.frames:
            source, clips = self.frames
            self._each(unit, source, places, lambda members, path, part: self._frames(members, clips, path, part))
        self.out.publish([folder.name for folder in absent])

    def _each(
        self, unit: Unit, product: Product, places: Places, write: Callable[[Mapping[str, bytes], Path, Part], None]
    ) -> None:
        """Call `write` for each sample of the unit's shard that has a place."""
        due = set(places)
        shard = shard_path(product, unit)
        for key, members in samples(self.store, product, unit):
            if self.stop.is_set():
                raise StoppedError
            if key not in due:
                continue
            due.remove(key)
            try:
                write(members, *places[key])
            except ReelmillError as error:
                raise unreadable(shard, product.path, unit.index, f"sample {key}: {error}") from None
        if due:
            raise unreadable(shard, product.path, unit.index, f"{len(due)} samples of its index are not in it")

    def _flow(self, members: Mapping[str, bytes], flow: Flow, path: Path, part: Part) -> None:
        for k, pictures in enumerate(flow_jpegs(members, flow, count=part.num_fields), self.start_index + part.first):
            for axis, picture in zip("xy", pictures, strict=True):
                (path / f"flow_{axis}_{k:05d}.jpg").write_bytes(picture)

    def _frames(self, members: Mapping[str, bytes], clips: Clips, path: Path, part: Part) -> None:
        for k, picture in enumerate(frame_jpegs(members, clips, count=part.num_frames), self.start_index + part.first):
            (path / f"img_{k:05d}.jpg").write_bytes(picture)
