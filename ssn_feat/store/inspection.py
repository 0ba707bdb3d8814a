"""The progress of a store, and the verification of its files."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ssn_feat.store.claims import Claim
from ssn_feat.store.feature_store import FeatureStore
from ssn_feat.store.stored_video import FailedVideo

# The current rate is computed from the videos committed within this time.
_RECENT_SECONDS = 900.0


@dataclass(frozen=True)
class StoreStatus:
    """The progress of a store."""

    done: int
    """Committed videos."""
    rows: int
    """Number of their snippets."""
    bytes: int
    """Size of their features and times."""
    failures: dict[str, FailedVideo]
    """Videos that failed when last tried."""
    claims: tuple[Claim, ...]
    """Videos that running processes are working on."""
    pending: dict[str, float]
    """Predicted number of snippets of the videos in the plans of recorded runs that are neither done nor failed."""
    missing: tuple[str, ...]
    """Ids in the annotations of recorded runs that had no file."""
    rate: float | None
    """Current snippets per second; None if too few videos were committed recently."""

    @property
    def pending_bytes(self) -> float:
        """Predicted size of the pending videos; 0 before the first video is done."""
        return sum(self.pending.values()) * self.bytes / self.rows if self.rows else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Predicted time until no video is pending; None if the rate is unknown."""
        return sum(self.pending.values()) / self.rate if self.rate else None


def status(store: FeatureStore) -> StoreStatus:
    """The progress of a store, from its committed, failed and claimed videos and the plans of its runs."""
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
        claims=tuple(store.claims.active()),
        pending=pending,
        missing=tuple(sorted(missing - rows.keys())),
        rate=_rate(store, rows) if store.tier == "growing" else None,
    )


def _rate(store: FeatureStore, rows: dict[str, int]) -> float | None:
    """Snippets per second of the recently committed videos, by the times of their files."""
    times = sorted((at, rows[video_id]) for video_id, at in store.commit_times().items() if video_id in rows)
    now = time.time()
    recent = [(at, n) for at, n in times if now - at < _RECENT_SECONDS]
    if len(recent) < 3 or recent[-1][0] <= recent[0][0]:
        return None
    return sum(n for _, n in recent[1:]) / (recent[-1][0] - recent[0][0])


@dataclass(frozen=True)
class Verification:
    """The result of :func:`verify`."""

    videos: int
    """Number of verified videos."""
    damage: dict[str, tuple[str, ...]]
    """The damage of each damaged video, by id."""
    arrays: dict[str, tuple[str, ...]]
    """Names of the damaged arrays of each damaged video; "" for the attributes of the video."""


def verify(store: FeatureStore, advance: Callable[[], object] = lambda: None) -> Verification:
    """Read every array of every video and compare its sha256, and the fingerprints of every video with the recipe.

    ``advance`` is called after each video.
    Raises UserError if the folder of videos, failures or runs is missing.
    """
    import joblib  # takes longer to import than the status of a store takes to print

    ids = store.ids
    store.failures()
    store.runs()
    # Hashing releases the GIL.
    results = joblib.Parallel(n_jobs=joblib.cpu_count(), prefer="threads", return_as="generator")(
        joblib.delayed(store.check)(video_id) for video_id in ids
    )
    damage: dict[str, tuple[str, ...]] = {}
    arrays: dict[str, tuple[str, ...]] = {}
    for video_id, problems in zip(ids, results, strict=True):
        if problems:
            damage[video_id], arrays[video_id] = tuple(problems.values()), tuple(problems)
        advance()
    return Verification(len(ids), damage, arrays)


__all__ = ["StoreStatus", "Verification", "status", "verify"]
