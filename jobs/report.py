"""`reelmill report`: one HTML page of what stands, for people, from storage alone."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from jobs.display import tight_bounds
from jobs.entry import run_verb
from jobs.plan_display import comparison_cells, comparison_lines
from jobs.status import comparison, plan_of_target, writer_sentence
from jobs.work_display import reason_lines, spent_line, title, work_cells
from pipeline import report, runs
from pipeline.bottleneck import verdict
from pipeline.forecast.compare import Comparison
from pipeline.graph import Plan
from pipeline.report import Cells, Figures, Page, Part, Section
from pipeline.say import say
from pipeline.store import Store, shown
from pipeline.survey import ProductState, failed_rows, flow_losses, survey
from pipeline.units import read_labels
from schemas.errors import UsageError
from schemas.work import RunRecord


def main(
    target: Annotated[str, typer.Argument(help="a config.yaml, or the dataset's folder or URI")],
    out: Annotated[str, typer.Option(help="the file to write, on this machine")] = "report.html",
) -> None:
    """Write one HTML file that needs nothing else: counts, clips, flow in colour, features, heads, costs."""
    if "://" in out:
        raise UsageError(f"--out {out}: the page is a local file; name one on this machine, and copy it from there")
    if Path(out).is_dir():
        raise UsageError(f"--out {out} is a folder; name a file in it, such as {Path(out) / 'report.html'}")
    store, plan = plan_of_target(target)
    data = report.render(_page(store, plan)).encode(errors="replace")  # a JSON file may have half a surrogate pair
    _write(Path(out), data)
    say(f"wrote {out} ({len(data) / 1e6:.1f} MB): open it in a browser")


def _page(store: Store, plan: Plan) -> Page:
    states = survey(store, plan)
    lost, losses, labels = failed_rows(store, states), flow_losses(store, states), read_labels(store)
    is_complete, writer = report.is_complete(states), writer_sentence(store)
    figures = Figures()
    sections = (
        report.counts_section(states),
        report.failed_section(lost, is_known=is_complete),
        report.clips_section(store, plan, labels, figures),
        report.flow_section(store, plan, labels, figures, losses=losses, doubts=tight_bounds(losses)),
        report.features_section(store, plan),
        report.heads_section(store, plan, {state.path: state for state in states}, figures),
        _costs(store, states),
    )
    return Page(
        dataset=shown(store.uri),
        made=f"Looked at {datetime.now(UTC).astimezone():%Y-%m-%d %H:%M %Z}",
        is_complete=is_complete,
        sentences=[*report.pending_sentences(states), *([f"{writer}."] if writer else [])],
        sections=sections,
    )


def _costs(store: Store, states: list[ProductState]) -> Section:
    """The last run, all runs, and the plan beside them."""
    records = runs.records(store)
    parts = []
    if records:
        spent, last = runs.spent(records), runs.last(records)
        parts += [_last_run(last)] if last is not None else []
        if spent.runs > 1:
            parts.append(Part(sentences=[f"{spent_line(spent)}."]))
    if (planned := comparison(store, states, records)) is not None:
        parts.append(_planned(planned))
    return Section("Costs", parts or [Part(sentences=["No run has left a record."])])


def _last_run(record: RunRecord) -> Part:
    columns, rows = work_cells(record)
    found = verdict(record)
    sentences = [f"{line}." for line in (title(record), *reason_lines(record))] + ([found.sentence] if found else [])
    return Part("last run", sentences, [Cells(columns, rows)] if rows else [])


def _planned(found: Comparison) -> Part:
    columns, rows = comparison_cells(found)
    lines = [f"{line}." for line in comparison_lines(found)]
    return Part("planned : actual", lines, [Cells(columns, rows)] if rows else [])


def _write(out: Path, data: bytes) -> None:
    """Whole, or not at all. Raises OSError."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
    try:
        partial.write_bytes(data)
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    run_verb(main)
