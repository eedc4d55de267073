"""What a worker does: one unit of one product, unless it stands already. Errors travel in the row."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import ray

from pipeline import chaos, receipts
from pipeline.graph import Product, Unit
from pipeline.runner.facts import node_name
from pipeline.runner.reach import lacking
from pipeline.stages import Stage, stage_module
from pipeline.storage.patience import MOUNT_IS_AWAY, telling
from pipeline.store import Store
from schemas.config import Limits
from schemas.errors import ReelmillError, StorageError
from schemas.news import Began, GaveUp, LeftOut, News, Progress, StorageWait, Trouble

Row = dict[str, Any]  # a unit's fields; `errors`, JSON of product path -> message; `fatal`
Tell = Callable[[News], None]
Complain = Callable[[Trouble], None]  # from any thread

LOWEST_PRIORITY = 19  # Ray's workers have 15: beside one of them, a third of a core
STAGES_HELD = 4  # per worker process; a cluster outlives many datasets, and each open stage holds a decoder or a model
LEFT_OUT_S = 30.0  # until a worker on a node that lacks its weights is started again: there, or on another
_held: dict[tuple[str, str, str], Stage] = {}  # by dataset, product and fingerprint; kept open from unit to unit


def step(row: Row, *, product: Product, store: Store, limits: Limits, tell: Tell) -> Row:
    """Make one unit of one product unless it stands already. Errors travel in the row, so that others go on."""
    errors = json.loads(row["errors"])
    if row["fatal"] or any(path in errors for path in product.upstream):
        return row
    unit = Unit(row["index"], row["start_row"], row["num_rows"], row["rows_sha256"])
    began = False
    try:
        receipt, work = receipts.standing(store, product, unit), None
        if receipt is None:
            began, node = True, _this_node()
            tell(Began(product.path, unit.index, node))
            stage = _stage(product, store, limits)
            stage.meter.begin()
            with chaos.striking(store, product.path, unit.index):
                receipt = stage(unit)
            work = stage.meter.end(receipt, node=node)
    except Exception as error:
        message, fatal = _explain(error)
        errors[product.path] = f"{product.path} unit {unit.index:06d}: {message}"
        if began:
            tell(GaveUp(product.path, unit.index))
        return {**row, "errors": json.dumps(errors), "fatal": fatal}
    tell(Progress(product.path, unit.index, sum(receipt.rows.values()), receipt.rows.get("failed", 0), work))
    return row


def leave_unfit_node(product: Product, complain: Complain) -> None:
    """End this process, before it takes a unit, where its node lacks the product's weights or has others: Ray starts it
    again, there or elsewhere, until it finds them. On a cluster of one node, where there is no elsewhere, the units say
    what is wrong."""
    if sum(node["Alive"] for node in ray.nodes()) < 2:
        return
    with telling_of_storage(complain):
        reason = lacking(product)
    if reason:
        complain(LeftOut(product.path, ray.util.get_node_ip_address(), reason))
        time.sleep(LEFT_OUT_S)
        os._exit(1)  # no exception: after one Ray Data ends the round


def telling_of_storage(complain: Complain) -> AbstractContextManager[None]:
    """For the time of the block the driver hears that this worker waits for storage."""
    return telling(lambda sentence, is_away: complain(StorageWait(_this_node(), sentence, is_away)))


def let_models_go_first() -> None:
    """Leave the cores to workers that keep a model, as long as these have units: less is left for them at a run's end.
    The decoders that this thread starts do the same."""
    os.setpriority(os.PRIO_PROCESS, 0, LOWEST_PRIORITY)


def _stage(product: Product, store: Store, limits: Limits) -> Stage:
    """The open stage of this worker process."""
    key = (store.uri, product.path, product.fingerprint)
    if key not in _held:
        while len(_held) >= STAGES_HELD:
            _held.pop(next(iter(_held))).close()
        began_s = time.monotonic()
        _held[key] = stage_module(product.kind).open_stage(product, store, limits)
        _held[key].meter.opened(time.monotonic() - began_s)
    return _held[key]


def _this_node() -> str:
    """The Ray node this worker is on, by the name that `_runs/` translates to an address."""
    return node_name(ray.get_runtime_context().get_node_id())


def _explain(error: Exception) -> tuple[str, bool]:
    """What to tell the user, and whether going on is pointless."""
    if isinstance(error, ReelmillError):
        return str(error), isinstance(error, StorageError)
    if isinstance(error, OSError) and error.errno in MOUNT_IS_AWAY:
        said = f"{error.filename or 'the dataset'} on {_this_node()} ({(error.strerror or str(error)).lower()})"
        return f"can't get at {said}; see to the mount that it lies on, then run the same command again", True
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"at {place.filename}:{place.lineno}; this is a bug, please report it"
    return f"{type(error).__name__}: {error} ({where})", False
