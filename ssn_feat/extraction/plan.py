"""The plan of a run: which videos, which recipe, how many snippets."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ssn_feat.backbones import Backbone
from ssn_feat.cli import to_dict
from ssn_feat.errors import UserError
from ssn_feat.extraction.changed_sources import ChangedSources, compare_sources
from ssn_feat.extraction.commit_video import Again, missing_streams
from ssn_feat.extraction.extract_options import ExtractOptions
from ssn_feat.extraction.extract_video import resolve_snippets
from ssn_feat.extraction.forecast import predicted_rate
from ssn_feat.extraction.recipes import VERSION, load_backbones, recipe_of
from ssn_feat.extraction.video_files import VideoFiles
from ssn_feat.progress import about
from ssn_feat.store import FeatureStore, StoreReadError, location, open_store, store_exists
from ssn_feat.terminal import counted, listing, printable
from ssn_feat.video import ResolvedSnippets, Stream, expected_snippets, open_source
from ssn_feat.video.find_videos import left_out_line
from ssn_feat.video.raft import load_raft

# Probing takes milliseconds per video: about this many videos, evenly spaced, are probed for the plan.
_PROBED = 200
_BYTES_PER_VIDEO = 6 * 4096  # small metadata files, each of which takes a block of the file system
_LISTED = 20
_FORECAST_FROM = 500  # snippets; with fewer a forecast costs more time than it is worth
_CROPS = {"center": 1, "three": 3, "ten": 10}


@dataclass(frozen=True)
class ExtractionPlan:
    """What a run is going to do. Every default is filled in, so that workers choose nothing."""

    options: ExtractOptions
    snippets: ResolvedSnippets
    files: VideoFiles
    """The videos of this run."""
    backbones: dict[str, Backbone]
    """Per stream, loaded."""
    recipe: dict[str, Any]
    done: frozenset[str]
    """Ids of videos that are committed already."""
    todo: dict[str, Path]
    """Videos to extract, by id."""
    streams: dict[str, tuple[Stream, ...]]
    """The streams to extract of each of them."""
    rows: dict[str, float]
    """Predicted snippets of each video to extract; the mean of the others for a video whose header does not tell."""
    failed_before: int
    """How many of them failed in an earlier run."""
    extended: int
    """How many of them are in the store and lack some of the streams."""
    again: Again
    """Committed videos to extract again; see :func:`ssn_feat.extraction.extract`."""
    sources: ChangedSources
    """Committed videos that have another file now."""
    rate: float | None = None
    """Predicted snippets per second; None where unknown, or where there are too few snippets to measure it."""

    @property
    def bytes(self) -> int:
        """Predicted size of the new features in the store."""
        crops = _CROPS[self.snippets.crops] if self.options.keep_crops else 1
        widths = {name: int(stream["feature_dim"]) * 2 * crops for name, stream in self.recipe["streams"].items()}
        sizes = (rows * (16 + sum(widths[s] for s in self.streams[i])) for i, rows in self.rows.items())
        return round(sum(sizes)) + len(self.todo) * _BYTES_PER_VIDEO


def make_plan(options: ExtractOptions, files: VideoFiles, again: Again | None = None) -> ExtractionPlan:
    """Load the networks and find out what is to be done; ``again`` as in :func:`ssn_feat.extraction.extract`.

    Raises UserError if weights do not fit or if the store exists with another recipe.
    """
    files = _shard_of(files, options)
    again = again or Again({})
    if again.streams:
        files = replace(files, videos={i: path for i, path in files.videos.items() if i in again.streams})
    backbones = load_backbones(options, None if options.jobs == 1 and not options.dask else "cpu")
    snippets = resolve_snippets(options.snippets, backbones, options.device[0])
    if "flow" in snippets.streams and snippets.flow_method == "raft":
        load_raft(Path(snippets.flow_weights))  # weights that cannot be loaded would fail every video
    recipe = recipe_of(backbones, snippets, options.keep_crops, options.fps)
    streams = {video_id: again.streams.get(video_id) or snippets.streams for video_id in files.videos}
    failed_before = extended = 0
    sources = ChangedSources()
    if options.resume or store_exists(options.store):
        store = open_store(options.store)
        if store.recipe.get("extraction", VERSION) != VERSION:
            raise UserError(
                f"the store {store.path} was extracted with another decoder and clock (times counted from the "
                "first frame) and cannot be extended: extract into a new store"
            )
        store.require_recipe(recipe)
        lacking, recorded = _committed(store, files.videos.keys() - again.streams.keys(), snippets.streams)
        sources = compare_sources(store, files.videos, recorded, options.quiet)
        streams |= lacking
        if options.update and sources.changed:
            again = Again(dict.fromkeys(sources.changed, snippets.streams), accept_new_source=True)
            streams |= again.streams
        extended = sum(bool(lacking[video_id]) for video_id in lacking.keys() - again.streams.keys())
        failed_before = len(store.failures().keys() & files.videos.keys())
    todo = {video_id: path for video_id, path in files.videos.items() if streams[video_id]}
    done = frozenset(files.videos.keys() - todo.keys())
    rows = _predicted_rows(todo, snippets, options)
    rate = predicted_rate(options, backbones, snippets, todo) if sum(rows.values()) > _FORECAST_FROM else None
    streams = {video_id: streams[video_id] for video_id in todo}
    return ExtractionPlan(
        options,
        snippets,
        files,
        backbones,
        recipe,
        done,
        todo,
        streams,
        rows,
        failed_before,
        extended,
        again,
        sources,
        rate,
    )


def _committed(
    store: FeatureStore, wanted: Collection[str], streams: tuple[Stream, ...]
) -> tuple[dict[str, tuple[Stream, ...]], dict[str, Mapping[str, Any]]]:
    """Which of the streams each committed video lacks, and what is recorded of its file, by id."""
    lacking: dict[str, tuple[Stream, ...]] = {}
    sources: dict[str, Mapping[str, Any]] = {}

    def look(video_id: str) -> tuple[tuple[Stream, ...], Any]:
        try:
            attributes = store.recorded(video_id)
            return missing_streams(store, attributes, streams), attributes.get("source")
        except StoreReadError:
            raise
        except UserError:  # a damaged video is left to verify --repair
            return (), None

    stored = [video_id for video_id in store.ids if video_id in wanted]
    for video_id, (missing, source) in zip(stored, store.map(look, stored), strict=True):
        lacking[video_id] = missing
        if isinstance(source, Mapping):
            sources[video_id] = source
    return lacking, sources


def _shard_of(files: VideoFiles, options: ExtractOptions) -> VideoFiles:
    """The videos of this run's shard. They are split by the order of ids, so that shards never overlap."""
    index, parts = options.part
    return replace(files, videos=dict(list(files.videos.items())[index::parts]))


