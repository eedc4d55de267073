"""Units that travel through Ray together: one row, and so one task of each stage, is a bundle of them.

Ray and its driver have some hundredths of a second of work with each task, whatever is in it. Where units take longer
than that, a bundle is one unit. Quick ones go together, so many that the driver has a task to start TASKS_PER_S times a
second: a unit still commits by itself, so of a bundle whose worker is lost all is skipped that stands.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pipeline.graph import Product, Unit
from pipeline.runner.news import Line, gathered
from pipeline.runner.worker import Row, leave_unfit_node, let_models_go_first, step, telling_of_storage
from pipeline.store import Store
from schemas.config import Limits

TASKS_PER_S = 10.0  # that a driver starts in passing
MOST_UNITS = 32
TASKS_LEFT = 4  # for each worker at least: a run's last bundles are small, so that its workers end together

Bundle = dict[str, Any]  # `units`: JSON of a list of rows


def bundle_of(units: Sequence[Unit]) -> Bundle:
    """As units start: without an error."""
    return _bundle([{**asdict(unit), "errors": "{}", "fatal": False} for unit in units])


def rows_of(bundle: Bundle) -> list[Row]:
    return list(json.loads(bundle["units"]))


def _bundle(rows: Sequence[Row]) -> Bundle:
    return {"units": json.dumps(rows)}


def units_a_task(pace: Mapping[str, float], workers: Mapping[str, float], *, left: int) -> int:
    """How many of the units that are `left` go into the next bundle.

    `pace` has the seconds that a worker is at a unit, by product, of those that were heard of; `workers` has them all,
    and how many each has. As long as one product was not heard of, its units may be long: one.
    """
    if not workers or any(path not in pace for path in workers):
        return 1
    units_per_s = min(count / pace[path] if pace[path] else math.inf for path, count in workers.items())
    by_pace = min(MOST_UNITS, units_per_s / TASKS_PER_S)
    by_rest = left / (TASKS_LEFT * max(workers.values()))
    return max(1, int(min(by_pace, by_rest)))


def steps(
    bundle: Bundle, *, product: Product, store: Store, limits: Limits, line: Line, give_way: bool = False
) -> Bundle:
    """Make the units of a bundle one after the other; after a fatal error none. With `give_way` models come first."""
    if give_way:
        let_models_go_first()
    rows = rows_of(bundle)
    with gathered(line) as tell, telling_of_storage(line):
        for place, row in enumerate(rows):
            rows[place] = step(row, product=product, store=store, limits=limits, tell=tell)
            if rows[place]["fatal"]:
                break
    return _bundle(rows)


class ActorStep:
    """The same for an actor pool, which wants a class: an actor is a process that keeps its model."""

    def __init__(self, *, product: Product, line: Line) -> None:
        leave_unfit_node(product, line)

    def __call__(self, bundle: Bundle, **settings: Any) -> Bundle:
        return steps(bundle, **settings)
