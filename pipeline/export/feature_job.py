"""What an export of features is to write: the products in their order, their grid, and how many rows a video gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from pipeline.export.feature_files import Target
from pipeline.export.feature_sequences import num_columns, refuse_maps, unit_tracks
from pipeline.export.grid import Clock, Grid, clips_of, configured_grid, stored_grid
from pipeline.export.lengths import Length
from pipeline.export.source import require_whole
from pipeline.graph import Plan, Product
from pipeline.store import Store
from schemas.config import Clips
from schemas.errors import UsageError

MMACTION2_ROWS = "100"  # what the configs of BSN and BMN take


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be written, all settings being checked."""

    store: Store
    products: tuple[Product, ...]  # rgb first, flow last
    columns: dict[str, int]  # product path -> how many
    grid: Grid
    clock: Clock
    length: Length
    target: Target

    def facts(self) -> dict[str, Any]:
        """What a reader of the files has to know, and the same for all videos."""
        facts: dict[str, Any] = {
            "columns": [
                {"product": path, "first": stop - count, "stop": stop}
                for (path, count), stop in zip(self.columns.items(), accumulate(self.columns.values()), strict=True)
            ],
            "fps": float(self.clock.fps),
            "length": str(self.length),
            "seconds": "from the start of a video's first window, which is at start_s on the source's clock",
        }
        if self.length.rule == "fixed":
            return {**facts, "center_s": f"(t + 0.5) * duration / {self.length}"}
        return {
            **facts,
            "center_s": "(t * feature_stride + offset_frames) / fps",
            "feature_stride": self.clock.feature_stride,
            "snippet_frames": self.clock.snippet_frames,
            "offset_frames": self.clock.offset_frames,
        }


def check_job(store: Store, plan: Plan, products: Sequence[Product], *, target: Target, length: str | None) -> Job:
    """Raises UsageError where products and settings don't go together, ReelmillError where a unit is missing."""
    given = Length.parse(length) if length else None
    ordered = _ordered(plan, products)
    clips = [clips_of(plan, product) for product in ordered]
    rule = _length(ordered[0], clips[0], target, given)
    for product in ordered:
        require_whole(store, product, plan.units)
        refuse_maps(store, product, plan.units[0])
    grid = _grid(store, plan, ordered[0])
    return Job(
        store=store,
        products=ordered,
        columns={product.path: num_columns(store, product, plan.units[0]) for product in ordered},
        grid=grid,
        clock=grid.clock(),
        length=rule,
        target=target,
    )


def _length(product: Product, clips: Clips, target: Target, given: Length | None) -> Length:
    """The rule that was given, or what the target needs, or what the clips allow."""
    if target == "mmaction2":
        rule = given or Length.parse(MMACTION2_ROWS)
        if rule.rule != "fixed":
            raise UsageError(
                f"--length {rule}: the localizers of mmaction2 take the same number of rows of each video; give that "
                f"number, {MMACTION2_ROWS} for BSN and BMN"
            )
        return rule
    rule = given or Length("valid" if clips.tail == "drop" else "padded")
    if rule.rule == "padded" and clips.tail == "drop":
        raise UsageError(
            f"--length padded: the clips of {product.path} leave out what their last window does not hold (tail: "
            "drop), so nothing is known of where the videos end; give valid"
        )
    return rule


def _ordered(plan: Plan, products: Sequence[Product]) -> tuple[Product, ...]:
    """In the order given, but those of flow last."""
    for product in products:
        if product.kind != "features":
            have = ", ".join(other.path for other in plan.products if other.kind == "features")
            raise UsageError(
                f"--product {product.path}: these tools read features; "
                + (f"give some of {have}" if have else "this dataset has none, so add a `features` section and run it")
            )
    paths = [product.path for product in products]
    for path in paths:
        if paths.count(path) > 1:
            raise UsageError(f"--product {path} is given twice; its columns would stand side by side with themselves")
    return tuple(sorted(products, key=lambda product: product.settings["from"].startswith("flow/")))


def _grid(store: Store, plan: Plan, product: Product) -> Grid:
    """The grid of the longest video in the first unit that has one of two windows or more; else as the settings say."""
    configured = configured_grid(plan, product)
    for unit in plan.units:
        tracks = [track for track in unit_tracks(store, product, unit).values() if not isinstance(track, str)]
        longest = max(tracks, key=lambda track: len(track.start_s), default=None)
        if longest is not None and len(longest.start_s) > 1:
            return stored_grid(configured, longest.start_s, longest.end_s)
    return configured
