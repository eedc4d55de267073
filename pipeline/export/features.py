"""Features products in the files that tools for temporal localization read.

    features/ID.npy     T x C float32, a file a video                          opentad, actionformer, npy
    annotations.json    duration, fps and labelled segments of each video      opentad, actionformer
    category_idx.txt    the label names, by number                             opentad, actionformer
    csv/v_ID.csv        a line of names, then a line of C numbers a row        mmaction2
    train.json …        durations and labelled segments, a file a split        mmaction2
    info.json           the facts, for any reader: where each row lies, and which videos were left out
    _export.json        of what this is the export

Every reader counts seconds from the first window of a video, and so do these files; info.json has that second on the
source's own clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.export.annotations import AnnotationFiles, JsonObjects, SegmentLabels
from pipeline.export.feature_files import MAX_NAME_BYTES, FeatureFiles, Target
from pipeline.export.feature_report import FeaturesReport
from pipeline.export.feature_sequences import FeatureVideo, num_columns, placed, refuse_maps, unit_parts, unit_tracks
from pipeline.export.folder import ExportFolder
from pipeline.export.grid import Clock, Grid, clips_of, configured_grid, stored_grid
from pipeline.export.lengths import Length
from pipeline.export.source import require_whole
from pipeline.graph import Plan, Product, Unit
from pipeline.receipts import read_ledger
from pipeline.store import Store
from pipeline.units import unit_rows
from schemas.errors import UsageError

VERSION = 1  # raised whenever the names or bytes of an export change
MMACTION2_ROWS = "100"  # what the configs of BSN and BMN take


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be written, all settings being checked."""

    store: Store
    products: tuple[Product, ...]  # rgb first, flow last
    columns: dict[str, int]  # product path -> how many
    grid: Grid
    clock: Clock
    length: Length
    target: Target


@dataclass(slots=True)
class Tally:
    """What came of the videos."""

    num_files: int = 0
    num_rows: int = 0
    num_repeated: int = 0
    num_without: int = 0
    num_partial: int = 0
    views: set[str] = field(default_factory=set)
    left_out: dict[str, str] = field(default_factory=dict)


def export_features(
    store: Store,
    plan: Plan,
    products: Sequence[Product],
    *,
    out: str,
    target: Target,
    length: str | None = None,
    progress: Callable[[int], None] = lambda num_rows: None,
) -> FeaturesReport:
    """Write the features of `products`, side by side, below the local folder `out`, for the tool `target`.

    `length` is "valid", "padded" or a number of rows (see pipeline.export.lengths); None takes 100 for mmaction2, else
    "padded" where the clips keep their tails and "valid" where they don't. `progress` is told the number of manifest
    rows of each unit that is done. A second call goes on where one was interrupted, and changes nothing in an export
    that is whole.

    Raises UsageError where the products or settings don't go together or `out` holds something else, ReelmillError
    where a unit is missing, stale or damaged.
    """
    job = _job(store, plan, products, target=target, length=length)
    identity = {
        "target": target,
        "product": " + ".join(product.path for product in job.products),
        "fingerprint": " + ".join(product.fingerprint for product in job.products),
        "manifest": plan.whole.rows_sha256,
        "length": str(job.length),
        "version": VERSION,
    }
    folder = ExportFolder(out, identity=identity, facts=_facts(job))
    files, labels, tally = FeatureFiles(folder, target), SegmentLabels.of(store), Tally()
    with (
        AnnotationFiles(folder.store, target, labels, job.clock) as annotations,
        JsonObjects(folder.store, inside="videos", beside=_facts(job)) as info,
    ):
        info.open("info.json")
        for unit in plan.units:
            _write_unit(job, unit, files, tally, annotations, info)
            progress(unit.num_rows)
        _require_some(job, tally)
        annotations.publish()
        info.publish()
    folder.sweep()
    return FeaturesReport(
        target=target,
        root=folder.root,
        features=files.path,
        columns=job.columns,
        clock=job.clock,
        clip_fps=float(job.grid.fps),
        length=job.length,
        views=tuple(sorted(tally.views)),
        num_files=tally.num_files,
        num_rows=tally.num_rows,
        num_repeated=tally.num_repeated,
        num_without=tally.num_without,
        num_partial=tally.num_partial,
        left_out=tally.left_out,
        num_segments=annotations.num_segments,
        num_labels=len(annotations.labels_used),
        num_numbered=len(labels.names),
    )


