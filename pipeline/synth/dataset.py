"""Makes a dataset: plans the videos, makes the missing ones in parallel, writes the annotations."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from pipeline.synth.annotations import annotation_files, video_path
from pipeline.synth.backgrounds import backgrounds_identity
from pipeline.synth.encode import write_mp4
from pipeline.synth.flow import write_flow
from pipeline.synth.plan import VideoPlan, plan_videos
from pipeline.synth.preview import Row, contact_sheet, spread
from pipeline.synth.scene import Scene
from pipeline.synth.spec import SynthSpec
from pipeline.synth.tubes import tubes_json
from schemas.errors import ReelmillError, UsageError

SETTINGS_FILE = "synth.json"
TEMP_FOLDER = "_tmp"
CODE_VERSION = 1  # raise it with any change that changes a byte of a dataset
PREVIEW_UNTRIMMED = 4  # rows

Progress = Callable[[int, int], None]  # videos done, videos in all


@dataclass(frozen=True, slots=True)
class SynthReport:
    """What `make_dataset` made. Paths are relative to `out`; None where there are no such videos."""

    out: Path
    classes: tuple[str, ...]
    num_trimmed: int
    num_untrimmed: int
    num_made: int  # videos made now; the others stood from before
    seconds_of_video: float
    kinetics_csv: str | None  # with `trimmed_videos`: what `source: {kind: kinetics}` takes
    trimmed_videos: str | None
    activitynet_json: str | None
    untrimmed_videos: str | None
    preview: str


def make_dataset(out: Path, spec: SynthSpec, *, workers: int = 1, progress: Progress | None = None) -> SynthReport:
    """Make a dataset in folder `out`, or finish one that was interrupted.

    workers: processes; more than one needs a main module that can be imported. Any number gives the same bytes.
    Raises UsageError where `out` holds something else or `spec.backgrounds` has no pictures, ReelmillError where
    writing fails.
    """
    plans = plan_videos(spec)
    _claim(out, settings(spec))
    missing = [plan for plan in plans if not all((out / path).is_file() for path in product_paths(spec, plan))]
    tell = progress or (lambda done, total: None)
    tell(len(plans) - len(missing), len(plans))
    for done, _ in enumerate(_made(out, spec, missing, workers), start=len(plans) - len(missing) + 1):
        tell(done, len(plans))
    tubes = {plan.video_id: json.loads((out / tubes_path(plan)).read_text()) for plan in plans}
    for path, text in annotation_files(spec, plans, tubes).items():
        _write(out, path, text.encode())
    sheet = contact_sheet(_preview_rows(out, spec, plans, tubes))
    _write(out, "preview.png", cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())
    shutil.rmtree(out / TEMP_FOLDER, ignore_errors=True)
    return _report(out, spec, plans, len(missing))


def settings(spec: SynthSpec) -> dict[str, Any]:
    """What fixes every byte of a dataset, as `synth.json` holds it."""
    return {
        "made_by": "reelmill synth",
        "code_version": CODE_VERSION,
        "settings": spec.to_json(),
        "classes": list(spec.classes),
        "backgrounds_sha256": backgrounds_identity(spec.backgrounds) if spec.backgrounds else None,
        "versions": {
            "av": av.__version__,
            "libavcodec": ".".join(map(str, av.library_versions["libavcodec"])),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
        },
    }


def product_paths(spec: SynthSpec, plan: VideoPlan) -> list[str]:
    """The files of one video, relative to the dataset's folder."""
    flow = [f"{plan.kind}/flow/{plan.video_id}.npz"] if spec.flow else []
    return [f"{plan.kind}/{video_path(spec, plan)}", tubes_path(plan), *flow]


def tubes_path(plan: VideoPlan) -> str:
    return f"{plan.kind}/tubes/{plan.video_id}.json"


def _claim(out: Path, wanted: dict[str, Any]) -> None:
    """Take a new or empty folder, or one that holds this very dataset."""
    mark = out / SETTINGS_FILE
    try:
        if not out.exists() or not any(path.name != TEMP_FOLDER for path in out.iterdir()):
            _write(out, SETTINGS_FILE, (json.dumps(wanted, indent=1) + "\n").encode())
            return
    except OSError as error:
        raise UsageError(f"{out}: can't make a dataset here ({error.strerror}); choose another folder") from None
    if not mark.is_file():
        raise UsageError(f"{out}: this folder is not empty and holds no {SETTINGS_FILE}; choose a new folder")
    differing = _differences(json.loads(mark.read_text()), wanted)
    if differing:
        raise UsageError(
            f"{out}: holds a dataset of other settings ({', '.join(differing)}); choose a new folder, or delete it"
        )


