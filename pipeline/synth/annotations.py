"""Annotation files of a synthetic dataset, in the formats of the datasets that people train on.

| file | format |
|---|---|
| `trimmed/kinetics.csv` | Kinetics: `label,youtube_id,time_start,time_end,split,is_cc` |
| `trimmed/train.txt` … | mmaction2 and SlowFast: `path label`, label from 0 |
| `trimmed/ucf101/` | UCF101: classInd.txt, trainlist01.txt, testlist01.txt (val and test), label from 1 |
| `untrimmed/activitynet.json` | ActivityNet: segments in seconds |
| `untrimmed/ava/train.csv` … | AVA: a box a row at whole seconds: `video_id,second,x1,y1,x2,y2,action_id,person_id` |
| `untrimmed/ava/action_list.pbtxt` | AVA: names and ids from 1 |
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from pipeline.synth.plan import SPLITS, Split, VideoPlan
from pipeline.synth.spec import SynthSpec

_ACTIVITYNET_SUBSET: dict[Split, str] = {"train": "training", "val": "validation", "test": "testing"}


def video_path(spec: SynthSpec, plan: VideoPlan) -> str:
    """Where a video is, relative to the folder of its kind."""
    if plan.kind == "untrimmed":
        return f"videos/{plan.video_id}.mp4"
    return f"videos/{plan.label}/{plan.video_id}_{0:06d}_{_end_s(spec):06d}.mp4"


def _end_s(spec: SynthSpec) -> int:
    return math.ceil(round(spec.duration_s, 6))


def class_list(spec: SynthSpec) -> str:
    """One class a line, in the order of label ids."""
    return "".join(f"{name}\n" for name in spec.classes)


def kinetics_csv(spec: SynthSpec, plans: Sequence[VideoPlan]) -> str:
    rows = [f"{plan.label},{plan.video_id},0,{_end_s(spec)},{plan.split},0" for plan in plans]
    return "\n".join(["label,youtube_id,time_start,time_end,split,is_cc", *rows]) + "\n"


def path_label_list(spec: SynthSpec, plans: Sequence[VideoPlan]) -> str:
    return "".join(f"{video_path(spec, plan)} {spec.classes.index(plan.label)}\n" for plan in plans)


def ucf101_lists(spec: SynthSpec, plans: Sequence[VideoPlan]) -> dict[str, str]:
    """File name -> text. Paths are relative to `trimmed/videos`; the test list has no labels."""
    train, test = [], []
    for plan in plans:
        path = video_path(spec, plan).removeprefix("videos/")
        if plan.split == "train":
            train.append(f"{path} {spec.classes.index(plan.label) + 1}\n")
        else:
            test.append(f"{path}\n")
    index = [f"{number} {name}\n" for number, name in enumerate(spec.classes, start=1)]
    return {"classInd.txt": "".join(index), "trainlist01.txt": "".join(train), "testlist01.txt": "".join(test)}


def activitynet_json(spec: SynthSpec, plans: Sequence[VideoPlan]) -> str:
    database = {
        plan.video_id: {
            "duration": _seconds(plan.num_frames, spec),
            "subset": _ACTIVITYNET_SUBSET[plan.split],
            "resolution": f"{spec.width_px}x{spec.height_px}",
            "url": "",
            "annotations": [
                {
                    "segment": [_seconds(stretch.start_frame, spec), _seconds(stretch.end_frame, spec)],
                    "label": stretch.label,
                }
                for stretch in plan.stretches
            ],
        }
        for plan in plans
    }
    return json.dumps({"version": "reelmill synth 1", "taxonomy": [], "database": database}, indent=1) + "\n"


def _seconds(frame: int, spec: SynthSpec) -> float:
    return round(float(frame / spec.rate), 6)


def ava_csv(spec: SynthSpec, plans: Sequence[VideoPlan], tubes: dict[str, dict[str, Any]]) -> str:
    """Boxes at whole seconds; `tubes` maps a video id to its `tubes_json`."""
    rows: list[str] = []
    for plan in plans:
        for second in range(math.ceil(plan.num_frames / spec.rate)):
            rows += _ava_rows(spec, plan.video_id, second, tubes[plan.video_id]["tubes"])
    return "".join(rows)


def _ava_rows(spec: SynthSpec, video_id: str, second: int, tubes: Sequence[dict[str, Any]]) -> list[str]:
    frame = math.floor(second * spec.rate)  # the one on display
    rows = []
    for tube in tubes:
        if tube["start_frame"] <= frame < tube["end_frame"]:
            x, y, width, height = tube["boxes_xywh"][frame - tube["start_frame"]]
            edges = (
                x / spec.width_px,
                y / spec.height_px,
                (x + width) / spec.width_px,
                (y + height) / spec.height_px,
            )
            box = ",".join(f"{edge:.4f}" for edge in edges)
            action = spec.classes.index(tube["label"]) + 1
            rows.append(f"{video_id},{second:04d},{box},{action},{tube['person_id']}\n")
    return rows


def ava_action_list(spec: SynthSpec) -> str:
    items = (f'item {{\n  name: "{name}"\n  id: {number}\n}}\n' for number, name in enumerate(spec.classes, start=1))
    return "".join(items)


def annotation_files(spec: SynthSpec, plans: Sequence[VideoPlan], tubes: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Every annotation file of a dataset: path relative to its root -> text."""
    files = {"classes.txt": class_list(spec)}
    trimmed = [plan for plan in plans if plan.kind == "trimmed"]
    untrimmed = [plan for plan in plans if plan.kind == "untrimmed"]
    if trimmed:
        files["trimmed/kinetics.csv"] = kinetics_csv(spec, trimmed)
        files |= {f"trimmed/ucf101/{name}": text for name, text in ucf101_lists(spec, trimmed).items()}
    if untrimmed:
        files["untrimmed/activitynet.json"] = activitynet_json(spec, untrimmed)
        files["untrimmed/ava/action_list.pbtxt"] = ava_action_list(spec)
    for split in SPLITS:
        if some := [plan for plan in trimmed if plan.split == split]:
            files[f"trimmed/{split}.txt"] = path_label_list(spec, some)
        if some := [plan for plan in untrimmed if plan.split == split]:
            files[f"untrimmed/ava/{split}.csv"] = ava_csv(spec, some, tubes)
    return files
