"""`reelmill synth OUT`: make a labelled motion dataset of real, encoded videos."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jobs.entry import run_verb
from pipeline.synth import CATALOGUE, SynthReport, SynthSpec, make_dataset
from schemas.errors import UsageError


def main(
    out: Annotated[str, typer.Argument(help="A new local folder, or one that this command was interrupted in.")],
    classes: Annotated[int, typer.Option(help=f"How many motions, 1 to {len(CATALOGUE)}.")] = 8,
    videos: Annotated[int, typer.Option(help="Trimmed videos per class.")] = 10,
    untrimmed: Annotated[int, typer.Option(help="Untrimmed videos with several labelled segments.")] = 0,
    untrimmed_seconds: Annotated[float, typer.Option(help="Length of an untrimmed video.")] = 30.0,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT in pixels, both even.")] = "176x144",
    fps: Annotated[float, typer.Option(help="Frames per second.")] = 25.0,
    seconds: Annotated[float, typer.Option(help="Length of a trimmed video.")] = 4.0,
    split: Annotated[str, typer.Option(help="Shares of train, val and test.")] = "0.6,0.2,0.2",
    actors: Annotated[int, typer.Option(help="Actors in a video, 1 to 8.")] = 1,
    backgrounds: Annotated[
        str | None, typer.Option(help="A folder of images or videos to take backgrounds from; default: textures.")
    ] = None,
    camera_jitter: Annotated[float, typer.Option(help="Pixels by which the whole picture wanders.")] = 0.0,
    flow: Annotated[bool, typer.Option("--flow", help="Also write true optical flow, an .npz a video.")] = False,
    crf: Annotated[int, typer.Option(help="x264 quality, 0 (lossless) to 51.")] = 18,
    gop: Annotated[int, typer.Option(help="Frames from one key frame to the next, at most.")] = 50,
    seed: Annotated[int, typer.Option(help="Equal seeds and settings give equal bytes.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one per core.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for a program to read.")] = False,
) -> None:
    """Make videos in which only motion tells the class, with labels, segments, boxes and (on request) flow."""
    width_px, height_px = _parse_size(size)
    spec = SynthSpec(
        num_classes=classes,
        videos_per_class=videos,
        num_untrimmed=untrimmed,
        width_px=width_px,
        height_px=height_px,
        fps=fps,
        duration_s=seconds,
        untrimmed_s=untrimmed_seconds,
        seed=seed,
        split=_parse_split(split),
        num_actors=actors,
        backgrounds=backgrounds,
        camera_jitter_px=camera_jitter,
        flow=flow,
        crf=crf,
        gop=gop,
    )
    if workers is not None and workers < 1:
        raise UsageError(f"--workers must be 1 or more, got {workers}")
    if "://" in out:
        raise UsageError(f"{out}: this command writes to a local folder; make the videos there, and copy them")
    report = _make(Path(out), spec, workers or len(os.sched_getaffinity(0)))
    print(json.dumps({**asdict(report), "out": str(Path(out))}) if as_json else closing_lines(report))


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise UsageError(f'--size is WIDTHxHEIGHT in pixels, such as 176x144, got "{text}"')
    return int(match[1]), int(match[2])


def _parse_split(text: str) -> tuple[float, float, float]:
    try:
        train, val, test = (float(share) for share in text.split(","))
    except ValueError:
        raise UsageError(f'--split is three shares such as 0.6,0.2,0.2, got "{text}"') from None
    return train, val, test


def _make(out: Path, spec: SynthSpec, workers: int) -> SynthReport:
    console = Console(stderr=True)
    columns = (TextColumn("videos"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("videos")
        return make_dataset(
            out, spec, workers=workers, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )


def closing_lines(report: SynthReport) -> str:
    """What was made, where, and what to type next."""
    kinds = [
        f"{count} {kind}"
        for count, kind in ((report.num_trimmed, "trimmed"), (report.num_untrimmed, "untrimmed"))
        if count
    ]
    stood = report.num_trimmed + report.num_untrimmed - report.num_made
    kept = f" ({stood} of them stood from before)" if stood else ""
    lines = [
        f"made {' and '.join(kinds)} videos{kept} of {len(report.classes)} classes, "
        f"{report.seconds_of_video:.0f} s in all, in {report.out}",
        f"look at {report.out / report.preview}",
    ]
    if report.kinetics_csv and report.trimmed_videos:
        csv, folder = report.out / report.kinetics_csv, report.out / report.trimmed_videos
        lines.append(f"next: write `source: {{kind: kinetics, csv: {csv}, videos: {folder}}}` in a config")
        lines.append("      and type `reelmill run CONFIG`")
    return "\n".join(lines)


if __name__ == "__main__":
    run_verb(main)
