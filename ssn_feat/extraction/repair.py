"""The command ``verify``, which can repair a store by extracting damaged videos again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from ssn_feat.backbones import require_trusted
from ssn_feat.cli import from_record
from ssn_feat.errors import UserError
from ssn_feat.extraction.extract import extract
from ssn_feat.extraction.extract_options import ExtractOptions
from ssn_feat.extraction.recipes import snippet_options_of
from ssn_feat.progress import progress_bar
from ssn_feat.store import FeatureStore, open_store, verify
from ssn_feat.terminal import printable


@dataclass(frozen=True)
class VerifyOptions:
    """Verification and repair of a feature store."""

    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """The feature store."""
    repair: bool = False
    """Extract damaged videos again, with the recorded options; other videos are not changed."""
    trust_modules: tuple[str, ...] = ()
    """Backbones package.module:callable that may be imported although only the store names them: their code is run."""


def verify_store(options: VerifyOptions) -> int:
    """Read every array of a feature store and compare its hash. Exit code 1 if a video is damaged."""
    store = open_store(options.store)
    damage = _print_damage(store)
    if damage and options.repair:
        store.require_growing()
        _repair(store, damage, options.trust_modules)
        damage = _print_damage(store)
    return 1 if damage else 0


def _print_damage(store: FeatureStore) -> Mapping[str, Sequence[str]]:
    """The damage of each damaged video, by id; also printed."""
    with progress_bar("videos", len(store)) as advance:
        result = verify(store, advance)
    print(f"{result.videos} videos verified, {len(result.damage)} damaged", flush=True)
    for video_id, problems in result.damage.items():
        print(f"  {printable(video_id)}: {printable('; '.join(problems))}", flush=True)
    return result.damage


def _repair(store: FeatureStore, damage: Collection[str], trusted: Collection[str]) -> None:
    """Extract damaged videos again, each with the options of the recorded run that extracted it."""
    left = set(damage)
    for run in store.runs():
        ids = sorted(left & run["videos"].keys())
        if not ids:
            continue
        # Annotations and shard only selected the videos.
        options = from_record(ExtractOptions, run["options"], f"a recorded run in {store.path}")
        options = replace(options, store=Path(store.path), annotations=None, subsets=(), shard="", name=store.name)
        # A scheduler named in an untrusted record would receive code and send code.
        options = replace(options, dask="")
        for stream in options.snippets.streams:
            require_trusted(options.backbone_of(stream), trusted, f"a recorded run in {store.path}")
        # The recipe holds values that the record leaves to defaults, which may have changed since.
        snippets = snippet_options_of(store.recipe, options.snippets.flow_weights)
        options = replace(options, snippets=replace(snippets, streams=options.snippets.streams))
        extract(options, again=ids)
        left -= set(ids)
    if left:
        raise UserError(
            f"no recorded run extracts {', '.join(sorted(left))}: remove them from {store.path}/videos and repeat the "
            "command that made the store (extract/run.py or extract/import_features.py)"
        )


__all__ = ["VerifyOptions", "verify_store"]