def _differences(have: dict[str, Any], want: dict[str, Any]) -> list[str]:
    """Names of the settings that differ, dotted."""
    names = []
    for key in {**have, **want}:
        ours, theirs = have.get(key), want.get(key)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            names += [f"{key}.{name}" for name in _differences(ours, theirs)]
        elif ours != theirs:
            names.append(key)
    return names


def _made(out: Path, spec: SynthSpec, plans: Sequence[VideoPlan], workers: int) -> Iterator[None]:
    """Make videos, yielding after each."""
    if workers <= 1 or len(plans) <= 1:
        for plan in plans:
            _make_video(out, spec, plan)
            yield
        return
    # spawn: OpenCV's and FFmpeg's threads do not survive a fork
    size, spawn = min(workers, len(plans)), get_context("spawn")
    with ProcessPoolExecutor(size, mp_context=spawn, initializer=_leave_interrupts_to_the_parent) as pool:
        work = [pool.submit(_make_video, out, spec, plan) for plan in plans]
        try:
            for future in work:
                future.result()
                yield
        except BrokenProcessPool:
            raise ReelmillError(
                f"{out}: a process that makes videos died, perhaps for want of memory; the same command goes on from "
                "here, and fewer workers need less"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _make_video(out: Path, spec: SynthSpec, plan: VideoPlan) -> None:
    """Write one video's files, each whole or not at all."""
    cv2.setNumThreads(1)  # the processes are the parallelism
    scene = Scene(spec, plan)
    video, tubes, *flow = product_paths(spec, plan)
    temporary = _temporary(out, video)
    pictures = (scene.picture(frame) for frame in range(plan.num_frames))
    try:
        write_mp4(temporary, pictures, rate=spec.rate, crf=spec.crf, gop=spec.gop)
    except av.FFmpegError as error:
        raise ReelmillError(f"{out / video}: can't encode this video ({error})") from None
    _publish(temporary, out / video)
    for path in flow:
        temporary = _temporary(out, path)
        with temporary.open("wb") as file:
            write_flow(scene, file)
        _publish(temporary, out / path)
    _write(out, tubes, (json.dumps(tubes_json(scene, video=Path(video).name)) + "\n").encode())


def _temporary(out: Path, path: str) -> Path:
    folder = out / TEMP_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder / path.replace("/", ".")


def _publish(temporary: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(temporary, target)


def _write(out: Path, path: str, data: bytes) -> None:
    temporary = _temporary(out, path)
    temporary.write_bytes(data)
    _publish(temporary, out / path)


def _preview_rows(
    out: Path, spec: SynthSpec, plans: Sequence[VideoPlan], tubes: dict[str, dict[str, Any]]
) -> list[Row]:
    """The first trimmed video of each class, then a few untrimmed ones with their boxes."""
    rows = []
    for plan in plans:
        if plan.kind == "trimmed" and plan.index % spec.videos_per_class == 0:
            video = out / product_paths(spec, plan)[0]
            rows.append(Row(plan.label, video, spread(0, plan.num_frames), float(spec.rate)))
    untrimmed = [plan for plan in plans if plan.kind == "untrimmed"]
    return rows + [_untrimmed_row(out, spec, plan, tubes) for plan in untrimmed[:PREVIEW_UNTRIMMED]]


def _untrimmed_row(out: Path, spec: SynthSpec, plan: VideoPlan, tubes: dict[str, dict[str, Any]]) -> Row:
    frames = spread(0, plan.num_frames)
    labels = [next((s.label for s in plan.stretches if s.start_frame <= frame < s.end_frame), "") for frame in frames]
    boxes = tuple(
        tuple(
            tube["boxes_xywh"][frame - tube["start_frame"]]
            for tube in tubes[plan.video_id]["tubes"]
            if tube["start_frame"] <= frame < tube["end_frame"]
        )
        for frame in frames
    )
    video = out / product_paths(spec, plan)[0]
    return Row(f"untrimmed {plan.video_id}", video, frames, float(spec.rate), tuple(labels), boxes)


def _report(out: Path, spec: SynthSpec, plans: Sequence[VideoPlan], num_made: int) -> SynthReport:
    num_trimmed = sum(plan.kind == "trimmed" for plan in plans)
    return SynthReport(
        out=out,
        classes=spec.classes,
        num_trimmed=num_trimmed,
        num_untrimmed=len(plans) - num_trimmed,
        num_made=num_made,
        seconds_of_video=float(sum(plan.num_frames for plan in plans) / spec.rate),
        kinetics_csv="trimmed/kinetics.csv" if num_trimmed else None,
        trimmed_videos="trimmed/videos" if num_trimmed else None,
        activitynet_json="untrimmed/activitynet.json" if spec.num_untrimmed else None,
        untrimmed_videos="untrimmed/videos" if spec.num_untrimmed else None,
        preview="preview.png",
    )
