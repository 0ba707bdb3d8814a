"""Processes that write to a store in a folder, forked from one that has imported everything: they start in no time."""

from __future__ import annotations

import multiprocessing
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np

from ssn_feat.store import FeatureStore, open_or_create_store


def started(path: Path, ids: int, claim: bool) -> tuple[ForkServerProcess, Connection]:
    """A process that writes ``ids`` videos, and what it sends: that it begins, how many it committed.

    ``claim``: whether it leaves videos alone that others are at work on.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ssn_feat.store", "ssn_feat.store.local_backend", "zarr"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_write, args=(path, ids, claim, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def rows_of(number: int) -> np.ndarray:
    """Features of the video of that number, as they are stored."""
    return np.random.default_rng(number).standard_normal((1 + 37 * number % 300, 64)).astype(np.float16)


def _write(path: Path, ids: int, claim: bool, told: Connection) -> None:
    store = open_or_create_store(path, {"r": 1})
    won = 0
    told.send("ready")
    for i in range(ids):
        if not claim:
            won += _one(store, i)
            continue
        with store.claims.hold(f"v{i}") as held:
            if held is not None and f"v{i}" not in store:
                won += _one(store, i)
    with suppress(BrokenPipeError):
        told.send(won)


def _one(store: FeatureStore, number: int) -> bool:
    rows = rows_of(number)
    return store.write(f"v{number}", {"rgb": rows, "flow": -rows}, [[t, t + 1] for t in range(len(rows))])
