"""The command ``verify``, which can repair a store by extracting damaged videos again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from ssn_feat.backbones import require_trusted
from ssn_feat.cli import from_record
from ssn_feat.errors import UserError
from ssn_feat.extraction.commit_video import Again
from ssn_feat.extraction.extract import extract
from ssn_feat.extraction.extract_options import ExtractOptions
from ssn_feat.extraction.recipes import snippet_options_of
from ssn_feat.progress import progress_bar
from ssn_feat.store import FeatureStore, Verification, open_store, verify
from ssn_feat.store.arrays import TIME
from ssn_feat.store.stream_recipes import restrict
from ssn_feat.terminal import printable
from ssn_feat.video import STREAMS, SnippetOptions, Stream


@dataclass(frozen=True)
class VerifyOptions:
    """Verification and repair of a feature store."""

    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """The feature store."""
    repair: bool = False
    """Extract damaged streams again with the recorded options; keep the others, and those that cannot be repaired."""
    accept_new_source: bool = False
    """Also repair videos whose files were replaced: extract all of their streams from the new files."""
    trust_modules: tuple[str, ...] = ()
    """Backbones package.module:callable that may be imported although only the store names them: their code is run."""


def verify_store(options: VerifyOptions) -> int:
    """Read every array of a feature store and compare its hash. Exit code 1 if a video is damaged."""
    store = open_store(options.store)
    if options.repair and store.tier == "growing":
        store.clean()  # an earlier repair may have been killed
    result = _print_damage(store)
    if result.damage and options.repair:
        store.require_growing()
        reasons = _repair(store, result.arrays, options)
        result = _print_damage(store, reasons)
    return 1 if result.damage else 0


def _print_damage(store: FeatureStore, reasons: Mapping[str, str] | None = None) -> Verification:
    """Verify a store and print the damage of each damaged video, and after a repair why it was not repaired."""
    with progress_bar("videos", len(store)) as advance:
        result = verify(store, advance)
    print(f"{result.videos} videos verified, {len(result.damage)} damaged", flush=True)
    for video_id, problems in result.damage.items():
        print(f"  {printable(video_id)}: {printable('; '.join(problems))}", flush=True)
        if reasons is not None:
            reason = reasons.get(video_id, "it was damaged during the repair")
            print(f"    not repaired, it stays as it was: {printable(reason)}", flush=True)
    return result


def _repair(store: FeatureStore, damage: Mapping[str, Collection[str]], options: VerifyOptions) -> dict[str, str]:
    """Extract damaged streams again, each with the options of a recorded run that extracted it.

    Returns by id why videos were not repaired. Sound streams are kept.
    """
    left = {video_id: _streams_of(store, video_id, arrays) for video_id, arrays in damage.items()}
    reasons: dict[str, str] = {}
    for run in store.runs():
        wanted = _of_run(run, left)
        if wanted:
            reasons |= _extract_again(store, run, wanted, options)
            left = {i: streams - set(wanted.get(i, ())) for i, streams in left.items() if i not in reasons}
    advice = "remove it and repeat the command that made the store (extract/run.py or extract/import_features.py)"
    return {
        **{i: f"no recorded run extracts its {', '.join(sorted(streams))}: {advice}" for i, streams in left.items()},
        **reasons,
    }


def _streams_of(store: FeatureStore, video_id: str, arrays: Collection[str]) -> set[str]:
    """The streams to extract so that damaged arrays are replaced."""
    if "" in arrays:  # what is recorded of it is damaged
        return set(store.streams)
    streams = set(arrays) - {TIME}
    # Any stream brings the times.
    return streams or set(store.streams_in(store.recorded(video_id))[:1])


def _of_run(run: Mapping[str, Any], left: Mapping[str, Collection[str]]) -> dict[str, tuple[Stream, ...]]:
    """The streams that are left to repair and that a run extracted, by id."""
    extracted = run["options"].get("snippets", {}).get("streams", SnippetOptions.streams)
    wanted = {i: tuple(s for s in extracted if s in left[i]) for i in sorted(left.keys() & run["videos"].keys())}
    return {video_id: streams for video_id, streams in wanted.items() if streams}


def _extract_again(
    store: FeatureStore, run: Mapping[str, Any], wanted: Mapping[str, tuple[Stream, ...]], options: VerifyOptions
) -> dict[str, str]:
    """Extract streams of videos with the options of a recorded run; returns by id why that failed."""
    try:
        chosen = _options_of(store, run, options.trust_modules)
        report = extract(chosen, Again(wanted, options.accept_new_source))
    except UserError as error:
        # Also a full disk: videos that were committed before are found sound.
        return dict.fromkeys(wanted, str(error))
    reasons = dict.fromkeys(wanted.keys() - report.extracted.keys(), f"its file is not in {chosen.videos}")
    reasons |= dict.fromkeys(report.elsewhere, "another run is working on it")
    return reasons | report.failures


def _options_of(store: FeatureStore, run: Mapping[str, Any], trusted: Collection[str]) -> ExtractOptions:
    """The recorded options of a run. Annotations and shard only selected its videos."""
    where = f"a recorded run in {store.path}"
    options = from_record(ExtractOptions, run["options"], where)
    options = replace(options, store=Path(store.path), annotations=None, subsets=(), shard="", name=store.name)
    # A scheduler named in an untrusted record would receive code and send code.
    options = replace(options, dask="")
    for stream in options.snippets.streams:
        require_trusted(options.backbone_of(stream), trusted, where)
    streams = [stream for stream in options.snippets.streams if stream in store.streams]  # others were removed
    flow_weights = options.snippets.flow_weights if "flow" in streams else ""

    def of_streams(entries: tuple[str, ...]) -> tuple[str, ...]:
        names = [entry.partition("=")[0] for entry in entries]
        return tuple(e for e, name in zip(entries, names, strict=True) if name not in STREAMS or name in streams)

    return replace(
        options,
        backbone=of_streams(options.backbone),
        weights=of_streams(options.weights),
        # The recipe holds values that the record leaves to defaults, which may have changed since.
        snippets=snippet_options_of(restrict(store.recipe, streams), flow_weights),
    )


__all__ = ["VerifyOptions", "verify_store"]
