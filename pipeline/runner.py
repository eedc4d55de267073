"""Runs a plan on Ray Data. All Ray knobs live here; stages never see Ray.

One row of the dataset is one unit (rule 1: descriptors travel through Ray, bytes go to storage). The stages are
chained, so units flow through them as a pipeline: unit 7 is decoded while the features of unit 6 are extracted.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import ray
import ray.data

from pipeline import receipts
from pipeline.graph import Plan, Product, Unit
from pipeline.stages import Stage, card_of, stage_module
from pipeline.store import Store
from pipeline.survey import Progress
from pipeline.threads import num_cores
from schemas.config import Limits
from schemas.errors import ReelmillError, StorageError

Row = dict[str, Any]  # a unit's fields; `errors`, JSON of product path -> message; `fatal`
Tell = Callable[[Progress], None]

POLL_S = 0.5
CRASHED_UNITS_ALLOWED = 8  # units whose worker died on every attempt; beyond this the run stops


@dataclass(frozen=True, slots=True)
class UnitError:
    """A unit that could not be made; nothing of it was written."""

    unit: int
    message: str
    fatal: bool  # storage itself fails: going on is pointless


@contextlib.contextmanager
def cluster(*, address: str | None = None, workers: int | None = None) -> Iterator[None]:
    """Connect to a cluster, or start a quiet local Ray for the time of the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # Ray Data's own actors set off a warning of Ray's core
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # keeps CUDA devices visible to CPU tasks
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            with _native_stderr_hidden():
                ray.init(
                    address="local",  # without it ray looks for any cluster on this machine, and joins that
                    num_cpus=workers or num_cores(),
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    object_store_memory=128 << 20,  # receipts only ever pass through it
                )
    except Exception as error:  # a bare one, where Ray's own processes start too slowly on a busy machine
        where = f"the Ray cluster at {address}" if address else "a local Ray"
        raise ReelmillError(f"can't reach or start {where}: {error}") from None
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = False
    context.max_errored_blocks = CRASHED_UNITS_ALLOWED
    context.execution_no_progress_timeout_s = -1  # a unit of long videos may take hours; decoders have their limits
    warnings.filterwarnings("ignore", message=".*ray_remote_args")  # max_retries has no named form yet
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _native_stderr_hidden() -> Iterator[None]:
    """Ray's C++ core says on stderr, whatever its log level, that it was given a log level."""
    sys.stderr.flush()
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def run_plan(
    plan: Plan,
    store: Store,
    *,
    limits: Limits,
    pending: Sequence[Unit],
    on_progress: Callable[[Progress], None],
) -> list[UnitError]:
    """Make every pending unit of every clips, features and flow product; returns those that could not be made."""
    products = [product for product in plan.products if product.kind != "heads"]
    _write_cards(products, store)
    if not pending or not products:
        return []
    with hearing(on_progress) as tell:
        return list(_drain(_dataset(products, store, limits, pending, tell)))


def _drain(dataset: ray.data.Dataset) -> Iterator[UnitError]:
    """Pull units through the chain of stages, and yield the errors; stop at the first fatal one."""
    try:
        for row in dataset.iter_rows():
            for message in json.loads(row["errors"]).values():
                yield UnitError(row["index"], message, row["fatal"])
            if row["fatal"]:
                return
    except ray.exceptions.RayError as error:
        yield UnitError(-1, f"workers died again and again, so the run stopped: {_last_line(error)}", fatal=True)


def _dataset(
    products: Sequence[Product], store: Store, limits: Limits, pending: Sequence[Unit], tell: Tell
) -> ray.data.Dataset:
    """The graph: one row = one unit = one block; every step is 1:1."""
    rows = [{**asdict(unit), "errors": "{}", "fatal": False} for unit in pending]
    dataset: ray.data.Dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    num_gpus = int(ray.cluster_resources().get("GPU", 0))
    for product in products:
        settings = {"product": product, "store": store, "limits": limits, "tell": tell}
        if not _holds_a_gpu(product, store):
            # 1:1, on every core: decoding and flow are the wide part. A video that kills its decoder is caught inside
            # the stage; the two retries are for workers lost to their node.
            dataset = dataset.map(_step, fn_kwargs=settings, num_cpus=1, max_retries=2)  # type: ignore[arg-type]
        else:
            # 1:1, an actor for each GPU; without one, a single model that uses all cores by its own threads.
            # Zero logical CPUs: the decoders must be able to take every core while the model waits for units.
            dataset = dataset.map(
                _ActorStep,  # type: ignore[arg-type]  # ray takes callable classes and fn_kwargs; its types do not
                fn_kwargs=settings,
                compute=ray.data.ActorPoolStrategy(size=max(1, num_gpus)),
                num_cpus=0,
                num_gpus=1 if num_gpus else 0,
                max_restarts=-1,
                max_task_retries=2,
            )
    return dataset


