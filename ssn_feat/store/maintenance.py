"""The commands ``status`` and ``pack``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ssn_feat.progress import about, progress_bar
from ssn_feat.store.arrays import Compression
from ssn_feat.store.claims import Claim
from ssn_feat.store.feature_store import FeatureStore
from ssn_feat.store.inspection import StoreStatus, VideoStatus, status
from ssn_feat.store.opening import open_store
from ssn_feat.store.packed import pack
from ssn_feat.terminal import counted, printable

_LISTED = 20
_WORST_GAPS = 3


@dataclass(frozen=True)
class StatusOptions:
    """The progress of a feature store."""

    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """The feature store."""
    ids: bool = False
    """Also list the ids of pending and missing videos."""
    videos: bool = False
    """Also list every video: its state, streams, rows, seconds and gaps of its clock."""


def print_status(options: StatusOptions) -> StoreStatus:
    """Show the progress of a feature store: videos done, changed, failed, in work and pending, sizes, and time left."""
    store = open_store(options.store)
    state = status(store)
    print(describe_status(store, state, options.ids, options.videos))
    return state


def describe_status(store: FeatureStore, state: StoreStatus, ids: bool = False, videos: bool = False) -> str:
    """The lines that :func:`print_status` prints."""
    lines = [
        f"store    {store.path} ({printable(store.name)}, {store.tier}), recipe {store.fingerprint[:12]}",
        f"done     {_totals(state)}",
        *_describe_streams(state),
        *_describe_states(store, state),
        *_describe_gaps(state),
    ]
    if state.failures:
        lines.append(f"failed   {len(state.failures)}")
        lines += [f"  {printable(video.id)}: {printable(video.note)}" for video in state.having("failed")]
    if state.claims:
        lines.append(f"in work  {', '.join(map(_describe_claim, state.claims))}")
    if state.pending:
        rows = sum(state.pending.values())
        lines.append(f"pending  {len(state.pending)}, about {rows:,.0f} snippets, {state.pending_bytes / 1e6:,.1f} MB")
        if state.seconds_left is not None and state.rate is not None:
            lines[-1] += f"; {about(state.seconds_left)} left at {state.rate:,.1f} snippets/s"
        lines += [f"  {printable(video_id)}" for video_id in state.pending if ids]
    if state.missing:
        verb = "has" if len(state.missing) == 1 else "have"
        lines.append(f"missing  {counted(len(state.missing), 'video')} of the annotations {verb} no file")
        lines += [f"  {printable(video_id)}" for video_id in state.missing if ids]
    if videos:
        lines += [f"videos   {len(state.videos)}", *map(_describe_video, state.videos.values())]
    return "\n".join(lines)


def _describe_streams(state: StoreStatus) -> Iterator[str]:
    if any(count < state.done for count in state.streams.values()):
        counts = ", ".join(f"{printable(stream)} of {count}" for stream, count in state.streams.items())
        yield f"streams  {counts} of {counted(state.done, 'video')}"


def _describe_states(store: FeatureStore, state: StoreStatus) -> Iterator[str]:
    """Lines about committed videos that need attention."""
    advice = {
        "changed": "extract/run.py compares their content, and with --update extracts them again",
        "orphan": f"python extract/remove.py {store.path} ID removes one",
        "damaged": f"python extract/verify.py {store.path} --repair extracts them again",
    }
    if store.tier == "packed":
        advice = dict.fromkeys(advice, "change the store that this one was packed from, and pack that one again")
    for name, what in advice.items():
        found = state.having(name)  # type: ignore[arg-type]
        if found:
            yield f"{name:<8} {len(found)}; {what}"
            yield from (f"  {printable(video.id)}: {printable(video.note)}" for video in found[:_LISTED])
        if len(found) > _LISTED:
            yield f"  ... ({len(found)}); --videos lists all"


def _describe_gaps(state: StoreStatus) -> Iterator[str]:
    """Lines about jumps of the clock, the largest ones first."""
    gaps = [(video.id, *gap) for video in state.videos.values() for gap in video.gaps]
    if gaps:
        jumps = counted(len(gaps), "jump")
        yield f"gaps     {jumps} of the clock in {counted(len({video_id for video_id, _, _ in gaps}), 'video')}"
        worst = sorted(gaps, key=lambda gap: -abs(gap[2]))
        yield from (f"  {printable(video_id)}: {_describe_gap(gap)}" for video_id, *gap in worst[:_WORST_GAPS])
        if len(gaps) > _WORST_GAPS:
            yield f"  ... ({len(gaps)}); --videos counts those of each video"


def _describe_gap(gap: Sequence[float]) -> str:
    time, seconds = gap
    return f"{seconds:+,.2f} s after {time:,.2f} s"


def _describe_video(video: VideoStatus) -> str:
    """One line of ``--videos``."""
    parts = []
    if video.streams:
        parts.append(f"{' '.join(map(printable, video.streams))}, {video.rows:,} rows, {video.seconds:,.1f} s")
    if video.gaps:
        worst = max(video.gaps, key=lambda gap: abs(gap[1]))
        parts.append(f"{counted(len(video.gaps), 'gap')}, the largest {_describe_gap(worst)}")
    if video.note:
        parts.append(printable(video.note))
    return f"  {video.state:<8} {printable(video.id)}" + (f": {'; '.join(parts)}" if parts else "")


def _totals(state: StoreStatus) -> str:
    return f"{counted(state.done, 'video')}, {state.rows:,} snippets, {state.bytes / 1e6:,.1f} MB"


def _describe_claim(claim: Claim) -> str:
    return f"{printable(claim.id)} ({printable(claim.host)}, process {claim.pid})"


@dataclass(frozen=True)
class PackOptions:
    """A finished store as a few large arrays."""

    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """The feature store to pack; it is not changed."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The packed store to create, NAME.zarr or a URL."""
    compress: Compression | None = None
    """Compression of its arrays, none or zstd; default: as in STORE. Does not change the features."""


def pack_store(options: PackOptions) -> None:
    """Copy a feature store into a packed one: read-only, a few large files, every hash checked while copying."""
    store = open_store(options.store)
    with progress_bar("videos", len(store)) as advance:
        packed = pack(store, options.out, advance, options.compress)
    print(f"{packed.path}: {_totals(status(packed))}")
    left_out = sorted(set(store.streams) - set(packed.streams))
    if left_out:
        print(f"note: not packed, since some videos lack it: stream {', '.join(left_out)}")
    unfinished = _describe_unfinished(status(store))
    if unfinished:
        print(f"note: {store.path} is not finished: {unfinished}")


def _describe_unfinished(state: StoreStatus) -> str:
    counts = {"pending": len(state.pending), "failed": len(state.failures), "missing": len(state.missing)}
    return ", ".join(f"{counted(count, 'video')} {kind}" for kind, count in counts.items() if count)


__all__ = ["PackOptions", "StatusOptions", "describe_status", "pack_store", "print_status"]
