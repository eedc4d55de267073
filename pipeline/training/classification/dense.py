"""Classes of each clip, from annotated segments: a class is active where a segment covers the clip's centre second.

Segments are half-open, so a clip centred on the end of a segment is not in it. Ambiguous segments make nothing active.
Every clip of an annotated video counts, those in which nothing happens as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.training.annotated import AnnotatedVideos, join_annotations, require_coverage
from pipeline.training.classification.dataset import (
    Classes,
    HeadData,
    ReadVideos,
    check_splits,
    needed_splits,
    read_rows,
    read_videos,
)
from pipeline.training.splits import SPLITS, assign
from pipeline.training.task import Source
from pipeline.units import read_labels
from schemas.annotation import SegmentTable
from schemas.annotation_files import ManifestAnnotations
from schemas.errors import ReelmillError
from schemas.heads import SequenceSettings


def load_dense(source: Source, settings: SequenceSettings) -> HeadData:
    """Read what a head is trained on, where labels are of clips. A class is known by its place in the annotations.

    Raises ReelmillError, in one sentence, where more features are missing than are allowed to, and wherever training
    makes no sense; UsageError where the annotations can't be read.
    """
    where, rows = source.product.path, read_rows(source)
    wanted = settings.annotations or ManifestAnnotations(kind="manifest")
    annotated = join_annotations(wanted, rows, labels=read_labels(source.store), where=where)
    roles = assign(annotated.rows, holdout=settings.holdout, where=where, labelled="any")
    videos = read_videos(source, rows, roles, left_out=annotated.left_out)
    missing = videos.missing + annotated.absent
    require_coverage(missing, len(videos.roles) + len(missing), allowance=settings.missing, where=where)
    if not videos.roles:
        raise ReelmillError(f"{where}: no annotated video has features; see the ledger of its features for the reasons")
    place = dict(zip((row.video_id for row in annotated.rows), annotated.video.tolist(), strict=True))
    places = [place[role.video_id] for role in videos.roles]
    truth = annotated.truth.certain()
    truth = truth.select(np.isin(truth.video, places))
    active, num_clips = _active_classes(truth, places, videos)
    check_splits(
        [role.split or "train" for role in videos.roles], needed=needed_splits(annotated.rows, "any"), where=where
    )
    classes = _classes(truth, active, videos, where=where)
    return videos.data(
        active[:, [k for k, _ in classes]],
        classes,
        kind="dense",
        missing=missing,
        annotations=_facts(annotated, num_clips),
    )


def _active_classes(
    truth: SegmentTable, places: Sequence[int], videos: ReadVideos
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """The labels active at each clip (clips, labels), and the number of clips that each segment covers (M,)."""
    sequences = videos.sequences
    active = np.zeros((len(sequences.matrix), len(truth.labels)), dtype=bool)
    num_clips = np.zeros(len(truth), dtype=np.int64)
    order = np.argsort(truth.video, kind="stable")
    firsts, lasts = (np.searchsorted(truth.video[order], places, side=side) for side in ("left", "right"))
    for video, (first, last) in enumerate(zip(firsts, lasts, strict=True)):
        start, stop = sequences.offsets[video : video + 2]
        mine = order[first:last]
        center_s = sequences.windows[start:stop, 1, None]
        inside = (truth.start_s[mine] <= center_s) & (center_s < truth.end_s[mine])  # (T, M)
        clip, segment = np.nonzero(inside)
        active[start + clip, truth.label[mine[segment]]] = True
        num_clips[mine] = inside.sum(axis=0)
    return active, num_clips


def _classes(truth: SegmentTable, active: NDArray[np.bool_], videos: ReadVideos, *, where: str) -> Classes:
    """(place in the annotations, name) of the classes that the videos' segments have; each must be active somewhere in
    training."""
    split_of = np.repeat([role.split or "train" for role in videos.roles], videos.sequences.lengths)
    counts = {split: active[split_of == split].sum(axis=0) for split in SPLITS}
    classes = tuple((int(k), truth.labels[k]) for k in np.unique(truth.label))
    if not classes:
        raise ReelmillError(f"{where}: the {len(videos.roles)} annotated videos that have features have no segment")
    for k, name in classes:
        if not counts["train"][k]:
            where_else = " and ".join(f"{counts[split][k]} in {split}" for split in ("val", "test"))
            raise ReelmillError(
                f"{where}: class {name!r} is active at the centre of no training clip ({where_else}); make clips with "
                "a shorter stride_s, annotate more videos, or leave the class out of the annotations"
            )
    return classes


def _facts(annotated: AnnotatedVideos, num_clips: NDArray[np.int64]) -> dict[str, Any]:
    """What metrics.json says of the annotations."""
    return {
        "segments": len(num_clips),
        "segments_without_clip": int((num_clips == 0).sum()),
        "left_out": dict(sorted(Counter(why.reason for why in annotated.left_out.values()).items())),
        "dropped": annotated.report.as_json(),
    }
