"""Clips, flow and features: what was made, to be looked at, and how."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import pyarrow.parquet as pq

from pipeline import pictures, receipts
from pipeline.backbones import random_seed
from pipeline.graph import Plan
from pipeline.pictures import CLIPS_SHOWN, FLOWS_SHOWN, PREVIEW_FILE
from pipeline.report.figures import Figures
from pipeline.report.page import Cells, Part, Picture, Section
from pipeline.store import Store
from pipeline.survey import FlowLoss
from schemas.errors import ReelmillError, StorageError
from schemas.receipt import Card

INDEX_COLUMNS = ["video_id", "start_s", "end_s", "label_ids"]
NOTHING = "Nothing of it was made so far."
# of what stands on storage, whoever wrote it; Arrow's errors are ValueErrors, KeyErrors and OSErrors
DAMAGE = (ReelmillError, OSError, tarfile.TarError, ValueError, KeyError, IndexError, TypeError, cv2.error)
MOST_DEVIATIONS = 20

Draw = Callable[..., bytes | None]


def clips_section(store: Store, plan: Plan, labels: Sequence[str], figures: Figures) -> Section:
    """The contact sheet of each clips product."""
    says = f"Up to {CLIPS_SHOWN} clips, a row each, spread over the product; time goes from left to right."
    parts = [
        _sheet_part(store, path, labels, figures, pictures.contact_sheet, CLIPS_SHOWN, says)
        for path in _paths(plan, "clips")
    ]
    return Section("Clips", parts or _none("clips"))


def flow_section(
    store: Store,
    plan: Plan,
    labels: Sequence[str],
    figures: Figures,
    *,
    losses: Mapping[str, FlowLoss],
    doubts: Sequence[str] = (),
) -> Section:
    """The flow of each product in colour, and what its bound lost; `doubts` are sentences about bounds."""
    says = (
        f"Up to {FLOWS_SHOWN} clips, two rows each: frames, and below each the flow from it on. The colour is the "
        "direction, its strength the speed."
    )
    parts = []
    for path in _paths(plan, "flow"):
        part = _sheet_part(store, path, labels, figures, pictures.flow_sheet, FLOWS_SHOWN, says)
        parts.append(part)
        if path in losses:
            parts.append(Part(tables=[_loss_table(losses[path])]))
    return Section("Flow", [*parts, *([Part(sentences=doubts)] if doubts else [])] or _none("flow"))


def features_section(store: Store, plan: Plan) -> Section:
    """Which network, weights, layer and precision each features product has, and how it differs from the recipe."""
    rows, parts = [], []
    for path in _paths(plan, "features"):
        if store.read_or_none(f"{path}/_card.json") is None:
            parts.append(Part(path, [NOTHING]))
            continue
        try:
            card = receipts.read_card(store, path)
            row, deviations = _features_row(card), [str(each) for each in card.details.get("deviations", ())]
        except StorageError:
            raise
        except (ReelmillError, AttributeError, TypeError, ValueError):
            parts.append(Part(path, [f"{path}/_card.json is damaged: `reelmill run` makes it anew."]))
            continue
        rows.append(row)
        if deviations:
            parts.append(Part(path, [f"Differs from the recipe: {each}." for each in deviations[:MOST_DEVIATIONS]]))
    columns = ("product", "model", "weights", "layer", "dimensions", "precision")
    table = [Part(tables=[Cells(columns, rows, num_texts=len(columns))])] if rows else []
    return Section("Features", [*table, *parts] or _none("features"))


def _paths(plan: Plan, kind: str) -> list[str]:
    return [product.path for product in plan.products if product.kind == kind]


def _none(kind: str) -> list[Part]:
    return [Part(sentences=[f"The config has no {kind}."])]


# ---------------------------------------------------------------- sheets


def _sheet_part(
    store: Store, path: str, labels: Sequence[str], figures: Figures, draw: Draw, count: int, says: str
) -> Part:
    """A product's sheet with what each row of it is. One that can't be drawn is a sentence: the counts matter more."""
    try:
        rows = _rows(store, path, labels, count)
        picture = _sheet(store, path, labels, figures, draw, rows, says)
    except StorageError:
        raise
    except DAMAGE as error:
        return Part(path, [f"No picture: {error}"])
    if not rows:
        return Part(path, [NOTHING])
    if picture is None:
        return Part(path, ["The page has as many pictures as it may have; see its _preview.png."])
    table = Cells(("row", "label", "video", "seconds"), rows, num_texts=4, title="What each row is")
    return Part(path, pictures=[picture], folded=table)


def _sheet(
    store: Store,
    path: str,
    labels: Sequence[str],
    figures: Figures,
    draw: Draw,
    rows: Sequence[Sequence[str]],
    says: str,
) -> Picture | None:
    if not rows:
        return None
    alt = "; ".join(f"row {row}: {label}, {video}, {seconds} s" for row, label, video, seconds in rows)
    return figures.take(
        lambda: store.read_or_none(f"{path}/{PREVIEW_FILE}") or draw(store, path, labels=labels), alt, says
    )


def _rows(store: Store, path: str, labels: Sequence[str], count: int) -> list[tuple[str, str, str, str]]:
    """(row, label, video id, seconds) of each clip of the sheet, from the indices."""
    places = pictures.spread(store, path, count) if store.files(f"{path}/_receipts") else []
    units = {unit: _index(store, path, unit) for unit, _ in places}
    rows = []
    for number, (unit, place) in enumerate(places, start=1):
        about = units[unit][place]
        names = ", ".join(labels[i] if 0 <= i < len(labels) else str(i) for i in about["label_ids"])
        rows.append(
            (str(number), names or "no label", about["video_id"], f"{about['start_s']:.2f}–{about['end_s']:.2f}")
        )
    return rows


def _index(store: Store, path: str, unit: int) -> list[dict[str, Any]]:
    with store.open(f"{path}/_index/{unit:06d}.parquet") as file:
        rows: list[dict[str, Any]] = pq.read_table(file, columns=INDEX_COLUMNS).to_pylist()
    return rows


def _loss_table(loss: FlowLoss) -> Cells:
    """What a reader gets back, against what was computed."""
    bound = f"{loss.bound_px:g} px" if loss.is_quantised else "none: not quantised"
    row = (f"{loss.rmse_px:.3f} px", f"{loss.saturated:.2%}", bound, f"{loss.max_abs_px:.1f} px", f"{loss.num_units:,}")
    return Cells(("RMSE", "beyond the bound", "bound", "longest component", "units looked at"), [row], num_texts=0)


# ---------------------------------------------------------------- features


def _features_row(card: Card) -> tuple[str, ...]:
    found = card.details
    numbers = found.get("maps", {}).get("shape") or [found.get("dim", "")]
    return (
        card.product,
        str(found.get("model", card.settings.get("model", ""))),
        _weights(card),
        str(found.get("layer", "")),
        " × ".join(map(str, numbers)),
        _precision(found.get("precision", {})),
    )


def _weights(card: Card) -> str:
    asked = str(card.settings.get("weights", ""))
    if random_seed(asked) is not None:
        return f"{asked}, as asked"
    return f"sha256 {str(card.details.get('weights', {}).get('sha256', ''))[:12]}"


def _precision(found: Mapping[str, Any]) -> str:
    why = f" ({found['why']})" if found.get("why") else ""
    return f"{found.get('used', '')}{why}"
