"""`reelmill evaluate tubes`: frame-mAP and video-mAP as ACT- and MOC-detector compute them, of tubes in json."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from jobs.display import wide_console
from jobs.entry import run_verb
from jobs.evaluate_ava import num_classes, or_none, percent
from pipeline.annotations.report import Report
from pipeline.annotations.tube_json import read_predictions, read_truth
from pipeline.metrics.temporal import Ties
from pipeline.metrics.tubes import TubeResult, frame_map, video_map
from schemas.errors import UsageError

Results = dict[float, dict[str, TubeResult]]  # IoU -> "frame" and "video"


def main(
    groundtruth: Annotated[str, typer.Option(help="json of tubes, or a folder of them")],
    predictions: Annotated[str, typer.Option(help="the same, each tube with a score")],
    iou: Annotated[list[float] | None, typer.Option(help="threshold (may be repeated); default: 0.5")] = None,
    nms_iou: Annotated[
        float, typer.Option(min=0, max=1, help="video-mAP drops tubes that overlap a better one by more; 1: none")
    ] = 0.3,
    half_open: Annotated[
        bool, typer.Option("--half-open", help="boxes are w px wide; the official code adds one pixel to each side")
    ] = False,
    ties: Annotated[Ties, typer.Option(help="order of equal scores, see docs/metrics.md")] = "introsort",
    as_json: Annotated[bool, typer.Option("--json", help="print the results as JSON")] = False,
) -> None:
    """Frame-mAP and video-mAP of tubes (UCF101-24, JHMDB), as the official code of ACT-detector computes them."""
    thresholds = list(dict.fromkeys(iou or [0.5]))
    if bad := [one for one in thresholds if not 0 < one <= 1]:
        raise UsageError(f"--iou {bad[0]:g}: give a threshold above 0 and up to 1")
    problems = {name: Report() for name in ("groundtruth", "predictions")}
    truth = read_truth(groundtruth, report=problems["groundtruth"])
    if not len(truth):
        raise UsageError(f"{groundtruth}: no tube in this truth")
    guesses = read_predictions(predictions, truth=truth, unknown="drop", report=problems["predictions"])
    problems["predictions"].require_some(len(guesses), predictions, "predictions")
    inclusive = not half_open
    results: Results = {
        one: {
            "frame": frame_map(truth, guesses, iou=one, inclusive=inclusive, ties=ties),
            "video": video_map(truth, guesses, iou=one, nms_iou=nms_iou, inclusive=inclusive, ties=ties),
        }
        for one in thresholds
    }
    for name, report in problems.items():
        for line in report.lines():
            print(f"{name}: {line}", file=sys.stderr)
    if as_json:
        print(json.dumps(_as_json(results, problems), indent=1, ensure_ascii=False))
    else:
        console = wide_console()
        console.print(_table(results))
        console.print("\n".join(coverage(results[thresholds[0]])), soft_wrap=True, markup=False)


def coverage(of: dict[str, TubeResult]) -> list[str]:
    """A line for frames and videos, and one each for what became of the boxes and of the tubes predicted."""
    shares = []
    for metric in ("frame", "video"):
        counts = of[metric].counts
        share = f"{counts.predicted / counts.with_truth:.1%}" if counts.with_truth else "–"
        shares.append(f"{counts.predicted} of {counts.with_truth} {metric}s with truth ({share})")
    lines = [f"coverage: {' and '.join(shares)} have predictions"]
    for metric, what in (("frame", "boxes"), ("video", "tubes")):
        counts = of[metric].counts
        parts = {
            f"of these in {metric}s without truth (mistakes)": counts.elsewhere,
            "dropped for a better one that they overlap": counts.suppressed,
            "in videos that the truth does not have (ignored)": counts.other_video,
        }
        rest = "".join(f", {number} {words}" for words, number in parts.items() if number)
        lines.append(f"predicted {what}: {counts.used} counted{rest}")
    return lines


def _as_json(results: Results, problems: dict[str, Report]) -> dict[str, Any]:
    return {
        "metric": "tubes: frame-mAP and video-mAP",
        "thresholds": [
            {"iou": iou, **{f"{metric}_map": _result_json(result) for metric, result in of.items()}}
            for iou, of in results.items()
        ],
        "problems": {name: report.as_json() for name, report in problems.items()},
    }


def _result_json(result: TubeResult) -> dict[str, Any]:
    rows = zip(result.labels, result.average_precision, result.num_truth, result.num_predictions, strict=True)
    return {
        "map": or_none(result.mean_ap),
        "classes": [
            {"label": label, "ap": float(ap), "truth": int(true), "predictions": int(predicted)}
            for label, ap, true, predicted in rows
        ],
        "coverage": {name: getattr(result.counts, name) for name in type(result.counts).__slots__},
    }


def _table(results: Results) -> Table:
    """A row for each class, two columns for each threshold."""
    table = Table(title="tubes: average precision in %", title_justify="left")
    for column in ("class", *(f"{metric}@{iou:g}" for iou in results for metric in ("frame", "video"))):
        table.add_column(column, justify="left" if column == "class" else "right")
    table.add_column("true tubes", justify="right")
    every = [result for of in results.values() for result in of.values()]
    videos = every[1]
    for row, label in enumerate(videos.labels):
        table.add_row(
            escape(label), *(percent(one.average_precision[row]) for one in every), str(videos.num_truth[row])
        )
    table.add_section()
    means = (percent(one.mean_ap) for one in every)
    table.add_row(f"mean over {num_classes(len(videos.labels))}", *means, str(videos.num_truth.sum()))
    return table


if __name__ == "__main__":
    run_verb(main)
