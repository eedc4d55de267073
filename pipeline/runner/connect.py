"""A Ray to run on: a cluster's, or a quiet local one."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import ray
import ray.data
from ray._private import ray_constants

from pipeline.threads import num_cores
from schemas.errors import ReelmillError

# Units that a round drops, their workers having died on every attempt, before it is broken off; see runner.rounds. Each
# costs three workers, so a stage that can't run anywhere is found out soon; a round that breaks off with something done
# is followed by another.
CRASHED_UNITS_ALLOWED = 32
LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # off, Ray keeps to 127.0.0.1, as it does there by default
_local = False


def is_local_ray() -> bool:
    """Whether this process started its Ray by itself, just for its own run."""
    return _local


@contextlib.contextmanager
def cluster(
    *, address: str | None = None, workers: int | None = None, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[None]:
    """Connect to a cluster, or start a quiet local Ray for the time of the block. `environment` is for its workers."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # Ray Data's own actors set off a warning of Ray's core
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # keeps CUDA devices visible to CPU tasks
    stop = signal.getsignal(signal.SIGTERM)
    runtime_env = {"env_vars": dict(environment)} if environment else None
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=runtime_env)
        else:
            with _native_stderr_hidden(), _bound_to_loopback():
                ray.init(
                    address="local",  # without it ray looks for any cluster on this machine, and joins that
                    num_cpus=workers or num_cores(),
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    object_store_memory=128 << 20,  # receipts only ever pass through it
                    runtime_env=runtime_env,
                )
    except Exception as error:  # a bare one, where Ray's own processes start too slowly on a busy machine
        what = f"reach the Ray cluster at {address}" if address else "start a local Ray"
        then = "check the address and its nodes (`ray status` there)" if address else "run the same command again"
        raise ReelmillError(f"can't {what} ({error}); {then}") from None
    if threading.current_thread() is threading.main_thread():
        # Ray has put one of its own there, which ends us without a word
        signal.signal(signal.SIGTERM, stop or signal.SIG_DFL)
    global _local
    _local = not address
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = 1  # byte: each row is a block of its own, so each unit is a task of its own
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
        _local = False
        ray.shutdown()


@contextlib.contextmanager
def _bound_to_loopback() -> Iterator[None]:
    """For a Ray that starts in the block: no port of it can be reached from another machine.

    `_node_ip_address="127.0.0.1"` does not do it: Ray takes that for a mistake and looks for a better address.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER, os.environ.get(LOOPBACK_SWITCH)
    ray_constants.ENABLE_RAY_CLUSTER, os.environ[LOOPBACK_SWITCH] = False, "0"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before[0]
        if before[1] is None:
            del os.environ[LOOPBACK_SWITCH]
        else:
            os.environ[LOOPBACK_SWITCH] = before[1]


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
