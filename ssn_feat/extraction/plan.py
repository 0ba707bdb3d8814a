"""What a run is going to do: which videos, which recipe, how much."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ssn_feat.backbones import Backbone
from ssn_feat.cli import to_dict
from ssn_feat.errors import UserError
from ssn_feat.extraction.extract_options import ExtractOptions
from ssn_feat.extraction.forecast import predicted_rate
from ssn_feat.extraction.recipes import load_backbones, recipe_of
from ssn_feat.extraction.video_files import Coverage
from ssn_feat.progress import about
from ssn_feat.store import FeatureStore, location, open_store, store_exists
from ssn_feat.terminal import printable
from ssn_feat.video import SnippetOptions, expected_snippets, open_source
from ssn_feat.video.raft import load_raft

# Probing takes milliseconds a video: of more videos than this only so many, evenly spread, are looked at beforehand.
_PROBED = 200
_BYTES_A_VIDEO = 6 * 4096  # small files of metadata, each of which takes a block of the file system
_LISTED = 20
_WORTH_ASKING = 500  # snippets, below which a forecast takes longer than it is worth
_CROPS = {"center": 1, "three": 3, "ten": 10}


@dataclass(frozen=True)
class Plan:
    """What a run is going to do."""

    coverage: Coverage
    backbones: dict[str, Backbone]
    """Per stream, loaded."""
    recipe: dict[str, Any]
    done: frozenset[str]
    """Ids of wanted videos that are committed already."""
    todo: dict[str, Path]
    """Videos to extract, by id."""
    rows: dict[str, float]
    """Predicted snippets of each of them; videos whose header says nothing count as the mean of the others."""
    failed_before: int
    """How many of them failed in an earlier run."""
    rate: float | None = None
    """Predicted snippets a second of the run; None where unknown, or where there is too little to do to ask."""

    @property
    def bytes(self) -> int:
        """Predicted size of what will be written."""
        crops = _CROPS[self.recipe["snippets"]["crops"]] if self.recipe["keep_crops"] else 1
        width = sum(stream["feature_dim"] for stream in self.recipe["streams"].values()) * 2 * crops + 16
        return round(sum(self.rows.values()) * width) + len(self.todo) * _BYTES_A_VIDEO


def make_plan(options: ExtractOptions, found: Coverage, again: Collection[str] = ()) -> Plan:
    """What is to be done, after loading the networks; ``again`` as in :func:`ssn_feat.extraction.extract`.

    Raises UserError where weights do not fit and where the store is there and holds features of another recipe.
    """
    found = _part(found, options)
    if again:
        found = replace(found, videos={i: path for i, path in found.videos.items() if i in again})
    backbones = load_backbones(options, None if options.jobs == 1 and not options.dask else "cpu")
    snippet_options = options.snippets_for(backbones)
    if "flow" in snippet_options.streams and snippet_options.flow_method == "raft":
        load_raft(Path(snippet_options.flow_weights))  # a file that is none would fail every video
    recipe = recipe_of(backbones, snippet_options, options.keep_crops, options.fps)
    done: frozenset[str] = frozenset()
    failed_before = 0
    if options.resume or store_exists(options.store):
        store = open_store(options.store)
        store.require_recipe(recipe)
        done = frozenset(store.ids) & found.videos.keys() - set(again)
        failed_before = len(store.failures().keys() & found.videos.keys())
    todo = {video_id: path for video_id, path in found.videos.items() if video_id not in done}
    rows = _predicted_rows(todo, snippet_options, options.fps)
    rate = predicted_rate(options, backbones, snippet_options, todo) if sum(rows.values()) > _WORTH_ASKING else None
    return Plan(found, backbones, recipe, done, todo, rows, failed_before, rate)


def _part(found: Coverage, options: ExtractOptions) -> Coverage:
    """The videos of this run's shard. They are dealt out by the order of ids: whatever is done, parts never overlap."""
    index, parts = options.part
    return replace(found, videos=dict(list(found.videos.items())[index::parts]))