# ---------------------------------------------------------------- a unit


def _write_unit(
    job: Job, unit: Unit, files: FeatureFiles, tally: Tally, annotations: AnnotationFiles, info: JsonObjects
) -> None:
    """Write the files of a unit that do not stand, and tell of all its videos."""
    tracks = {product.path: unit_tracks(job.store, product, unit) for product in job.products}
    partial = {
        row.video_id
        for product in job.products
        for row in read_ledger(job.store, product.path, unit.index)
        if row.status == "partial"
    }
    videos: list[FeatureVideo] = []
    for row in unit_rows(job.store, unit):
        if not all(row.video_id in of_product for of_product in tracks.values()):
            tally.num_without += 1
            continue
        video = placed(tracks, row.video_id, job.grid)
        reason = _why_left_out(job, video, files) if isinstance(video, FeatureVideo) else video.reason
        if reason or not isinstance(video, FeatureVideo):
            tally.left_out[row.video_id] = reason
            info.add("info.json", row.video_id, {"left_out": reason})
            continue
        videos.append(video)
        num_frames = job.clock.num_frames(video.end_s)
        annotations.add(row, start_s=video.start_s, num_frames=num_frames)
        info.add("info.json", row.video_id, _video_facts(job, video, num_frames))
        _count(job, video, tally, is_partial=row.video_id in partial)
    _write_files(job, unit, [video for video in videos if not files.stands(video.video_id)], files)


def _write_files(job: Job, unit: Unit, videos: Sequence[FeatureVideo], files: FeatureFiles) -> None:
    if not videos:
        return
    parts = unit_parts(job.store, job.products, unit)
    for video in videos:
        duration_s = job.clock.duration_s(job.clock.num_frames(video.end_s))
        files.write(video.video_id, job.length.fit(video.features(parts), video, job.grid, duration_s=duration_s))
    files.publish([video.video_id for video in videos])


def _why_left_out(job: Job, video: FeatureVideo, files: FeatureFiles) -> str:
    if not files.takes(video.video_id):
        return f"its id has more than {MAX_NAME_BYTES} letters as a file's name"
    if not job.length.of(video, job.grid):
        return "it is shorter than one window; --length padded takes it"
    return ""


def _count(job: Job, video: FeatureVideo, tally: Tally, *, is_partial: bool) -> None:
    num_rows = job.length.of(video, job.grid)
    tally.num_files += 1
    tally.num_rows += num_rows
    if job.length.rule == "padded":
        tally.num_repeated += num_rows - video.num_rows
    tally.num_partial += is_partial
    tally.views.update(*(track.views for track in video.tracks))


def _video_facts(job: Job, video: FeatureVideo, num_frames: int) -> dict[str, Any]:
    num_rows = job.length.of(video, job.grid)
    facts = {
        "num_features": num_rows,
        "duration": job.clock.duration_s(num_frames),
        "frame": num_frames,
        "start_s": video.start_s,
    }
    if job.length.rule == "fixed":
        stride = num_frames / num_rows
        return {**facts, "feature_stride": stride, "snippet_frames": stride, "offset_frames": stride / 2}
    return {**facts, "num_repeated": max(0, num_rows - video.num_rows)}


# ---------------------------------------------------------------- the settings


