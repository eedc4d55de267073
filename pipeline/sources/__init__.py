"""Sources: one file per dataset format, each from a config section to manifest rows.

report = build_manifest(Store("out/demo"), config.source)
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from io import BytesIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

# imported for their registration
from pipeline.sources import (  # noqa: F401
    activitynet,
    ava,
    directory,
    hmdb51,
    kinetics,
    pathlist,
    sports1m,
    thumos14,
    ucf101,
)
from pipeline.sources.issues import Issues
from pipeline.sources.listing import Listing, Progress, list_videos
from pipeline.sources.registry import SOURCES
from pipeline.store import TEMP_FOLDER, Store
from pipeline.units import LABELS, LABELS_KEY, MANIFEST, SOURCE_KEY, write_manifest
from schemas.errors import ReelmillError
from schemas.sources import Source

ISSUES = "_manifest_issues.csv"


@dataclass(frozen=True, slots=True)
class Indexed:
    """A source, read. labels: names by label id. issues: rows of ISSUE_SCHEMA."""

    videos: str  # the folder that was listed, as given
    table: pa.Table
    labels: list[str]
    issues: pa.Table
    num_ignored: int  # files in the folder that are not videos
    num_unused: int  # rows of the lists that this fold leaves out


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What `build_manifest` wrote."""

    num_rows: int
    num_labels: int
    splits: dict[str, int]  # rows per split; "none" for rows without one
    issues: pa.Table  # as in ISSUES
    num_ignored: int
    num_unused: int

    def __str__(self) -> str:
        parts = [f"{self.num_rows} videos", f"{self.num_labels} labels"]
        parts += [f"{count} {split}" for split, count in self.splits.items() if split != "none"]
        parts += [f"{count} × {kind}" for kind, count in self.issue_counts.items()]
        return ", ".join(parts)

    @property
    def issue_counts(self) -> dict[str, int]:
        return count_issues(self.issues)


def source_json(source: Source) -> bytes:
    """The settings of a source in one canonical form, as the manifest's metadata holds them under SOURCE_KEY."""
    settings = source.model_dump(mode="json", by_alias=True)
    return json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()


def index_source(source: Source, *, progress: Progress | None = None) -> Indexed:
    """Read a source. Writes nothing; the same lists and files give the same tables, in whatever order they lie.

    Raises UsageError where a list or the folder of videos is missing, can't be read or is not what it should be.
    """
    issues = Issues()

    def scan(videos: str) -> Listing:
        return list_videos(videos, issues, progress)

    rows = SOURCES[source.kind](source, scan, issues)
    rows.report_files_without_row()
    names = json.dumps(rows.labels, ensure_ascii=False)
    table = rows.table().replace_schema_metadata({SOURCE_KEY: source_json(source), LABELS_KEY: names.encode()})
    return Indexed(
        videos=rows.listing.videos,
        table=table,
        labels=rows.labels,
        issues=issues.table(),
        num_ignored=rows.listing.num_ignored,
        num_unused=rows.num_unused,
    )


def build_manifest(store: Store, source: Source, *, progress: Progress | None = None) -> IndexReport:
    """Index a source and write the issues, labels.json and, last, manifest.parquet, each atomically.

    Raises UsageError as `index_source` does, and ReelmillError where there is no row at all; then the issues are
    written and an earlier manifest stays.
    """
    indexed = index_source(source, progress=progress)
    _sweep(store)
    store.put(ISSUES, _csv(indexed.issues))
    if indexed.table.num_rows == 0:
        _sweep(store)
        raise ReelmillError(_empty_message(store, source, indexed))
    store.put(LABELS, (json.dumps(indexed.labels, indent=1, ensure_ascii=False) + "\n").encode())
    write_manifest(store, indexed.table)
    _sweep(store)
    splits = Counter(pc.fill_null(indexed.table["split"], "none").to_pylist())
    return IndexReport(
        num_rows=indexed.table.num_rows,
        num_labels=len(indexed.labels),
        splits={split: splits[split] for split in ("train", "val", "test", "none") if splits[split]},
        issues=indexed.issues,
        num_ignored=indexed.num_ignored,
        num_unused=indexed.num_unused,
    )


def count_issues(issues: pa.Table) -> dict[str, int]:
    """Issues per kind, by name of kind."""
    counts = issues["kind"].value_counts().to_pylist()
    return {entry["values"]: entry["counts"] for entry in sorted(counts, key=lambda entry: entry["values"])}


def _empty_message(store: Store, source: Source, indexed: Indexed) -> str:
    found = [f"{count} × {kind}" for kind, count in count_issues(indexed.issues).items()]
    if indexed.num_ignored:
        found.append(f"{indexed.num_ignored} files that are not videos")
    if indexed.num_unused:
        found.append(f"{indexed.num_unused} rows that this fold does not use")
    why = ", ".join(found) or "there is nothing"
    where = f"; the full list is {store.path(ISSUES)}" if indexed.issues.num_rows else ""
    return f"{indexed.videos}: the {source.kind} source gives no row, so no manifest was written ({why}){where}"


def _csv(issues: pa.Table) -> bytes:
    buffer = BytesIO()
    pacsv.write_csv(issues, buffer)
    return buffer.getvalue()


def _sweep(store: Store) -> None:
    """Remove the temporary files of the dataset's own folder, a killed index run's among them."""
    if store.is_local:
        store.delete_folder(TEMP_FOLDER)


__all__ = [
    "ISSUES",
    "LABELS",
    "MANIFEST",
    "SOURCE_KEY",
    "IndexReport",
    "Indexed",
    "build_manifest",
    "count_issues",
    "index_source",
    "source_json",
]