def _holds_a_gpu(product: Product, store: Store) -> bool:
    """Whether a product's worker keeps what wants a GPU, where there is one: a model, or flow's cuda backend."""
    if product.kind == "flow":
        return bool(receipts.read_card(store, product.path).details["backend"]["used"] == "cuda")
    return product.kind == "features"


# ---------------------------------------------------------------- on the workers

STAGES_HELD = 4  # per worker process; a cluster outlives many datasets, and each open stage holds a decoder or a model
_held: dict[tuple[str, str, str], Stage] = {}  # by dataset, product and fingerprint; kept open from unit to unit


def _step(row: Row, *, product: Product, store: Store, limits: Limits, tell: Tell) -> Row:
    """Make one unit of one product unless it stands already. Errors travel in the row, so that others go on."""
    errors = json.loads(row["errors"])
    if row["fatal"] or any(path in errors for path in product.upstream):
        return row
    unit = Unit(row["index"], row["start_row"], row["num_rows"], row["rows_sha256"])
    try:
        receipt = receipts.standing(store, product, unit) or _stage(product, store, limits)(unit)
    except Exception as error:
        message, fatal = _explain(error)
        errors[product.path] = f"{product.path} unit {unit.index:06d}: {message}"
        return {**row, "errors": json.dumps(errors), "fatal": fatal}
    tell(Progress(product.path, unit.index, sum(receipt.rows.values()), receipt.rows.get("failed", 0)))
    return row


class _ActorStep:
    """The same for an actor pool, which wants a class: an actor is a process that keeps its model."""

    def __call__(self, row: Row, **settings: Any) -> Row:
        return _step(row, **settings)


def _stage(product: Product, store: Store, limits: Limits) -> Stage:
    """The open stage of this worker process."""
    key = (store.uri, product.path, product.fingerprint)
    if key not in _held:
        while len(_held) >= STAGES_HELD:
            _held.pop(next(iter(_held))).close()
        _held[key] = stage_module(product.kind).open_stage(product, store, limits)
    return _held[key]


def _explain(error: Exception) -> tuple[str, bool]:
    """What to tell the user, and whether going on is pointless."""
    if isinstance(error, ReelmillError):
        return str(error), isinstance(error, StorageError)
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"at {place.filename}:{place.lineno}; this is a bug, please report it"
    return f"{type(error).__name__}: {error} ({where})", False


# ---------------------------------------------------------------- progress and cards


class Mailbox:
    """Hears from the workers; the driver empties it twice a second."""

    def __init__(self) -> None:
        self._news: list[Any] = []

    def add(self, news: Any) -> None:
        self._news.append(news)

    def take(self) -> list[Any]:
        news, self._news = self._news, []
        return news


_Mailbox: Any = ray.remote(num_cpus=0)(Mailbox)


def _post(mailbox: Any, news: Any) -> None:
    """Waits until the mailbox has it: what is said before a unit is reported is heard before the run ends."""
    with contextlib.suppress(ray.exceptions.RayError):
        ray.get(mailbox.add.remote(news))


@contextlib.contextmanager
def hearing(listener: Callable[[Any], None]) -> Iterator[Callable[[Any], None]]:
    """Gives a function that workers elsewhere may call; what they say reaches `listener` here.

    News is a courtesy: where it is lost with a node, what stands on storage is still the truth.
    """
    mailbox: Any = _Mailbox.remote()
    stop = threading.Event()

    def take() -> None:
        with contextlib.suppress(ray.exceptions.RayError):
            for news in ray.get(mailbox.take.remote(), timeout=30):
                listener(news)

    def poll() -> None:
        while not stop.wait(POLL_S):
            take()

    thread = threading.Thread(target=poll, name="reelmill-progress", daemon=True)
    thread.start()
    try:
        yield functools.partial(_post, mailbox)
    finally:
        stop.set()
        thread.join()
        take()


@ray.remote(num_cpus=0, max_calls=1, max_retries=2)  # max_calls: the process that loaded a model goes away after it
def _card_task(product: Product, store: Store) -> ReelmillError | None:
    try:
        receipts.write_card(store, card_of(product, store))
    except ReelmillError as error:
        return type(error)(f"{product.path}: {error}")
    return None


def _write_cards(products: Sequence[Product], store: Store) -> None:
    """Write the cards before any unit. A card that stands for the same fingerprint is kept."""
    has_gpu = ray.cluster_resources().get("GPU", 0) >= 1
    for product in products:  # in order: the cards of features and flow read that of their clips
        if receipts.card_stands(store, product):
            continue
        # the card says which precision or backend the actors use, so it is made on such a machine
        num_gpus = 1 if has_gpu and product.kind in ("features", "flow") else 0
        try:
            problem = ray.get(_card_task.options(num_gpus=num_gpus).remote(product, store))
        except ray.exceptions.RayError as error:
            raise ReelmillError(f"{product.path}: its card can't be made: {_last_line(error)}") from None
        if problem is not None:
            raise problem


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
