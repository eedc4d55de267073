"""Heads: what each reached beside chance, and what it drew."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from pipeline.graph import Plan
from pipeline.report.figures import Figures
from pipeline.report.page import Cells, Part, Picture, Section
from pipeline.store import Store
from pipeline.survey import ProductState

METRICS_FILE = "metrics.json"
DRAWN = {  # file -> what it shows
    "curves.png": "loss and metrics by epoch",
    "confusion.png": "confusion matrix: a row for each true class, a column for each predicted one",
    "timeline.png": "true and found segments of some videos, over time",
    "boxes.png": "true and found boxes in some keyframes",
    "tubes.png": "true and found tubes in some videos",
}
ACCURACIES = {"mean_class_accuracy": "per class", "top5": "top-5"}
MOST_NUMBERS = 12
MOST_MODELS = 20


def heads_section(store: Store, plan: Plan, states: Mapping[str, ProductState], figures: Figures) -> Section:
    """Each head of the plan; one that is not trained, or was with other settings, says so."""
    paths = [product.path for product in plan.products if product.kind == "heads"]
    parts = [_part(store, path, figures, is_pending=bool(states[path].pending)) for path in paths]
    return Section("Heads", parts or [Part(sentences=["The config has no heads."])])


def _part(store: Store, path: str, figures: Figures, *, is_pending: bool) -> Part:
    data = store.read_or_none(f"{path}/{METRICS_FILE}")
    if data is None:
        return Part(path, ["Not trained so far."])
    said = ["Not trained with these settings and inputs so far; this is of earlier ones."] if is_pending else []
    try:
        metrics = json.loads(data)
        tables = list(_tables(metrics))
        said += _words(metrics)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Part(path, [f"{METRICS_FILE} is damaged; train the head again."])
    pictures, troubles = _pictures(store, path, figures)
    return Part(path, said + troubles, tables, pictures)


def _pictures(store: Store, path: str, figures: Figures) -> tuple[list[Picture], list[str]]:
    """What a head drew, and a sentence for each that can't be shown."""
    pictures: list[Picture] = []
    troubles, left_out = [], figures.num_left_out
    for name in sorted(set(DRAWN) & set(store.files(path)), key=list(DRAWN).index):
        try:
            found = figures.take(partial(store.read_or_none, f"{path}/{name}"), f"{path}: {DRAWN[name]}", name)
        except ValueError as error:
            troubles.append(f"{name}: no picture: {error}.")
            continue
        pictures += [found] if found else []
    if left_out := figures.num_left_out - left_out:
        pictures_are = "picture is" if left_out == 1 else "pictures are"
        troubles.append(f"{left_out} {pictures_are} left out: the page has enough.")
    return pictures, troubles


def _words(metrics: Mapping[str, Any]) -> list[str]:
    """On what it was measured."""
    split = metrics["evaluated_on"]
    count = metrics["num_items"][split]
    rule = f", by the rules of {metrics['protocol']}" if metrics.get("protocol") else ""
    return [f"Measured on {count} items of the split {split}{rule}."]


def _tables(metrics: Mapping[str, Any]) -> Iterator[Cells]:
    """Of classifiers every model on what it was evaluated on, beside chance; of others the headline."""
    if "top1" not in metrics:
        headline = list(metrics["headline"].items())[:MOST_NUMBERS]
        yield Cells([str(name) for name, _ in headline], [[_number(value) for _, value in headline]], num_texts=0)
        return
    split, rows = metrics["evaluated_on"], []
    for name, model in list(metrics["models"].items())[:MOST_MODELS]:
        result = model["splits"][split]
        beside = (result["top1"], metrics["chance"], result["majority"])
        rows.append([str(name), *map(_number, beside), *(_number(result[key]) for key in ACCURACIES)])
    yield Cells(["model", "top-1", "chance", "majority class", *ACCURACIES.values()], rows)


def _number(value: object) -> str:
    """Shares as percentages, counts and words as they are."""
    return f"{100 * value:.1f} %" if isinstance(value, float) else str(value)
