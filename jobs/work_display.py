"""What a run's time went into, for a person: a table, and one sentence with the knob to turn."""

from __future__ import annotations

import textwrap
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from jobs.quantities import SIZES, duration, show
from pipeline.bottleneck import verdict
from pipeline.runs import Spent
from schemas.work import ProductWork, RunRecord

REASONS_SHOWN = 4
LINE_CHARACTERS = 100


def print_work(console: Console, record: RunRecord) -> None:
    """The table of a run, who failed of what, and the bottleneck."""
    if not any(work.units or work.given_up for work in record.products.values()):
        return
    console.print(work_table(record))
    found = verdict(record)
    for line in (*reason_lines(record), *([found.sentence] if found else [])):
        console.print(_filled(line), markup=False, soft_wrap=True)


def work_table(record: RunRecord) -> Table:
    """A row for each product; at most 100 columns wide."""
    columns, rows = work_cells(record)
    table = Table(title=title(record), title_justify="left", box=box.SIMPLE, padding=(0, 0, 0, 1), pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column == "product" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def work_cells(record: RunRecord) -> tuple[list[str], list[list[str]]]:
    """The columns of the table of a run, and a row for each product that it worked on."""
    made = {path: work for path, work in record.products.items() if work.units or work.given_up}
    has_gpu = any(work.device_s is not None for work in made.values())
    columns = ["product", "busy", "input", "output", "open", *["GPU"] * has_gpu]
    rows = []
    for path, work in made.items():
        shares: list[float | None] = [work.busy_s, work.input_s, work.writing_s, work.opening_s]
        if has_gpu:
            shares.append(work.device_s)
        wall_s = max(1e-9, work.wall_s)
        rows.append(
            [
                path,
                *("" if seconds is None else f"{work.share(seconds):.0%}" for seconds in shares),
                f"{work.videos / wall_s:.3g}",
                f"{work.source_s / wall_s:.3g}×" if work.source_s else "",
                _bytes(work.bytes_in),
                _bytes(work.bytes_out),
                f"{work.amplification:.1f}×" if work.amplification is not None else "",
            ]
        )
    return [*columns, "videos/s", "speed", "read", "wrote", "amplif."], rows


def title(record: RunRecord) -> str:
    """`run 3: 4 min 12 s on 2 cores (93 % busy)`."""
    wall_s = max(1e-9, record.wall_s)
    cores = f"{record.cores_s / wall_s:.3g} cores ({record.cpu_share or 0:.0%} busy)"
    num_gpus = f"{record.gpus_s / wall_s:.3g}"
    gpus = f", {num_gpus} {'GPU' if num_gpus == '1' else 'GPUs'}" if record.gpus_s else ""
    if record.gpu_share is not None:
        gpus += f" ({record.gpu_share:.0%} busy)"
    nodes = f", {len(record.nodes)} nodes" if len(record.nodes) > 1 else ""
    state = {"done": "", "running": ", not ended", "failed": ", failed", "interrupted": ", interrupted"}[record.state]
    return f"run {record.run}{state}: {duration(record.wall_s)} on {cores}{gpus}{nodes}"


def reason_lines(record: RunRecord) -> list[str]:
    """`clips/rgb16: 3 rows failed or are partial (truncated 2, missing 1); 1 unit was begun again`."""
    lines = []
    for path, work in record.products.items():
        said = [*_rows(work), *_units(work)]
        if said:
            lines.append(f"{path}: {'; '.join(said)}")
    return lines


def print_spent(console: Console, spent: Spent) -> None:
    """One line for all runs, where they are more than one."""
    if spent.runs > 1:
        console.print(_filled(spent_line(spent)), markup=False, soft_wrap=True)


def spent_line(spent: Spent) -> str:
    """`all 2 runs: 3 min 20 s of 2 cores; workers: clips/a 6 min 40 s`."""
    cores = f" of {spent.cores_s / spent.wall_s:.3g} cores" if spent.wall_s else ""
    parts = [f"{path} {duration(work.held_s)}" for path, work in spent.products.items()]
    return f"all {spent.runs} runs: {duration(spent.wall_s)}{cores}; workers: {', '.join(parts)}"


def work_json(record: RunRecord) -> dict[str, Any]:
    """The record with what follows from it."""
    found = verdict(record)
    document = record.model_dump(mode="json")
    for path, work in record.products.items():
        shares = {"busy": work.busy_s, "input": work.input_s, "output": work.writing_s, "opening": work.opening_s}
        document["products"][path]["shares"] = {name: work.share(seconds) for name, seconds in shares.items()}
        document["products"][path]["amplification"] = work.amplification
    document["cpu_share"], document["gpu_share"] = record.cpu_share, record.gpu_share
    document["bottleneck"] = found and {"kind": found.kind, "product": found.product, "sentence": found.sentence}
    return document


def _bytes(count: int) -> str:
    return show(count, SIZES) if count else ""


def _filled(line: str) -> str:
    return textwrap.fill(line, LINE_CHARACTERS, initial_indent=" ", subsequent_indent="   ", break_on_hyphens=False)


def _rows(work: ProductWork) -> list[str]:
    if not work.reasons:
        return []
    ordered = sorted(work.reasons.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{reason} {count}" for reason, count in ordered[:REASONS_SHOWN]]
    if len(ordered) > REASONS_SHOWN:
        shown.append("…")
    count = sum(work.reasons.values())
    return [f"{count} {'row' if count == 1 else 'rows'} failed or partial ({', '.join(shown)})"]


def _units(work: ProductWork) -> list[str]:
    said = []
    if work.retries:
        units = "unit was" if work.retries == 1 else "units were"
        said.append(f"{work.retries} {units} begun again after a lost worker")
    if work.given_up:
        said.append(f"{work.given_up} {'unit' if work.given_up == 1 else 'units'} could not be made")
    return said