def _job(store: Store, plan: Plan, products: Sequence[Product], *, target: Target, length: str | None) -> Job:
    rule = Length.parse(length) if length else None
    ordered = _ordered(plan, products)
    clips = [clips_of(plan, product) for product in ordered]
    if target == "mmaction2" and rule is None:
        rule = Length.parse(MMACTION2_ROWS)
    if target == "mmaction2" and rule and rule.rule != "fixed":
        raise UsageError(
            f"--length {rule}: the localizers of mmaction2 take the same number of rows of each video; give that "
            f"number, {MMACTION2_ROWS} for BSN and BMN"
        )
    if rule is None:
        rule = Length("valid" if clips[0].tail == "drop" else "padded")
    if rule.rule == "padded" and clips[0].tail == "drop":
        raise UsageError(
            f"--length padded: the clips of {ordered[0].path} leave out what their last window does not hold "
            "(tail: drop), so nothing is known of where the videos end; give valid"
        )
    for product in ordered:
        require_whole(store, product, plan.units)
        refuse_maps(store, product, plan.units[0])
    grid = _grid(store, plan, ordered[0])
    columns = {product.path: num_columns(store, product, plan.units[0]) for product in ordered}
    return Job(
        store=store,
        products=ordered,
        columns=columns,
        grid=grid,
        clock=grid.clock(),
        length=rule,
        target=target,
    )


def _ordered(plan: Plan, products: Sequence[Product]) -> tuple[Product, ...]:
    """In the order given, but those of flow last."""
    for product in products:
        if product.kind != "features":
            have = ", ".join(other.path for other in plan.products if other.kind == "features")
            raise UsageError(
                f"--product {product.path}: these tools read features; "
                + (f"give some of {have}" if have else "this dataset has none, so add a `features` section and run it")
            )
    paths = [product.path for product in products]
    for path in paths:
        if paths.count(path) > 1:
            raise UsageError(f"--product {path} is given twice; its columns would stand side by side with themselves")
    return tuple(sorted(products, key=lambda product: product.settings["from"].startswith("flow/")))


def _grid(store: Store, plan: Plan, product: Product) -> Grid:
    """The grid of the longest video in the first unit that has one of two windows or more; else as the settings say."""
    configured = configured_grid(plan, product)
    for unit in plan.units:
        tracks = [track for track in unit_tracks(store, product, unit).values() if not isinstance(track, str)]
        longest = max(tracks, key=lambda track: len(track.start_s), default=None)
        if longest is not None and len(longest.start_s) > 1:
            return stored_grid(configured, longest.start_s, longest.end_s)
    return configured


def _facts(job: Job) -> dict[str, Any]:
    """What a reader of the files has to know, and the same for all videos."""
    stops = [sum(list(job.columns.values())[: i + 1]) for i in range(len(job.columns))]
    facts: dict[str, Any] = {
        "columns": [
            {"product": path, "first": stop - count, "stop": stop}
            for (path, count), stop in zip(job.columns.items(), stops, strict=True)
        ],
        "fps": float(job.clock.fps),
        "length": str(job.length),
        "seconds": "from the start of a video's first window, which is at start_s on the source's clock",
    }
    if job.length.rule == "fixed":
        return {**facts, "center_s": f"(t + 0.5) * duration / {job.length}"}
    return {
        **facts,
        "center_s": "(t * feature_stride + offset_frames) / fps",
        "feature_stride": job.clock.feature_stride,
        "snippet_frames": job.clock.snippet_frames,
        "offset_frames": job.clock.offset_frames,
    }


def _require_some(job: Job, tally: Tally) -> None:
    """Raises UsageError where there are rows and none could be placed."""
    if tally.left_out and not tally.num_files:
        video_id, reason = next(iter(tally.left_out.items()))
        hint = (
            "; windows inside clips go on from clip to clip where the clips' stride_s is a whole number of the "
            "window's strides, and of no more than a clip holds windows"
        )
        has_windows = any(product.settings.get("window") for product in job.products)
        raise UsageError(
            f"--product {job.products[0].path}: none of its videos can be exported; {video_id}: {reason}"
            + (hint if has_windows else "")
        )
