"""The progress of a store, and the verification of its files."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ssn_feat.errors import UserError
from ssn_feat.store.arrays import TIME
from ssn_feat.store.claims import Claim
from ssn_feat.store.feature_store import RECIPE_CLAIM, FeatureStore
from ssn_feat.store.sources import RecordedSources
from ssn_feat.store.staging import StoreReadError
from ssn_feat.store.stored_video import FailedVideo

# The current rate is computed from the videos committed within this time.
_RECENT_SECONDS = 900.0


VideoState = Literal["done", "changed", "orphan", "damaged", "in work", "failed", "pending", "missing"]


@dataclass(frozen=True)
class VideoStatus:
    """One video of a store, or of the plans of its recorded runs."""

    id: str
    state: VideoState
    """done: committed with all planned streams. changed: committed, but its file has another size or time than
    recorded. orphan: committed, but in no plan of a recorded run, or its file is gone. damaged: committed, but its
    attributes cannot be used. in work: claimed by a running process. failed: its last extraction failed. pending: in a
    plan, but not committed with all planned streams. missing: in the annotations, but without a file."""
    note: str = ""
    """The reason for the state; empty if there is nothing to explain."""
    streams: tuple[str, ...] = ()
    rows: int = 0
    seconds: float = 0.0
    """Duration."""
    gaps: tuple[tuple[float, float], ...] = ()
    """Jumps of its clock: where, and by how much (seconds)."""


@dataclass(frozen=True)
class StoreStatus:
    """The progress of a store."""

    done: int
    """Committed videos."""
    rows: int
    """Number of snippets of the committed videos."""
    bytes: int
    """Size of their features and times."""
    streams: dict[str, int]
    """How many of them have each stream of the store."""
    failures: dict[str, FailedVideo]
    """Videos that failed when last tried."""
    claims: tuple[Claim, ...]
    """Videos that running processes are working on."""
    pending: dict[str, float]
    """Predicted number of snippets of the videos in the plans of recorded runs that are neither failed nor done, that
    is, have all streams that the run was to extract."""
    missing: tuple[str, ...]
    """Ids in the annotations of recorded runs that had no file."""
    rate: float | None
    """Current snippets per second; None if too few videos were committed recently."""
    videos: dict[str, VideoStatus]
    """Every video that the store or a recorded run knows, sorted by id."""

    @property
    def pending_bytes(self) -> float:
        """Predicted size of the pending videos; 0 before the first video is done."""
        return sum(self.pending.values()) * self.bytes / self.rows if self.rows else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Predicted time until no video is pending; None if the rate is unknown."""
        return sum(self.pending.values()) / self.rate if self.rate else None

    def having(self, state: VideoState) -> list[VideoStatus]:
        """The videos in a state, sorted by id."""
        return [video for video in self.videos.values() if video.state == state]


def status(store: FeatureStore) -> StoreStatus:
    """The progress of a store, from its committed, failed and claimed videos and the plans of its runs.

    Files of videos are compared by size and time where they can be reached; none is opened.
    """
    ids, runs, failures = store.ids, store.runs(), store.failures()
    claims = tuple(claim for claim in store.claims.active() if claim.id != RECIPE_CLAIM)
    rows: dict[str, float] = {video_id: count for run in runs for video_id, count in run["videos"].items()}
    missing = {video_id for run in runs for video_id in run["missing"]}.difference(ids)
    committed, size = _committed(store, ids, runs)
    videos = {video_id: VideoStatus(video_id, "missing") for video_id in missing}
    videos |= {video_id: VideoStatus(video_id, "pending") for video_id in rows} | committed
    pending = {i: rows[i] for i in sorted(rows) if videos[i].state == "pending" and i not in failures}
    for failure in failures.values():
        note = f"{failure.reason} ({failure.tries} {'try' if failure.tries == 1 else 'tries'})"
        videos[failure.id] = replace(
            videos.get(failure.id, VideoStatus(failure.id, "failed")), state="failed", note=note
        )
    for claim in claims:
        video = videos.get(claim.id, VideoStatus(claim.id, "in work"))
        videos[claim.id] = replace(video, state="in work", note=f"{claim.host}, process {claim.pid}")
    return StoreStatus(
        done=len(committed),
        rows=sum(video.rows for video in committed.values()),
        bytes=size,
        streams={stream: sum(stream in each.streams for each in committed.values()) for stream in store.streams},
        failures=failures,
        claims=claims,
        pending=pending,
        missing=tuple(sorted(missing)),
        rate=_rate(store, {i: video.rows for i, video in committed.items()}) if store.tier == "growing" else None,
        videos=dict(sorted(videos.items())),
    )


def _committed(
    store: FeatureStore, ids: Sequence[str], runs: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, VideoStatus], int]:
    """The committed videos, and the bytes of their arrays."""

    def attributes_of(video_id: str) -> dict[str, Any] | str:
        try:
            return store.attributes(video_id)
        except StoreReadError:
            raise
        except UserError as error:
            return str(error)

    sources, size = RecordedSources(runs), 0
    needed: dict[str, set[str]] = {}
    for run in runs:
        asked = _streams_of_run(run).intersection(store.streams)
        for video_id in run["videos"]:
            needed.setdefault(video_id, set()).update(asked)
    videos = {}
    for video_id, found in zip(ids, store.map(attributes_of, ids), strict=True):
        if isinstance(found, str):
            videos[video_id] = VideoStatus(video_id, "damaged", found)
            continue
        size += sum(math.prod(a["shape"]) * np.dtype(a["dtype"]).itemsize for a in found["arrays"].values())
        streams = store.streams_in(found)
        lacking = needed.get(video_id, set()).difference(streams)
        state, note = _state(video_id, found, sources, lacking, not needed or video_id in needed)
        videos[video_id] = VideoStatus(
            video_id,
            state,
            note,
            streams=streams,
            rows=found["arrays"][TIME]["shape"][0],
            seconds=float(found["duration"]),
            gaps=tuple((float(time), float(seconds)) for time, seconds in found.get("gaps", ())),
        )
    return videos, size


def _streams_of_run(run: Mapping[str, Any]) -> set[str]:
    """The streams that a run was to extract; empty if they are not recorded."""
    snippets = run["options"].get("snippets")
    return set(snippets.get("streams", ())) if isinstance(snippets, Mapping) else set()


def _state(
    video_id: str, attributes: Mapping[str, Any], sources: RecordedSources, lacking: Collection[str], is_planned: bool
) -> tuple[VideoState, str]:
    """The state of a committed video that no process is working on, and the reason."""
    source = attributes.get("source")
    changed, is_gone = sources.compare(video_id, source if isinstance(source, Mapping) else {})
    if changed:
        return "changed", changed
    if lacking:
        return "pending", f"lacks {', '.join(sorted(lacking))}"
    if not is_planned:
        return "orphan", "no recorded run extracts it"
    if is_gone:
        return "orphan", "its file is gone"
    return "done", ""


def _rate(store: FeatureStore, rows: Mapping[str, int]) -> float | None:
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


__all__ = ["StoreStatus", "Verification", "VideoState", "VideoStatus", "status", "verify"]
