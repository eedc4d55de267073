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
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.export.annotations import AnnotationFiles, JsonObjects, SegmentLabels
from pipeline.export.feature_files import MAX_NAME_BYTES, FeatureFiles, Target
from pipeline.export.feature_job import Job, check_job
from pipeline.export.feature_report import FeaturesReport
from pipeline.export.feature_sequences import FeatureVideo, placed, unit_parts, unit_tracks
from pipeline.export.folder import ExportFolder
from pipeline.graph import Plan, Product, Unit
from pipeline.receipts import read_ledger
from pipeline.store import Store
from pipeline.units import unit_rows
from schemas.errors import UsageError

VERSION = 1  # raised whenever the names or bytes of an export change


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
    job = check_job(store, plan, products, target=target, length=length)
    identity = {
        "target": target,
        "product": " + ".join(product.path for product in job.products),
        "fingerprint": " + ".join(product.fingerprint for product in job.products),
        "manifest": plan.whole.rows_sha256,
        "length": str(job.length),
        "version": VERSION,
    }
    folder = ExportFolder(out, identity=identity, facts=job.facts())
    files, labels, tally = FeatureFiles(folder, target), SegmentLabels.of(store), Tally()
    with (
        AnnotationFiles(folder.store, target, labels, job.clock) as annotations,
        JsonObjects(folder.store, inside="videos", beside=job.facts()) as info,
    ):
        info.open("info.json")
        for unit in plan.units:
            _write_unit(job, unit, files, tally, annotations, info)
            progress(unit.num_rows)
        if tally.left_out and not tally.num_files:
            folder.withdraw()
            raise _nothing_placed(job, tally)
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
        num_segments=annotations.num_segments,
        num_labels=len(annotations.labels_used),
        num_numbered=len(labels.names),
        **asdict(tally),
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


def _nothing_placed(job: Job, tally: Tally) -> UsageError:
    """There are rows, and none that readers could place."""
    video_id, reason = next(iter(tally.left_out.items()))
    hint = (
        "; windows inside clips go on from clip to clip where the clips' stride_s is a whole number of the window's "
        "strides, and of no more than a clip holds windows"
    )
    has_windows = any(product.settings.get("window") for product in job.products)
    return UsageError(
        f"--product {job.products[0].path}: none of its videos can be exported; {video_id}: {reason}"
        + (hint if has_windows else "")
    )
