"""What is done with a store beside filling it: telling how far it is, verifying and repairing it, packing it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from ssn_feat.backbones import require_trusted
from ssn_feat.cli import from_dict
from ssn_feat.errors import UserError
from ssn_feat.extraction.extract import extract
from ssn_feat.extraction.extract_options import ExtractOptions
from ssn_feat.extraction.extract_progress import about
from ssn_feat.extraction.recipes import snippet_options_of
from ssn_feat.progress import progress_bar
from ssn_feat.store import Compression, FeatureStore, StoreStatus, open_store, pack, status, verify
from ssn_feat.store.claims import Claim
from ssn_feat.terminal import printable

_Store = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]


@dataclass(frozen=True)
class StatusOptions:
    """How far a feature store is."""

    store: _Store
    """The feature store."""
    ids: bool = False
    """List the ids of pending and missing videos, too."""


def print_status(options: StatusOptions) -> StoreStatus:
    """How far a feature store is: videos done, failed (why, how often), in work and pending; sizes and time left."""
    store = open_store(options.store)
    found = status(store)
    print(describe_status(store, found, options.ids))
    return found


def describe_status(store: FeatureStore, found: StoreStatus, ids: bool = False) -> str:
    """The lines that ``extract/status.py`` prints."""
    lines = [
        f"store    {store.path} ({printable(store.name)}, {store.tier}), recipe {store.fingerprint[:12]}",
        f"done     {found.done} videos, {found.rows:,} snippets, {found.bytes / 1e6:,.1f} MB",
    ]
    if found.failures:
        lines.append(f"failed   {len(found.failures)}")
        lines += [
            f"  {printable(f.id)}: {printable(f.reason)} ({f.tries} {'try' if f.tries == 1 else 'tries'})"
            for f in found.failures.values()
        ]
    if found.claims:
        lines.append(f"in work  {', '.join(map(_claim, found.claims))}")
    if found.pending:
        rows = sum(found.pending.values())
        lines.append(f"pending  {len(found.pending)}, about {rows:,.0f} snippets, {found.pending_bytes / 1e6:,.1f} MB")
        if found.seconds_left is not None and found.rate is not None:
            lines[-1] += f"; {about(found.seconds_left)} left at {found.rate:,.1f} snippets/s"
        lines += [f"  {printable(video_id)}" for video_id in found.pending if ids]
    if found.missing:
        lines.append(f"missing  {len(found.missing)} that annotations name have no file")
        lines += [f"  {printable(video_id)}" for video_id in found.missing if ids]
    return "\n".join(lines)


def _claim(claim: Claim) -> str:
    return f"{printable(claim.id)} ({printable(claim.host)}, process {claim.pid})"


@dataclass(frozen=True)
class VerifyOptions:
    """Whether a feature store is whole."""

    store: _Store
    """The feature store."""
    repair: bool = False
    """Extract damaged videos again, with the options on record; nothing else is touched."""
    trust_modules: tuple[str, ...] = ()
    """Backbones package.module:callable to import although the store alone names them: their code is run."""


def verify_store(options: VerifyOptions) -> int:
    """Read every array of a feature store, compare its hash, name what is damaged. Exit code 1 where something is."""
    store = open_store(options.store)
    damage = _damage(store)
    if damage and options.repair:
        store.require_growing()
        _repair(store, damage, options.trust_modules)
        damage = _damage(store)
    return 1 if damage else 0


def _damage(store: FeatureStore) -> Mapping[str, Sequence[str]]:
    """What is damaged, by id; printed, too."""
    with progress_bar("videos", len(store)) as advance:
        result = verify(store, advance)
    print(f"{result.videos} videos verified, {len(result.damage)} damaged", flush=True)
    for video_id, found in result.damage.items():
        print(f"  {printable(video_id)}: {printable('; '.join(found))}", flush=True)
    return result.damage


def _repair(store: FeatureStore, damage: Collection[str], trusted: Collection[str]) -> None:
    """Extract damaged videos again, each as the run on record that made it would."""
    left = set(damage)
    for run in store.runs():
        ids = sorted(left & run["videos"].keys())
        if not ids:
            continue
        # Without annotations and shard, which only said which videos to extract.
        options = from_dict(ExtractOptions, run["options"], f"a run on record in {store.path}")
        options = replace(options, store=Path(store.path), annotations=None, subsets=(), shard="", name=store.name)
        # A scheduler that somebody else's record names is sent code, and sends some.
        options = replace(options, dask="")
        for stream in options.snippets.streams:
            require_trusted(options.backbone_of(stream), trusted, f"a run on record in {store.path}")
        # The recipe holds what the record left open, or gave a meaning that it no longer has.
        snippets = snippet_options_of(store.recipe, options.snippets.flow_weights)
        options = replace(options, snippets=replace(snippets, streams=options.snippets.streams))
        extract(options, again=ids)
        left -= set(ids)
    if left:
        raise UserError(
            f"no run on record extracts {', '.join(sorted(left))}: remove them from {store.path}/videos and run the "
            "command again that made the store (extract/run.py, or extract/import_features.py of features of others)"
        )


@dataclass(frozen=True)
class PackOptions:
    """A finished store as a few large arrays."""

    store: _Store
    """The feature store to pack; it is left as it is."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The packed store to make, NAME.zarr or a URL."""
    compress: Compression | None = None
    """How its arrays are kept: none or zstd; default: as in STORE. Does not change the features."""


def pack_store(options: PackOptions) -> None:
    """Copy a feature store into a packed one: read-only, a few large files, every hash checked on the way."""
    store = open_store(options.store)
    with progress_bar("videos", len(store)) as advance:
        packed = pack(store, options.out, advance, options.compress)
    found = status(packed)
    print(f"{packed.path}: {found.done} videos, {found.rows:,} snippets, {found.bytes / 1e6:,.1f} MB")
    left = _unfinished(status(store))
    if left:
        print(f"note: {store.path} is not finished: {left}")


def _unfinished(found: StoreStatus) -> str:
    counts: Sequence[tuple[int, str]] = (
        (len(found.pending), "pending"),
        (len(found.failures), "failed"),
        (len(found.missing), "missing"),
    )
    return ", ".join(f"{count} videos {what}" for count, what in counts if count)
