"""A flow product as the folders that denseflow writes, with the lists that mmaction2 reads them by.

    NAME/img_00000.jpg flow_x_00000.jpg flow_y_00000.jpg …    a folder a video or a clip: see pipeline.export.layout
    train.txt val.txt test.txt unsplit.txt                    NAME, its number of flow_x pictures, its label ids
    _export.json                                              of what this is the export, and how levels read as px

denseflow counts pictures from 0, mmaction2's readers from 1 unless told. The number in a list is that of the fields;
img_ pictures are never fewer, so a reader that trusts it finds each picture of either kind:

    a clip, fields: T      T fields, T frames
    a clip, fields: T-1    T - 1 fields, T frames
    a video of N frames    N - 1 fields, N frames, as denseflow has it; N - 1 and N - 1 where the last frame is alone
                           in its clip, which then has no flow
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.export.folder import ExportFolder
from pipeline.export.layout import COLUMNS, PERS, ClipRow, Folder, Layout, Per, by_video, why_not_one_folder
from pipeline.export.lists import RawframeLists
from pipeline.export.rawframes import RawframeWriter
from pipeline.export.source import index_rows, require_whole
from pipeline.graph import Plan, Product, Unit
from pipeline.store import Store
from pipeline.threads import num_cores
from pipeline.units import unit_rows
from schemas.config import Clips, Flow
from schemas.errors import UsageError

VERSION = 1  # raised whenever the names or bytes of an export change
MAX_THREADS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseflowReport:
    root: Path
    per: Per
    why_clips: str  # why it is not a folder a video, where it was not asked to be one a clip
    start_index: int
    num_folders: int
    num_fields: int
    num_frames: int
    num_without: int  # videos of the manifest that have no flow
    lists: Mapping[str, int]  # file name -> lines
    sizes_differ: bool  # frames and flow were brought to different sizes

    def lines(self) -> list[str]:
        reason = f", since {self.why_clips}" if self.why_clips else ""
        frames = f"{self.num_frames:,} frames" if self.num_frames else "no frames"
        found = ", ".join(f"{count:,} in {name}" for name, count in self.lists.items()) or "no list"
        lines = [
            f"{self.num_folders:,} folders in {self.root}, one a {self.per}{reason}",
            f"{self.num_fields:,} fields and {frames}, numbered from {self.start_index}; {found}",
        ]
        if self.num_without:
            who = "1 video has" if self.num_without == 1 else f"{self.num_without:,} videos have"
            lines.append(f"{who} no flow; `reelmill status` says why")
        if self.sizes_differ:
            lines.append("img_ pictures have the clips' size and flow_ pictures the flow's own")
        if self.lists:
            lines.append(
                f"mmaction2: type='RawframeDataset', ann_file='{self.root / next(iter(self.lists))}', "
                f"data_prefix=dict(img='{self.root}'), modality='Flow', filename_tmpl='flow_{{}}_{{:05d}}.jpg', "
                f"start_index={self.start_index}"
            )
        return lines


def export_denseflow(
    store: Store,
    plan: Plan,
    product: Product,
    *,
    out: str,
    start_index: int = 0,
    frames: bool = True,
    per: str | None = None,
    progress: Callable[[int], None] = lambda num_rows: None,
) -> DenseflowReport:
    """Write the flow of `product` below the local folder `out`, with the frames of its clips unless told otherwise.

    `per` is "video" or "clip"; None takes videos where the clips of each can be one folder. `progress` is told the
    number of manifest rows of each unit that is done. A second call goes on where one was interrupted, and changes
    nothing in an export that is whole.

    Raises UsageError where the settings don't go with the product or `out` holds something else, ReelmillError where a
    unit is missing, stale or damaged.
    """
    flow, source, clips = _upstream(plan, product, start_index=start_index, per=per)
    if frames:
        _check_frames(product, source, flow, clips)
    for needed in (product, source) if frames else (product,):
        require_whole(store, needed, plan.units)
    why_clips = None if per == "clip" else _why_clips(store, plan.units, product, flow, clips)
    if per == "video" and why_clips:
        raise UsageError(f"--per video: {why_clips}; give --per clip")
    layout = Layout(flow, clips, per="clip" if per == "clip" or why_clips else "video", frames=frames)
    identity = {
        "target": "denseflow",
        "product": product.path,
        "fingerprint": product.fingerprint,
        "manifest": plan.whole.rows_sha256,
        "per": layout.per,
        "start_index": start_index,
        "frames": frames,
        "version": VERSION,
    }
    folder = ExportFolder(out, identity=identity, facts=_facts(flow, clips))
    writer = RawframeWriter(
        store=store,
        out=folder,
        start_index=start_index,
        flow=(product, flow),
        frames=(source, clips) if frames else None,
        stop=threading.Event(),
    )
    totals = _write(writer, plan.units, layout, progress)
    return DenseflowReport(
        root=folder.root,
        per=layout.per,
        why_clips=why_clips or "",
        start_index=start_index,
        sizes_differ=frames and _size(flow.sampling(clips)) != _size(clips),
        **totals,
    )


def _write(
    writer: RawframeWriter, units: Sequence[Unit], layout: Layout, progress: Callable[[int], None]
) -> dict[str, Any]:
    """Write all units and the lists; returns what the report counts."""
    num_folders = num_fields = num_frames = num_without = 0

    def make(unit: Unit) -> list[Folder]:
        folders = list(layout.folders(_clip_rows(writer.store, writer.flow[0], unit)))
        writer.write(unit, folders)
        return folders

    with closing(_in_threads(make, units, writer.stop)) as made, RawframeLists(writer.out.store) as lists:
        for unit, folders in zip(units, made, strict=True):
            splits = {row.video_id: row.split for row in unit_rows(writer.store, unit)}
            for folder in folders:
                lists.add(
                    splits[folder.video_id], folder.name, num_pictures=folder.num_fields, label_ids=folder.label_ids
                )
            num_folders += len(folders)
            num_fields += sum(folder.num_fields for folder in folders)
            num_frames += sum(folder.num_frames for folder in folders)
            num_without += unit.num_rows - len({folder.video_id for folder in folders})
            progress(unit.num_rows)
        counts = lists.publish()
    writer.out.sweep()
    return {
        "num_folders": num_folders,
        "num_fields": num_fields,
        "num_frames": num_frames,
        "num_without": num_without,
        "lists": counts,
    }


def _in_threads(
    make: Callable[[Unit], list[Folder]], units: Sequence[Unit], stop: threading.Event
) -> Generator[list[Folder], None, None]:
    """What `make` returns for each unit, in order; when it is left early, units that run end at their next sample."""
    with ThreadPoolExecutor(min(MAX_THREADS, num_cores()), thread_name_prefix="export") as pool:
        try:
            yield from pool.map(make, units)
        except BaseException:
            stop.set()
            raise


# ---------------------------------------------------------------- the settings


def _upstream(plan: Plan, product: Product, *, start_index: int, per: str | None) -> tuple[Flow, Product, Clips]:
    """The flow's settings, and the clips product that it has its windows from, with its settings."""
    if product.kind != "flow":
        have = ", ".join(other.path for other in plan.products if other.kind == "flow")
        raise UsageError(
            f"--product {product.path}: denseflow's folders hold flow; "
            + (f"give one of {have}" if have else "this dataset has none, so add a `flow` section and run it")
        )
    if start_index not in (0, 1):
        raise UsageError(f"--start-index {start_index}: give 0, as denseflow counts, or 1, as mmaction2's readers do")
    if per is not None and per not in PERS:
        raise UsageError(f"--per {per}: give {' or '.join(PERS)}")
    flow = Flow.model_validate(product.settings)
    source = plan.product(f"clips/{flow.clips}")
    return flow, source, Clips.model_validate(source.settings)


