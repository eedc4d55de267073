"""`reelmill evaluate ava`: the frame-mAP of AVA's official code, of predictions in a csv."""

from __future__ import annotations

import json
import math
import sys
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from jobs.display import wide_console
from jobs.entry import run_verb
from pipeline.annotations.ava import (
    ActionList,
    read_actions,
    read_exclusions,
    read_frames,
    read_labels,
    read_predictions,
    refuse_pickle,
)
from pipeline.annotations.report import Report
from pipeline.metrics.ava import AvaCounts, AvaResult, frame_map
from pipeline.metrics.temporal import Ties
from schemas.errors import UsageError

IOU = 0.5  # AVA has no other


def main(
    groundtruth: Annotated[str, typer.Option(help="csv: video,second,x1,y1,x2,y2,action[,person]")],
    predictions: Annotated[str, typer.Option(help="csv: video,second,x1,y1,x2,y2,action,score")],
    labels: Annotated[str, typer.Option(help="the action list (pbtxt) of the classes that are evaluated")],
    exclude: Annotated[str | None, typer.Option(help="csv: video,second of frames that are left out")] = None,
    max_per_frame: Annotated[int, typer.Option(min=0, help="the best that count in each frame; 0: all")] = 50,
    ties: Annotated[Ties, typer.Option(help="order of equal scores, see docs/metrics.md")] = "introsort",
    as_json: Annotated[bool, typer.Option("--json", help="print the results as JSON")] = False,
) -> None:
    """AVA's frame-mAP at IoU 0.5, as its official code computes it."""
    refuse_pickle(predictions)
    actions = read_actions(labels)
    problems = {name: Report() for name in ("groundtruth", "predictions", "exclude")}
    truth = read_labels([groundtruth], actions=actions, report=problems["groundtruth"])
    if not len(truth):
        raise UsageError(f"{groundtruth}: no box with an action of {labels} in this file")
    guesses = read_predictions(predictions, actions=actions, truth=truth, report=problems["predictions"])
    problems["predictions"].require_some(len(guesses), predictions, "predictions")
    excluded = None
    if exclude is not None:
        excluded = read_exclusions([exclude], report=problems["exclude"])
        problems["exclude"].require_some(len(excluded), exclude, "lines")
    try:
        result = frame_map(
            truth,
            guesses,
            empty_frames=read_frames([groundtruth]),
            excluded=excluded,
            max_per_frame=max_per_frame,
            iou=IOU,
            ties=ties,
        )
    except ValueError as error:
        raise UsageError(f"{groundtruth}: {error}") from None
    for name, report in problems.items():
        for line in report.lines():
            print(f"{name}: {line}", file=sys.stderr)
    if as_json:
        print(json.dumps(_as_json(result, actions, problems), indent=1, ensure_ascii=False))
    else:
        console = wide_console()
        console.print(_table(result))
        console.print("\n".join(coverage(result.counts)), soft_wrap=True, markup=False)


def coverage(counts: AvaCounts) -> list[str]:
    """A line for the frames, and one for what became of the predictions."""
    used = "counted as mistakes" if counts.elsewhere_used else "ignored"
    parts = {
        f"in frames that the truth does not have ({used})": counts.elsewhere,
        "beyond the limit of a frame": counts.beyond_cap,
        "in excluded frames": counts.excluded,
        "without area": counts.no_area,
    }
    rest = "".join(f", {number} {what}" for what, number in parts.items() if number)
    share = f" ({counts.frames_predicted / counts.frames:.1%})" if counts.frames else ""
    return [
        f"coverage: {counts.frames_predicted} of {counts.frames} frames of the truth{share} have predictions",
        f"predictions: {counts.used} counted{rest}",
    ]


def _as_json(result: AvaResult, actions: ActionList, problems: dict[str, Report]) -> dict[str, Any]:
    counts = result.counts
    columns = (result.labels, result.average_precision, result.num_truth, result.num_predictions)
    return {
        "metric": "ava frame-mAP",
        "iou": IOU,
        "map": or_none(result.mean_ap),
        "classes": [
            {"id": number, "label": label, "ap": or_none(ap), "truth": int(true), "predictions": int(predicted)}
            for number, label, ap, true, predicted in zip(actions.ids, *columns, strict=True)
        ],
        "coverage": {name: getattr(counts, name) for name in type(counts).__slots__},
        "problems": {name: report.as_json() for name, report in problems.items()},
    }


def or_none(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return None if math.isnan(value) else float(value)


def _table(result: AvaResult) -> Table:
    table = Table(title=f"AVA frame-mAP at IoU {IOU}: average precision in %", title_justify="left")
    for column in ("class", "AP", "truth", "predictions"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for label, ap, true, predicted in zip(
        result.labels, result.average_precision, result.num_truth, result.num_predictions, strict=True
    ):
        table.add_row(escape(label), percent(ap), str(true), str(predicted))
    table.add_section()
    present = int((result.num_truth > 0).sum())
    sums = (str(result.num_truth.sum()), str(result.num_predictions.sum()))
    table.add_row(f"mean over {num_classes(present)} with truth", percent(result.mean_ap), *sums)
    return table


def num_classes(count: int) -> str:
    """1 class, 2 classes."""
    return f"{count} class{'' if count == 1 else 'es'}"


def percent(share: float) -> str:
    """A share in %, – for NaN."""
    return "–" if math.isnan(share) else f"{100 * share:.2f}"


if __name__ == "__main__":
    run_verb(main)
