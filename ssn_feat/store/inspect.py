"""Looking at a store from outside: how far it is, and whether what is on disk is what was written."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import joblib
import numpy as np

from ssn_feat.store.claims import Claim
from ssn_feat.store.feature_store import FeatureStore
from ssn_feat.store.records import Failure

# The present speed is that of the videos committed within this time.
_RECENT_SECONDS = 900.0


@dataclass(frozen=True)
class StoreStatus:
    """How far a store is."""

    done: int
    """Committed videos."""
    rows: int
    """Their snippets."""
    bytes: int
    """Their features and times."""
    failures: dict[str, Failure]
    """Videos that failed when last tried."""
    claims: tuple[Claim, ...]
    """Videos that processes are at work on."""
    pending: dict[str, float]
    """Predicted snippets of the videos that recorded runs mean to do and that are neither done nor failed."""
    missing: tuple[str, ...]
    """Ids that the annotations of recorded runs name and that had no file."""
    rate: float | None
    """Snippets per second at present; None where too few videos were committed lately to tell."""

    @property
    def pending_bytes(self) -> float:
        """Predicted size of what is pending; 0 as long as nothing is done to predict from."""
        return sum(self.pending.values()) * self.bytes / self.rows if self.rows else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Predicted time until nothing is pending; None where the rate is not known."""
        return sum(self.pending.values()) / self.rate if self.rate else None


def status(store: FeatureStore) -> StoreStatus:
    """How far a store is, from what is committed, failed, claimed and recorded of runs."""
    rows: dict[str, int] = {}
    size = 0
    for attributes in store.map(store.attributes, store.ids):
        arrays = attributes["arrays"]
        rows[attributes["id"]] = arrays["time"]["shape"][0]
        size += sum(math.prod(a["shape"]) * np.dtype(a["dtype"]).itemsize for a in arrays.values())
    failures = store.failures()
    pending: dict[str, float] = {}
    missing: set[str] = set()
    for run in store.runs():
        pending |= run["videos"]
        missing |= set(run["missing"])
    pending = {i: n for i, n in sorted(pending.items()) if i not in rows and i not in failures}
    return StoreStatus(
        done=len(rows),
        rows=sum(rows.values()),
        bytes=size,
        failures=failures,
        claims=tuple(store.claims.living()),
        pending=pending,
        missing=tuple(sorted(missing - rows.keys())),
        rate=_rate(store, rows) if store.tier == "growing" else None,
    )


def _rate(store: FeatureStore, rows: dict[str, int]) -> float | None:
    """Snippets per second of the videos committed lately, by the times of their files."""
    times = sorted((at, rows[video_id]) for video_id, at in store.commit_times().items() if video_id in rows)
    recent = [(at, n) for at, n in times if time.time() - at < _RECENT_SECONDS]
    if len(recent) < 3 or recent[-1][0] <= recent[0][0]:
        return None
    return sum(n for _, n in recent[1:]) / (recent[-1][0] - recent[0][0])


@dataclass(frozen=True)
class Verification:
    """What :func:`verify` found."""

    videos: int
    """Videos that were checked."""
    damage: dict[str, tuple[str, ...]]
    """What is damaged, by id; empty where all is well."""


def verify(store: FeatureStore, advance: Callable[[], object] = lambda: None) -> Verification:
    """Read every array of every video and compare its hash. ``advance`` is called after each video.

    Raises UserError where the store was cut apart: what should list its videos, failures or runs is gone.
    """
    ids = store.ids
    store.failures()
    store.runs()
    # Hashing lets other threads run.
    results = joblib.Parallel(n_jobs=joblib.cpu_count(), prefer="threads", return_as="generator")(
        joblib.delayed(store.check)(video_id) for video_id in ids
    )
    damage = {}
    for video_id, found in zip(ids, results, strict=True):
        if found:
            damage[video_id] = tuple(found)
        advance()
    return Verification(len(ids), damage)
