"""`reelmill index`: build a manifest from a folder, a csv or a split list, and say what could not be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from jobs.entry import run_verb
from pipeline.config import load_config
from pipeline.lease import hold
from pipeline.sources import ISSUES, IndexReport, build_manifest
from pipeline.store import Store
from pipeline.units import MANIFEST
from schemas.errors import UsageError
from schemas.sources import Source

ISSUES_SHOWN = 3  # of each kind

_FLAGS = {"json": "--annotations", "path": "--annotations"}  # the other settings are flags of their own name


def main(
    config: Annotated[Path | None, typer.Argument(help="A config.yaml; or --kind and its flags.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="directory, kinetics, sports1m, ucf101, hmdb51, list, activitynet, thumos14 or ava."),
    ] = None,
    videos: Annotated[str | None, typer.Option(help="The folder of videos.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Where to write the manifest.")] = None,
    csv: Annotated[str | None, typer.Option(help="kinetics, ava: the csv.")] = None,
    list_file: Annotated[str | None, typer.Option("--list", help="sports1m, list: the list.")] = None,
    labels: Annotated[
        str | None, typer.Option(help="sports1m, list, ava: a file of label names. directory: folder or none.")
    ] = None,
    splits: Annotated[str | None, typer.Option(help="ucf101, hmdb51: the folder of split lists.")] = None,
    fold: Annotated[int | None, typer.Option(help="ucf101, hmdb51: 1, 2 or 3.")] = None,
    annotations: Annotated[str | None, typer.Option(help="activitynet: json; thumos14: json, csv or folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for a program to read.")] = False,
) -> None:
    """Build a manifest: a row for each video that can be used, and a list of what can't."""
    flags = {
        "kind": kind,
        "videos": videos,
        "csv": csv,
        "list": list_file,
        "labels": labels,
        "splits": splits,
        "fold": fold,
        "path" if kind == "thumos14" else "json": annotations,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    if config is not None:
        if given or dataset is not None:
            raise UsageError(f"give {config} or flags, not both: the config says where the videos are")
        loaded = load_config(config)
        store, source = Store(loaded.dataset), loaded.source
        next_step = f"reelmill run {config}"
    else:
        if kind is None or dataset is None:
            raise UsageError("give a config.yaml, or --kind and --dataset with the flags of that kind")
        store, source = Store(dataset), _source(given)
        next_step = (
            f"write `dataset: {dataset}` and `source: {_as_yaml(given)}` in a config, then `reelmill run CONFIG`"
        )
    with hold(store, what=f"reelmill index {config or dataset}"):  # a run that goes on must keep its manifest
        report = _build(store, source)
    if as_json:
        print(json.dumps(_summary(store, report)))
    else:
        _print(store, report, next_step)


def _source(given: dict[str, Any]) -> Source:
    """The source section that the flags say. Raises UsageError with one line per mistake."""
    try:
        return TypeAdapter[Source](Source).validate_python(given)
    except ValidationError as error:
        raise UsageError("\n".join(_sentence(problem, given["kind"]) for problem in error.errors())) from None


def _sentence(problem: Any, kind: str) -> str:
    if problem["type"] == "union_tag_invalid":
        return f"--kind {kind}: there is no such kind, only {problem['ctx']['expected_tags']}"
    name = str(problem["loc"][-1])
    flag = _FLAGS.get(name, f"--{name}")
    if problem["type"] == "missing":
        return f"--kind {kind} needs {flag}"
    if problem["type"] == "extra_forbidden":
        return f"--kind {kind} does not take {flag}"
    return f"{flag} {problem['input']}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _build(store: Store, source: Source) -> IndexReport:
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        return build_manifest(store, source)
    with console.status("looking for videos") as status:
        return build_manifest(store, source, progress=lambda found: status.update(f"{found:,} videos found"))


def _summary(store: Store, report: IndexReport) -> dict[str, Any]:
    return {
        "dataset": store.uri,
        "manifest": store.path(MANIFEST),
        "rows": report.num_rows,
        "labels": report.num_labels,
        "splits": report.splits,
        "issues": report.issue_counts,
        "issues_file": store.path(ISSUES),
        "ignored_files": report.num_ignored,
        "unused_rows": report.num_unused,
    }


def _print(store: Store, report: IndexReport, next_step: str) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    table = Table(title=store.path(MANIFEST), title_justify="left", show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    table.add_row("rows", f"{report.num_rows:,}")
    table.add_row("labels", f"{report.num_labels:,}")
    for split, count in report.splits.items():
        table.add_row("without a split" if split == "none" else split, f"{count:,}")
    if report.num_unused:
        table.add_row("rows that this fold does not use", f"{report.num_unused:,}")
    if report.num_ignored:
        table.add_row("files that are not videos", f"{report.num_ignored:,}")
    for kind, count in report.issue_counts.items():
        table.add_row(kind.replace("_", " "), f"{count:,}")
    console.print(table)
    _print_issues(console, report)
    if report.issues.num_rows:
        console.print(f"the full list: {store.path(ISSUES)}")
    console.print(f"next: {next_step}")


def _print_issues(console: Console, report: IndexReport) -> None:
    first = 0
    for kind, count in report.issue_counts.items():  # the table is sorted by kind too
        for issue in report.issues.slice(first, min(count, ISSUES_SHOWN)).to_pylist():
            where = f" (line {issue['line']})" if issue["line"] else ""
            console.print(f"  {kind.replace('_', ' ')}{where}: {issue['value']}: {issue['detail']}")
        if count > ISSUES_SHOWN:
            console.print(f"  … and {count - ISSUES_SHOWN:,} more")
        first += count


def _as_yaml(settings: dict[str, Any]) -> str:
    """The flags as a source section on one line; JSON strings are YAML strings."""
    return "{" + ", ".join(f"{name}: {json.dumps(value)}" for name, value in settings.items()) + "}"


if __name__ == "__main__":
    run_verb(main)
