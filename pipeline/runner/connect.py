"""A Ray to run on: a cluster's, or a quiet local one."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator

import ray
import ray.data

from pipeline.threads import num_cores
from schemas.errors import ReelmillError

CRASHED_UNITS_ALLOWED = 8  # units whose worker died on every attempt; beyond this the run stops


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