def _predicted_rows(
    videos: Mapping[str, Path], snippets: ResolvedSnippets, options: ExtractOptions
) -> dict[str, float]:
    known: dict[str, float] = {}
    for video_id in list(videos)[:: max(1, len(videos) // _PROBED)]:
        try:
            source = open_source(
                videos[video_id],
                options.fps,
                stream=snippets.video_stream,
                deinterlace=snippets.deinterlace == "auto",
                untimed_fps=snippets.nominal_fps,
                names=options.names,
            )
            with closing(source):
                expected = expected_snippets(source.probe, snippets)
        except UserError:  # reported when the video is extracted
            continue
        if expected:
            known[video_id] = float(expected)
    mean = sum(known.values()) / len(known) if known else 0.0
    return {video_id: known.get(video_id, mean) for video_id in videos}


def describe_plan(plan: ExtractionPlan) -> str:
    """The lines that are printed before anything is done."""
    options, files, snippets = plan.options, plan.files, plan.snippets
    lines = [f"videos   {len(files.videos)} in {options.videos}"]
    if files.expected is not None:
        lines[0] += f", {files.expected} named by {options.annotations}, {len(files.missing)} missing"
        if files.missing:
            lines.append(f"missing  {listing(files.missing)}")
        if files.others:
            verb = "is" if len(files.others) == 1 else "are"
            lines.append(f"         {counted(len(files.others), 'video')} not named by the annotations {verb} left out")
    if files.left_out:
        lines.append(f"         {printable(left_out_line(files.left_out))}")
    lines.append(f"store    {location(options.store)}: {len(plan.done)} done, {len(plan.todo)} to extract")
    if plan.failed_before:
        lines[-1] += f", of which {plan.failed_before} failed before"
    if plan.extended:
        lines.append(f"         for {plan.extended} of these, only the streams that they lack")
    lines += _describe_changed(plan)
    dims = ", ".join(f"{name} ({stream['feature_dim']})" for name, stream in plan.recipe["streams"].items())
    every = f"{snippets.stride} frames" + (f" at {snippets.nominal_fps:g} fps" if snippets.nominal_fps else "")
    flow = f", flow by {snippets.flow_method}" if "flow" in snippets.streams else ""
    crop = f"{snippets.crops} crop{'s' * (snippets.crops != 'center')} of {snippets.crop} pixels"
    other_crops = "".join(f" ({entry})" for entry in snippets.stream_crops)
    lines.append(f"features {dims} of {' '.join(options.backbone)}, a snippet every {every}{flow}, {crop}{other_crops}")
    lines.append(f"size     about {round(sum(plan.rows.values())):,} snippets, {plan.bytes / 1e6:,.1f} MB")
    if plan.rate is not None:
        left = about(sum(plan.rows.values()) / plan.rate)
        lines.append(f"time     {left} at {plan.rate:,.1f} snippets/s (estimated)")
    where = f"the workers of {options.dask}" if options.dask else ""
    where = where or f"{options.jobs} process{'es' if options.jobs > 1 else ''}"
    lines.append(f"with     {where} on {' '.join(options.device)}, {options.precision}")
    return "\n".join(lines)


def _describe_changed(plan: ExtractionPlan) -> Iterator[str]:
    """Lines about committed videos that have another file now."""
    changed = plan.sources.changed
    if changed:
        what = "extracted again" if plan.options.update else "--update extracts changed videos again"
        yield f"changed  {counted(len(changed), 'video')} since extraction: {what}"
        yield from (f"  {printable(video_id)}: {reason}" for video_id, reason in list(changed.items())[:_LISTED])
        if len(changed) > _LISTED:
            yield f"  ... ({len(changed)})"


def run_record(plan: ExtractionPlan, store: FeatureStore) -> dict[str, Any]:
    """What the store records of a run: its videos and options, so that a video can be extracted again alike.

    Options that change neither the videos nor the features are reset, so that runs that differ only in them share a
    record.
    """
    options = plan.options
    recorded = replace(
        options,
        videos=options.videos.absolute(),
        weights=tuple(_absolute(entry) for entry in options.weights),
        snippets=replace(options.snippets, flow_weights=_absolute(options.snippets.flow_weights)),
        store=Path(),
        compress=None,
        batch=0,
        jobs=0,
        dask="",
        device=("auto",),
        resume=False,
        quiet=False,
    )
    plain = to_dict(recorded)
    del plain["update"]  # records of versions before this option stay the same
    runs, files = store.runs(), plan.files.videos
    before = {video_id: rows for run in runs for video_id, rows in run["videos"].items()}
    verified = {video_id: found for run in runs for video_id, found in run.get("verified", {}).items()}
    verified |= plan.sources.verified
    return {
        "videos": {video_id: plan.rows.get(video_id, before.get(video_id, 0.0)) for video_id in files},
        "missing": list(plan.files.missing),
        "options": plain,
        "paths": {video_id: str(path.absolute()) for video_id, path in files.items()},
        "verified": {video_id: found for video_id, found in verified.items() if video_id in files},
    }


def _absolute(weights: str) -> str:
    """``rgb=FILE`` or ``FILE`` with the absolute path if the file exists."""
    name, equals, value = weights.rpartition("=")
    return f"{name}{equals}{Path(value).absolute()}" if Path(value).is_file() else weights


__all__ = ["ExtractionPlan", "describe_plan", "make_plan", "run_record"]
