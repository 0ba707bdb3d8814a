"""Where worker processes are: on this machine, dealt out to its devices, or wherever a dask scheduler has workers."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import joblib

from ssn_feat.errors import UserError
from ssn_feat.extraction.extract_options import ExtractOptions

_SECONDS_TO_CONNECT = 30


@dataclass(frozen=True)
class Place:
    """What a worker process is told about where it is."""

    threads: int
    """Threads of torch, and of OpenCV."""
    parent: int = 0
    """The process with which it ends; 0: none."""
    slots: Path | None = None
    """Folder in which the processes of a pool take numbers."""

    def device(self, devices: tuple[str, ...]) -> str:
        """The device of this process: the processes of a pool are dealt out evenly."""
        return devices[0 if self.slots is None else _slot(self.slots) % len(devices)]


@functools.lru_cache(maxsize=1)
def _slot(folder: Path) -> int:
    """The number of this process among those of a pool: each takes the first that is free, and keeps it."""
    for number in count():
        try:
            os.close(os.open(folder / str(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        return number
    raise AssertionError


@dataclass(frozen=True)
class Pool:
    """Processes that joblib hands videos to."""

    at_once: int
    """Videos at once."""
    place: Callable[[], Place]
    """Asked once for each video."""
    deaths: tuple[type[Exception], ...]
    """What is raised when a process dies."""


@contextmanager
def worker_pool(options: ExtractOptions) -> Iterator[Pool]:
    """The pool that ``options`` ask for; joblib uses it within the block. Raises UserError where it cannot be had."""
    if options.dask:
        with _dask_pool(options.dask) as pool:
            yield pool
        return
    with tempfile.TemporaryDirectory(prefix="ssn-feat-slots-") as folder:
        place = Place(max(1, joblib.cpu_count() // options.jobs), os.getpid(), Path(folder))
        with joblib.parallel_config(backend="loky"):
            yield Pool(options.jobs, lambda: place, (BrokenProcessPool,))


@contextmanager
def _dask_pool(address: str) -> Iterator[Pool]:
    try:
        from distributed import Client
        from distributed.scheduler import KilledWorker
    except ImportError as error:
        raise UserError(f"--dask needs dask.distributed ({error}): pip install ssn-feat[dask]") from None
    try:
        client: Any = Client(address, timeout=_SECONDS_TO_CONNECT)
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(f"no dask scheduler answers at {address}: {' '.join(str(error).split())[:200]}") from None
    with client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise UserError(f"the dask scheduler at {address} has no workers: start some, as dask worker {address}")
        with joblib.parallel_config(backend="dask"):
            # Workers come and go: twice as many videos as there are threads are on their way.
            yield Pool(2 * threads, lambda: Place(threads=1), (KilledWorker,))
