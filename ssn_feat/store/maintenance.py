"""The commands ``status`` and ``pack``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ssn_feat.progress import about, progress_bar
from ssn_feat.store.arrays import Compression
from ssn_feat.store.claims import Claim
from ssn_feat.store.feature_store import FeatureStore
from ssn_feat.store.inspection import StoreStatus, status
from ssn_feat.store.opening import open_store
from ssn_feat.store.packed import pack
from ssn_feat.terminal import printable


@dataclass(frozen=True)
class StatusOptions:
    """The progress of a feature store."""

    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """The feature store."""
    ids: bool = False
    """Also list the ids of pending and missing videos."""


def print_status(options: StatusOptions) -> StoreStatus:
    """Show the progress of a feature store: videos done, failed, in work and pending, sizes, and time left."""
    store = open_store(options.store)
    state = status(store)
    print(describe_status(store, state, options.ids))
    return state


def describe_status(store: FeatureStore, state: StoreStatus, ids: bool = False) -> str:
    """The lines that :func:`print_status` prints."""
    lines = [
        f"store    {store.path} ({printable(store.name)}, {store.tier}), recipe {store.fingerprint[:12]}",
        f"done     {_totals(state)}",
    ]
    if state.failures:
        lines.append(f"failed   {len(state.failures)}")
        lines += [
            f"  {printable(f.id)}: {printable(f.reason)} ({f.tries} {'try' if f.tries == 1 else 'tries'})"
            for f in state.failures.values()
        ]
    if state.claims:
        lines.append(f"in work  {', '.join(map(_describe_claim, state.claims))}")
    if state.pending:
        rows = sum(state.pending.values())
        lines.append(f"pending  {len(state.pending)}, about {rows:,.0f} snippets, {state.pending_bytes / 1e6:,.1f} MB")
        if state.seconds_left is not None and state.rate is not None:
            lines[-1] += f"; {about(state.seconds_left)} left at {state.rate:,.1f} snippets/s"
        lines += [f"  {printable(video_id)}" for video_id in state.pending if ids]
    if state.missing:
        lines.append(f"missing  {len(state.missing)} videos of the annotations have no file")
        lines += [f"  {printable(video_id)}" for video_id in state.missing if ids]
    return "\n".join(lines)


def _totals(state: StoreStatus) -> str:
    return f"{state.done} videos, {state.rows:,} snippets, {state.bytes / 1e6:,.1f} MB"


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
    unfinished = _describe_unfinished(status(store))
    if unfinished:
        print(f"note: {store.path} is not finished: {unfinished}")


def _describe_unfinished(state: StoreStatus) -> str:
    counts = {"pending": len(state.pending), "failed": len(state.failures), "missing": len(state.missing)}
    return ", ".join(f"{count} videos {kind}" for kind, count in counts.items() if count)


__all__ = ["PackOptions", "StatusOptions", "describe_status", "pack_store", "print_status"]
