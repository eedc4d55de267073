"""Proposals as ActivityNet's `Evaluation/eval_proposal.py` scores them: average recall against proposals per video.

The number of proposals is a share of each video's own, so that a video with more proposals keeps more of them. Of a
video's proposals, by falling score, first a share `ratio` is kept, so that all videos together have `max_per_video` a
video on average; then recall is counted over 1 % to 100 % of what is kept. A truth is recalled at a threshold if any of
the proposals counted has tIoU at or above it (one proposal may recall several truths). Classes play no part.

As there: videos are those with truth; one without proposals counts as recalled at nothing; proposals of other videos
are seen only in the ratio, which they lower; a truth and a proposal that are one instant (tIoU 0/0) do not match. The
order among equal scores is `pipeline.metrics.temporal`'s. The official code divides by zero where no proposal is kept;
here all is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.temporal import ACTIVITYNET_TIOUS, Ties, falling_order, rows_by_key, scores_of, temporal_iou
from schemas.annotation import SegmentTable

NUM_POINTS = 100


@dataclass(frozen=True, slots=True, eq=False)
class ProposalRecall:
    """Recall at T thresholds and 100 numbers of proposals, in [0, 1].

    tious: (T,) float64. recall: (T, 100) float64. per_video: (100,) float64, proposals per video on average, rising.
    num_truths, num_videos: of the truth.
    """

    tious: NDArray[np.float64]
    recall: NDArray[np.float64]
    per_video: NDArray[np.float64]
    num_truths: int
    num_videos: int

    @property
    def average_recall(self) -> NDArray[np.float64]:
        """(100,) AR at each AN: the mean of recall over the thresholds."""
        return self.recall.mean(axis=0)

    @property
    def auc(self) -> float:
        """Area under AR against AN over the largest AN; ActivityNet prints 100 times this."""
        if self.per_video[-1] == 0:
            return 0.0
        return float(np.trapezoid(self.average_recall, self.per_video) / self.per_video[-1])

    def at(self, per_video: float) -> float:
        """AR at a number of proposals per video, between the curve's points on a straight line; NaN beyond it."""
        return float(np.interp(per_video, self.per_video, self.average_recall, left=np.nan, right=np.nan))


def proposal_recall(
    truth: SegmentTable,
    proposals: SegmentTable,
    *,
    tious: NDArray[np.float64] = ACTIVITYNET_TIOUS,
    max_per_video: float | None = 100,
    ties: Ties = "last",
) -> ProposalRecall:
    """Recall by the rule above. max_per_video: on average over the videos of the truth; None: as many as there are.

    Raises ValueError for proposals without scores and where there is no truth.
    """
    scores = scores_of(proposals)
    truth = truth.certain()
    if len(truth) == 0:
        raise ValueError("there is no truth to compare with: no segment of a class is left")
    truths = rows_by_key(truth.video)
    given = {proposals.videos[video]: rows for video, rows in rows_by_key(proposals.video).items()}
    num_videos = len(truths)
    most = max_per_video or len(proposals) / num_videos
    ratio = most * num_videos / len(proposals) if len(proposals) else 0.0

    # per truth and threshold, how many of its video's proposals it takes to recall it
    needed: list[NDArray[np.int64]] = []
    columns: list[int] = []
    num_kept = 0
    for video, rows in truths.items():
        mine = given.get(truth.videos[video])
        if mine is None:
            needed.append(np.full((len(rows), len(tious)), 2))
            columns.append(1)  # the official code gives such a video one proposal that meets nothing
            continue
        mine = mine[falling_order(scores[mine], ties)][: min(int(len(mine) * ratio), len(mine))]
        num_kept += len(mine)
        columns.append(len(mine))
        tiou = temporal_iou(proposals.start_s[mine], proposals.end_s[mine], truth.start_s[rows], truth.end_s[rows])
        needed.append(_needed(tiou, tious))
    if num_kept == 0:
        nothing = np.zeros(NUM_POINTS)
        return ProposalRecall(tious, np.zeros((len(tious), NUM_POINTS)), nothing, len(truth), num_videos)
    shares = np.arange(1, NUM_POINTS + 1) / 100.0 * (most * float(num_videos) / num_kept)
    counted = np.minimum((np.array(columns)[:, None] * shares).astype(np.int64), np.array(columns)[:, None])  # (V, 100)
    per_truth = np.repeat(counted, [len(rows) for rows in needed], axis=0)  # (G, 100)
    all_needed = np.concatenate(needed)  # (G, T)
    matches = np.stack([(per_truth >= column[:, None]).sum(axis=0) for column in all_needed.T])
    return ProposalRecall(
        tious=np.asarray(tious, np.float64),
        recall=matches / float(len(truth)),
        per_video=shares * (float(num_kept) / num_videos),
        num_truths=len(truth),
        num_videos=num_videos,
    )


def _needed(tiou: NDArray[np.float64], tious: NDArray[np.float64]) -> NDArray[np.int64]:
    """(G, T) how many of P proposals, from the first, recall each of G truths; P + 1: all do not. tiou: (P, G)."""
    best_so_far = np.maximum.accumulate(np.where(np.isnan(tiou), -1.0, tiou), axis=0)
    needed = [np.searchsorted(column, tious) + 1 for column in best_so_far.T]
    return np.array(needed, np.int64)
