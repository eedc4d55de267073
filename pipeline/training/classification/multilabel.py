"""How well heads of several labels do: of videos (multi), or of each clip (dense).

        rows     mean average precision by the rules of
multi   videos   mmaction2: a class that no row has is left out; scikit-learn gives the same where every class has rows
dense   clips    MultiTHUMOS: a class that no row has counts as 0

Hit@k is over the rows that have a label. Chance is what a ranking by lot comes to: the share of rows that have the
class, averaged over classes as the average precisions are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.heads.objectives import Labels
from pipeline.metrics.classification import ranking
from pipeline.metrics.multilabel import Protocol, hit_at_k, mean_average_precision
from pipeline.receipts import UnitWriter
from pipeline.training.classification.dataset import HeadData
from pipeline.training.classification.results import TOP_K, Scores, summary
from pipeline.training.splits import Split, evaluated_on
from pipeline.training.task import Trained, csv_bytes, model_folder

PROTOCOLS: dict[str, Protocol] = {"multi": "mmaction2", "dense": "multithumos"}
ROWS = {"multi": "videos", "dense": "clips"}


def describe(kind: Labels) -> dict[str, Any]:
    """What a head's card says."""
    return {
        "task": "any number of classes a video" if kind == "multi" else "any number of classes at the centre of a clip",
        "loss": "binary cross-entropy, mean over classes" + (", then over the clips of a video" * (kind == "dense")),
        "selection": "the epoch of the highest validation mAP",
        "metric": f"mean average precision over {ROWS[kind]} by the rules of {PROTOCOLS[kind]}",
        "top_k": TOP_K,
    }


def mean_ap(data: HeadData, split: Split, scores: NDArray[np.float32]) -> float:
    """mAP of scores (rows, K) on one split."""
    return mean_average_precision(scores, _truth(data, split), protocol=PROTOCOLS[data.kind]).mean_ap


def chance(data: HeadData, split: Split) -> float:
    """The mAP of a ranking by lot."""
    shares = _truth(data, split).mean(axis=0)
    return float(shares.mean() if data.kind == "dense" else shares[shares > 0].mean())


def split_results(data: HeadData, split: Split, scores: NDArray[np.float32]) -> dict[str, Any]:
    """The numbers of one model on one split, from scores (rows, K). `hit5` is hit@K where there are fewer classes."""
    truth = _truth(data, split)
    result = mean_average_precision(scores, truth, protocol=PROTOCOLS[data.kind])
    labelled = truth.any(axis=1)
    rows = ROWS[data.kind]
    return {
        "videos": len(data.videos_of(split)),
        "annotated_videos": data.num_annotated(split),
        "rows": len(truth),
        "map": result.mean_ap,
        "hit1": _number(hit_at_k(scores[labelled], truth[labelled], 1)),
        "hit5": _number(hit_at_k(scores[labelled], truth[labelled], TOP_K)),
        "chance": chance(data, split),
        "per_class": [
            {
                "label_id": label_id,
                "label": name,
                rows: int(result.num_rows[k]),
                "ap": _number(result.per_class[k]) if result.num_rows[k] else None,
            }
            for k, (label_id, name) in enumerate(data.classes)
        ],
    }


def write_results(writer: UnitWriter, data: HeadData, trained: Mapping[str, Trained]) -> dict[str, Any]:
    """Write predictions; returns what metrics.json holds of the models."""
    for place, one in enumerate(trained.values()):
        folder = model_folder(place)
        writer.table(f"{folder}predictions.parquet", predictions_table(data, one.outputs))
        if data.kind == "multi":
            writer.file(f"{folder}predictions.csv").write(predictions_csv(data, one.outputs))
    return metrics(data, trained)


def metrics(data: HeadData, trained: Mapping[str, Trained]) -> dict[str, Any]:
    """What metrics.json holds of the models, the head itself first."""
    split = evaluated_on(data.present)
    found = summary(data, trained, split_results=split_results)
    models = {name: model["splits"][split] for name, model in found["models"].items()}
    return {
        **{key: models[next(iter(models))][key] for key in ("map", "hit1", "hit5", "chance")},
        "headline": headline(models),
        "protocol": PROTOCOLS[data.kind],
        "rows": ROWS[data.kind],
        **({"annotations": dict(data.annotations)} if data.annotations else {}),
        **found,
    }


def headline(models: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What a table shows first of the models' `split_results`: the head's numbers, and the mAP of its probe."""
    head, *_ = models.values()
    probes = {f"mAP of the {name} probe": model["map"] for name, model in models.items() if model is not head}
    shown = {"mAP": head["map"], "hit@1": head["hit1"], "hit@5": head["hit5"], "chance (mAP)": head["chance"], **probes}
    coverage = f"{head['videos']} of {head['annotated_videos']} videos"
    return {name: value for name, value in shown.items() if value is not None} | {"coverage": coverage}


def predictions_csv(data: HeadData, scores: Scores) -> bytes:
    """One line a video, in manifest order: its labels, and the best classes with their scores."""
    k = min(TOP_K, len(data.classes))
    columns = [column for rank in range(1, k + 1) for column in (f"top{rank}", f"score{rank}")]
    lines: dict[int, list[str]] = {}
    for split, values in scores.items():
        for video, order, row in zip(data.videos_of(split), ranking(values), values, strict=True):
            names = " | ".join(data.classes[c][1] for c in np.flatnonzero(data.labels[video]))
            best = [cell for c in order[:k] for cell in (data.classes[c][1], f"{row[c]:.6f}")]
            lines[int(video)] = [data.video_ids[video], split, str(data.lengths[video]), names, *best]
    return csv_bytes(["video_id", "split", "clips", "labels", *columns], [lines[v] for v in sorted(lines)])


def predictions_table(data: HeadData, scores: Scores) -> pa.Table:
    """One row a video (multi) or a clip (dense), in manifest order, with the probabilities of all classes.

    Columns: video_id, split, start_s, center_s and end_s of clips, label_ids list<int32>, probabilities
    fixed_size_list<float>[K]. Their K classes are in the schema's metadata: reelmill.classes.
    """
    split_rows = {split: data.rows_of(data.videos_of(split)) for split in scores}
    rows = np.concatenate(list(split_rows.values()))
    order = np.argsort(rows)
    values = np.concatenate([scores[split] for split in split_rows])[order]
    videos = np.repeat(np.arange(len(data.video_ids)), data.lengths) if data.kind == "dense" else rows[order]
    label_ids = np.array([label_id for label_id, _ in data.classes], dtype=np.int32)
    columns: dict[str, Any] = {
        "video_id": pa.array([data.video_ids[video] for video in videos], pa.string()),
        "split": pa.array(data.splits[videos].tolist(), pa.string()),
    }
    if data.kind == "dense":
        columns |= dict(zip(("start_s", "center_s", "end_s"), data.sequences.windows.T, strict=True))
    truth = [label_ids[row].tolist() for row in data.labels]
    columns["label_ids"] = pa.array(truth, pa.list_(pa.int32()))
    flat = pa.array(values.ravel(), pa.float32())
    columns["probabilities"] = pa.FixedSizeListArray.from_arrays(flat, len(data.classes))
    names = [{"label_id": label_id, "label": name} for label_id, name in data.classes]
    return pa.table(columns).replace_schema_metadata({"reelmill.classes": json.dumps(names, ensure_ascii=False)})


def _truth(data: HeadData, split: Split) -> NDArray[np.bool_]:
    """(rows of the split, K)."""
    truth: NDArray[np.bool_] = data.labels[data.rows_of(data.videos_of(split))]
    return truth


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
