"""Worker processes: on this machine, distributed over its devices, or the workers of a dask scheduler."""

from __future__ import annotations

import functools
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import joblib

from ssn_feat.errors import UserError
from ssn_feat.extraction.extract_options import ExtractOptions

_CONNECT_SECONDS = 30


@dataclass(frozen=True)
class WorkerContext:
    """What a worker process is told about itself."""

    threads: int
    """Threads of torch, and of OpenCV."""
    parent: int = 0
    """The process id with which it exits; 0: none."""
    slots: Path | None = None
    """Folder in which the processes of a pool claim numbers."""

    def device(self, devices: tuple[str, ...]) -> str:
        """The device of this process: the processes of a pool are distributed evenly."""
        return devices[0 if self.slots is None else _slot(self.slots) % len(devices)]


@functools.lru_cache(maxsize=1)
def _slot(folder: Path) -> int:
    """The number of this process in its pool: each process claims the lowest free number, and keeps it."""
    for number in count():
        try:
            os.close(os.open(folder / str(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        return number
    raise AssertionError


@dataclass(frozen=True)
class WorkerPool:
    """Processes that joblib sends videos to."""

    at_once: int
    """Videos in work at the same time."""
    context: Callable[[], WorkerContext]
    """Called once for each video."""
    deaths: tuple[type[Exception], ...]
    """Exceptions that mean that a process died."""


@contextmanager
def worker_pool(options: ExtractOptions, videos: int) -> Iterator[WorkerPool]:
    """The pool for ``options`` and a number of ``videos``; joblib uses it within the block.

    Raises UserError if dask is missing, its scheduler does not answer or stops, or it has no workers.
    """
    if options.dask:
        with _dask_pool(options.dask) as pool:
            yield pool
        return
    processes = min(options.jobs, videos)
    with tempfile.TemporaryDirectory(prefix="ssn-feat-slots-") as folder:
        context = WorkerContext(max(1, joblib.cpu_count() // processes), os.getpid(), Path(folder))
        with joblib.parallel_config(backend="loky"):
            yield WorkerPool(processes, lambda: context, (BrokenProcessPool,))


@contextmanager
def _dask_pool(address: str) -> Iterator[WorkerPool]:
    try:
        from distributed import Client
        from distributed.scheduler import KilledWorker
    except ImportError as error:
        raise UserError(f"--dask needs dask.distributed ({error}): pip install ssn-feat[dask]") from None
    connect: Any = Client
    try:
        client = connect(address, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(f"no dask scheduler answers at {address}: {' '.join(str(error).split())[:200]}") from None
    # A client that loses its scheduler logs tracebacks for a minute; the error below says it in one line.
    with _silent("distributed", "distributed.client", "tornado", "asyncio"), client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise UserError(f"the dask scheduler at {address} has no workers: start some with dask worker {address}")
        try:
            with joblib.parallel_config(backend="dask"):
                # Workers come and go: twice as many videos as there are threads are submitted.
                yield WorkerPool(2 * threads, lambda: WorkerContext(threads=1), (KilledWorker,))
        except CancelledError:
            raise UserError(
                f"the dask scheduler at {address} stopped: committed videos are safe; start it and its workers again, "
                "and run the same command again"
            ) from None


@contextmanager
def _silent(*loggers: str) -> Iterator[None]:
    """Within the block, these loggers write nothing below the level CRITICAL."""
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in loggers}
    for logger in levels:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


__all__ = ["WorkerContext", "WorkerPool", "worker_pool"]