def _check_frames(product: Product, source: Product, flow: Flow, clips: Clips) -> None:
    if flow.rate_fps(clips) != clips.fps:
        raise UsageError(
            f"{product.path} has a field {flow.rate_fps(clips):g} times a second and {source.path} a frame "
            f"{clips.fps:g} times, so no stored frames go with the fields; export without them (--no-frames)"
        )


def _why_clips(store: Store, units: Sequence[Unit], product: Product, flow: Flow, clips: Clips) -> str | None:
    """Why the clips of some video can't be one folder; None where those of each can."""
    num_frames = flow.num_fields(clips) + (flow.fields == "T-1")
    for unit in units:
        for rows in by_video(_clip_rows(store, product, unit)):
            reason = why_not_one_folder(rows, num_frames=num_frames)
            if reason:
                return reason
    return None


def _clip_rows(store: Store, product: Product, unit: Unit) -> list[ClipRow]:
    return [ClipRow.from_dict(row) for row in index_rows(store, product, unit, COLUMNS)]


def _facts(flow: Flow, clips: Clips) -> dict[str, Any]:
    """What a reader of the pictures has to know."""
    bound = flow.bound
    return {
        "fps": flow.rate_fps(clips),
        "bound_px": bound,
        "flow": f"v = {2 * bound:g} q / 255 - {bound:g} px: u, to the right, in flow_x, v, down, in flow_y; flow k is "
        "the motion from frame k to the next",
        "lists": "folder, number of flow_x pictures, label ids",
    }


def _size(clips: Clips) -> tuple[object, ...]:
    return (clips.resize, clips.short_side, clips.crop)