def _predicted_rows(videos: Mapping[str, Path], options: SnippetOptions, fps: float | None) -> dict[str, float]:
    known: dict[str, float] = {}
    for video_id in list(videos)[:: max(1, len(videos) // _PROBED)]:
        try:
            with closing(open_source(videos[video_id], fps, options.decoder)) as source:
                expected = expected_snippets(source.probe, options)
        except UserError:  # it will be reported when its turn comes
            continue
        if expected:
            known[video_id] = float(expected)
    mean = sum(known.values()) / len(known) if known else 0.0
    return {video_id: known.get(video_id, mean) for video_id in videos}


def describe(plan: Plan, options: ExtractOptions) -> str:
    """The lines that are printed before anything is done."""
    found, snippet_options = plan.coverage, plan.recipe["snippets"]
    lines = [f"videos   {len(found.videos)} in {options.videos}"]
    if found.expected is not None:
        lines[0] += f", {found.expected} named by {options.annotations}, {len(found.missing)} missing"
        if found.missing:
            lines.append(f"missing  {_listing(found.missing)}")
        if found.others:
            lines.append(f"         {len(found.others)} other videos there are left out")
    lines.append(f"store    {location(options.store)}: {len(plan.done)} done, {len(plan.todo)} to extract")
    if plan.failed_before:
        lines[-1] += f", of which {plan.failed_before} failed before"
    flow = f", flow by {snippet_options['flow_method']}" if "flow_method" in snippet_options else ""
    dims = ", ".join(f"{name} ({stream['feature_dim']})" for name, stream in plan.recipe["streams"].items())
    every = f"{snippet_options['stride']} frames{_rate(plan)}"
    lines.append(
        f"features {dims} of {' '.join(options.backbone)}, a snippet every {every}{flow}, "
        f"{snippet_options['crops']} crop{'s' * (snippet_options['crops'] != 'center')} of {_crops(plan)} pixels"
    )
    lines.append(f"size     about {round(sum(plan.rows.values())):,} snippets, {plan.bytes / 1e6:,.1f} MB")
    if plan.rate is not None:
        left = about(sum(plan.rows.values()) / plan.rate)
        lines.append(f"time     {left} at {plan.rate:,.1f} snippets/s, as a first few suggest")
    where = f"the workers of {options.dask}" if options.dask else ""
    where = where or f"{options.jobs} process{'es' if options.jobs > 1 else ''}"
    lines.append(f"with     {where} on {' '.join(options.device)}, {options.precision}")
    return "\n".join(lines)


def _rate(plan: Plan) -> str:
    nominal = plan.recipe["snippets"].get("nominal_fps")
    return f" at {nominal:g} a second" if nominal else ""


def _crops(plan: Plan) -> str:
    snippets = plan.recipe["snippets"]
    return f"{snippets['crop']}" + "".join(f" ({entry})" for entry in snippets.get("stream_crops", ()))


def _listing(ids: tuple[str, ...]) -> str:
    return ", ".join(map(printable, ids[:_LISTED])) + (f", ... ({len(ids)})" if len(ids) > _LISTED else "")


def run_record(plan: Plan, options: ExtractOptions, store: FeatureStore) -> dict[str, Any]:
    """What the store keeps of a run: which videos it means to do and how, so that one can be extracted again alike.

    Left out is what changes neither which videos nor which features: two such runs share a record.
    """
    chosen = replace(
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
    )
    before = {video_id: rows for run in store.runs() for video_id, rows in run["videos"].items()}
    videos = {video_id: plan.rows.get(video_id, before.get(video_id, 0.0)) for video_id in plan.coverage.videos}
    return {"videos": videos, "missing": list(plan.coverage.missing), "options": to_dict(chosen)}


def _absolute(weights: str) -> str:
    """``rgb=FILE`` or ``FILE`` with the whole path of the file, where it is one."""
    name, equals, value = weights.rpartition("=")
    return f"{name}{equals}{Path(value).absolute()}" if Path(value).is_file() else weights
