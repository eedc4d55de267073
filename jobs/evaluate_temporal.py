"""`reelmill evaluate temporal`: mAP of detected segments or recall of proposals, as the benchmarks' own code has it."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from jobs.display import wide_console
from jobs.entry import run_verb
from pipeline.annotations import activitynet, thumos14
from pipeline.annotations.report import Report
from pipeline.metrics.coverage import Coverage, coverage
from pipeline.metrics.temporal import ACTIVITYNET_TIOUS, AveragePrecision, Ties, detection_ap, without_videos
from pipeline.metrics.temporal_recall import ProposalRecall, proposal_recall
from pipeline.metrics.thumos import THUMOS_TIOUS, thumos_ap
from pipeline.textlist import read_bytes
from schemas.annotation import SegmentTable
from schemas.errors import UsageError

Protocol = Literal["activitynet", "thumos"]
TITLES: dict[Protocol, str] = {"activitynet": "ActivityNet", "thumos": "THUMOS14"}
SHOWN_PROPOSALS = (1, 5, 10, 50, 100)  # per video


def main(
    protocol: Annotated[Protocol, typer.Option(help="whose rules: ActivityNet's, or THUMOS14's with Ambiguous truth")],
    groundtruth: Annotated[str, typer.Option(help="ActivityNet json; THUMOS14 json, csv or folder of text files")],
    predictions: Annotated[str, typer.Option(help="ActivityNet json, or THUMOS14 text: video start end class score")],
    subset: Annotated[str | None, typer.Option(help="the truth's videos of this subset, such as validation")] = None,
    tiou: Annotated[
        str | None,
        typer.Option(
            help="thresholds: 0.5, a list 0.5,0.75, or 0.3:0.7:0.1; default 0.5:0.95:0.05, THUMOS14 0.3:0.7:0.1"
        ),
    ] = None,
    proposals: Annotated[
        bool, typer.Option("--proposals", help="recall of proposals instead: AR@AN and its area")
    ] = False,
    max_proposals: Annotated[int, typer.Option(min=1, help="--proposals: the most per video, on average")] = 100,
    blocked: Annotated[str | None, typer.Option(help="json list of videos to leave out")] = None,
    ties: Annotated[Ties | None, typer.Option(help="order of equal scores, see docs/metrics.md; default: last")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the results as JSON")] = False,
) -> None:
    """Temporal detection: mAP per threshold and over all, and how much of the truth has predictions."""
    if protocol == "thumos" and (proposals or ties):
        option = "--proposals" if proposals else "--ties"
        raise UsageError(
            f"{option} goes with --protocol activitynet: THUMOS14's has one order of ties and no proposals"
        )
    tious = parse_tious(tiou) if tiou else ACTIVITYNET_TIOUS if protocol == "activitynet" else THUMOS_TIOUS
    problems = {"groundtruth": Report(), "predictions": Report()}
    truth = _read_truth(groundtruth, subset, problems["groundtruth"])
    found = _read_predictions(predictions, truth, problems["predictions"], proposals=proposals)
    problems["predictions"].require_some(len(found), predictions, "predictions")
    if blocked:
        truth, found = (without_videos(table, _names(blocked)) for table in (truth, found))
    if not len(truth.certain()):
        raise UsageError(f"{groundtruth}: no segment with a class is left to compare with")
    covered = coverage(truth, found)
    head = {"protocol": protocol, "subset": subset, "tious": tious.tolist()}
    if proposals:
        recall = proposal_recall(truth, found, tious=tious, max_per_video=max_proposals, ties=ties or "last")
        title = f"ActivityNet: recall of {recall.num_truths} segments in % at proposals per video"
        result, table, notes = _recall_json(recall), _recall_table(recall), []
    else:
        ap = _average_precision(protocol, truth, found, tious, ties or "last")
        others = _other_orders(protocol, truth, found, ap, ties or "last")
        title = f"{TITLES[protocol]}: mAP over {len(ap.labels)} classes in %"
        result, table, notes = _ap_json(ap, others), _ap_table(ap), _notes(ap, ties or "last", others)
    for name, report in problems.items():
        for line in report.lines():
            print(f"{name}: {line}", file=sys.stderr)
    if as_json:
        told = {"coverage": _coverage_json(covered), "problems": {name: r.as_json() for name, r in problems.items()}}
        print(json.dumps(head | result | told, indent=1, ensure_ascii=False))
        return
    console = wide_console()
    console.print(title)
    console.print(table)
    console.print("\n".join([*covered.lines(), *notes]), soft_wrap=True, markup=False)


def parse_tious(text: str) -> NDArray[np.float64]:
    """(T,) thresholds of "0.5", "0.5,0.75" or "first:last:step", the last included. Raises UsageError."""
    ranged = re.fullmatch("([^:,]+):([^:,]+):([^:,]+)", text)
    try:
        values = [float(part) for part in (ranged.groups() if ranged else text.split(","))]
    except ValueError:
        values = []
    if ranged and values:
        first, last, step = values
        num = round((last - first) / step) + 1 if step > 0 else 0
        # linspace, as the benchmarks' own code: 0.3 + 3 * 0.1 is not quite 0.6
        values = (
            np.linspace(first, last, num).tolist() if num > 0 and abs(first + (num - 1) * step - last) < 1e-6 else []
        )
    if not values or not all(0 < value <= 1 for value in values):
        raise UsageError(f"--tiou {text}: want thresholds in (0, 1], as 0.5 or 0.5,0.75 or 0.3:0.7:0.1 (last included)")
    return np.array(values)


def _read_truth(path: str, subset: str | None, report: Report) -> SegmentTable:
    truth = thumos14.read_truth(path, subset=subset, report=report)  # a json as ActivityNet's, with Ambiguous known
    named = sorted({name for name in truth.subset or () if name is not None})
    if subset is None and len(named) > 1:
        raise UsageError(f"{path}: it has several subsets; say which with --subset: {', '.join(named)}")
    return truth


def _read_predictions(path: str, truth: SegmentTable, report: Report, *, proposals: bool) -> SegmentTable:
    if not path.partition("?")[0].lower().endswith(".json"):
        return thumos14.read_predictions(path, truth=truth, unknown="drop", report=report)
    if proposals:
        return activitynet.read_proposals(path, report=report)
    return activitynet.read_predictions(path, report=report)


def _names(path: str) -> frozenset[str]:
    try:
        names = json.loads(read_bytes(path))
    except ValueError as error:
        raise UsageError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f'{path}: want a list of videos: ["<id>", …]')
    return frozenset(names)


def _average_precision(
    protocol: Protocol, truth: SegmentTable, found: SegmentTable, tious: NDArray[np.float64], ties: Ties
) -> AveragePrecision:
    if protocol == "thumos":
        return thumos_ap(truth, found, tious=tious)
    return detection_ap(truth, found, tious=tious, ties=ties)


def _other_orders(
    protocol: Protocol, truth: SegmentTable, found: SegmentTable, ap: AveragePrecision, ties: Ties
) -> dict[str, float]:
    """Average-mAP with each other order of equal scores, where one differs."""
    if protocol == "thumos" or not ap.num_tied:
        return {}
    orders = [order for order in get_args(Ties) if order != ties]
    values = {order: detection_ap(truth, found, tious=ap.tious, ties=order).average_map for order in orders}
    return values if any(value != ap.average_map for value in values.values()) else {}


def _notes(ap: AveragePrecision, ties: Ties, others: dict[str, float]) -> list[str]:
    notes = []
    if ap.num_other:
        num = ap.num_other
        notes.append(f"left out: {num} prediction{'s' * (num != 1)} of classes without truth")
    if others:
        values = ", ".join(f"{_percent(value)} with {order}" for order, value in others.items())
        notes.append(
            f"ties: {ap.num_tied} predictions share their score with another of their class, and the official code "
            f"leaves their order to numpy; here it is {ties}; average-mAP is {values}"
        )
    return notes


def _ap_table(ap: AveragePrecision) -> Table:
    table = _table(["tIoU", "mAP"])
    for tiou, value in zip(ap.tious, ap.mean_ap, strict=True):
        table.add_row(f"{tiou:.4g}", _percent(value))
    table.add_section()
    table.add_row("average", _percent(ap.average_map))
    return table


def _ap_json(ap: AveragePrecision, others: dict[str, float]) -> dict[str, Any]:
    columns = (ap.labels, ap.ap.T.tolist(), ap.num_truths.tolist(), ap.num_predictions.tolist())
    return {
        "map": ap.mean_ap.tolist(),
        "average_map": ap.average_map,
        "classes": [
            {"label": label, "ap": values, "truth": true, "predictions": predicted}
            for label, values, true, predicted in zip(*columns, strict=True)
        ],
        "predictions_without_class": ap.num_other,
        "tied_predictions": ap.num_tied,
        "average_map_with_other_ties": others,
    }


def _recall_table(recall: ProposalRecall) -> Table:
    most = float(recall.per_video[-1])
    shown = sorted({*(float(num) for num in SHOWN_PROPOSALS if not math.isnan(recall.at(num))), most})
    table = _table(["tIoU", *(f"{num:.4g}" for num in shown)])
    for tiou, curve in zip(recall.tious, recall.recall, strict=True):
        table.add_row(f"{tiou:.4g}", *(_percent(value) for value in np.interp(shown, recall.per_video, curve)))
    table.add_section()
    table.add_row("average", *(_percent(recall.at(num)) for num in shown))
    table.add_row("area", *[""] * (len(shown) - 1), _percent(recall.auc))
    return table


def _recall_json(recall: ProposalRecall) -> dict[str, Any]:
    at = {str(num): recall.at(num) for num in SHOWN_PROPOSALS}
    return {
        "auc": recall.auc,
        "ar_at": {num: value for num, value in at.items() if not math.isnan(value)},
        "average_recall": recall.average_recall.tolist(),
        "proposals_per_video": recall.per_video.tolist(),
        "recall": recall.recall.tolist(),
        "truth": recall.num_truths,
    }


def _coverage_json(covered: Coverage) -> dict[str, Any]:
    return {
        "videos": covered.videos,
        "videos_with_predictions": covered.videos - len(covered.missing),
        "missing": list(covered.missing),
        "predictions": covered.num_predictions,
        "predictions_elsewhere": covered.num_elsewhere,
        "videos_elsewhere": list(covered.elsewhere),
    }


def _table(columns: Sequence[str]) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


if __name__ == "__main__":
    run_verb(main)
