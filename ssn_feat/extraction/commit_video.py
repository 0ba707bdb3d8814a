"""Extracts one video and commits it: a new video, streams that a stored one lacks, or a damaged one again."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ssn_feat.backbones import Backbone
from ssn_feat.errors import UserError
from ssn_feat.extraction.extract_options import ExtractOptions
from ssn_feat.extraction.extract_video import ExtractedVideo, extract_video
from ssn_feat.extraction.recipes import recipe_of
from ssn_feat.store import FeatureStore, StoreWriteError
from ssn_feat.store.claims import HeldClaim
from ssn_feat.video import ResolvedSnippets, Stream


@dataclass(frozen=True)
class Outcome:
    """The result of one video."""

    id: str
    rows: int = 0
    """Snippets committed."""
    failure: str | None = None
    """Why it could not be extracted; None on success."""
    warnings: tuple[str, ...] = ()
    """What a user should know about it, one line each."""
    elsewhere: bool = False
    """Whether another run is working on it; this run did nothing then."""


@dataclass(frozen=True)
class Again:
    """Committed videos to extract again and replace. What cannot be extracted stays as it is."""

    streams: Mapping[str, tuple[Stream, ...]]
    """The streams to extract of each video, by id."""
    accept_new_source: bool = False
    """Whether to replace all streams of a video whose file is not the one that it was extracted from. If not, such a
    video fails."""


@dataclass(frozen=True)
class Task:
    """Everything that a process needs to extract any video of a plan."""

    options: ExtractOptions
    snippets: ResolvedSnippets
    store: FeatureStore
    again: Again = field(default_factory=lambda: Again({}))

    def extract(
        self,
        backbones: Mapping[str, Backbone],
        path: Path,
        streams: Collection[str],
        on_rows: Callable[[int], None] | None,
    ) -> ExtractedVideo:
        """Features of some streams of one video. Raises UserError if it is incomplete and that is not allowed."""
        options, cut = self.options, only_streams(self.snippets, streams)
        chosen: dict[str, Backbone] = {stream: backbones[stream] for stream in cut.streams}
        # A worker on another machine may have another decoder, and weights may have changed since the plan was made.
        self.store.require_recipe(recipe_of(chosen, cut, options.keep_crops, options.fps))
        video = extract_video(
            path,
            chosen,
            cut,
            batch=options.batch,
            keep_crops=options.keep_crops,
            fps=options.fps,
            names=options.names,
            on_rows=on_rows,
        )
        damage = video.info["damage"]
        if damage and not options.allow_incomplete:
            raise UserError(f"incomplete: {damage}; --allow-incomplete keeps what could be decoded")
        return video


def only_streams(snippets: ResolvedSnippets, streams: Collection[str]) -> ResolvedSnippets:
    """The options for some of the streams, which get the same inputs as beside the others."""
    kept = tuple(stream for stream in snippets.streams if stream in streams)
    crops = tuple(entry for entry in snippets.stream_crops if entry.partition("=")[0] in kept)
    return replace(snippets, streams=kept, stream_crops=crops)


def missing_streams(
    store: FeatureStore, attributes: Mapping[str, Any], streams: Sequence[Stream]
) -> tuple[Stream, ...]:
    """The streams that a committed video with these attributes lacks or that have another recipe."""
    held = set(store.streams_in(attributes)) - store.foreign_streams(attributes).keys()
    return tuple(stream for stream in streams if stream not in held)


def extract_and_commit(
    task: Task,
    backbones: Mapping[str, Backbone],
    video_id: str,
    path: Path,
    on_rows: Callable[[int], None] | None,
) -> Outcome:
    """Extract and commit one video, or record why not. Raises only if the store cannot be written."""
    store = task.store
    with store.claims.hold(video_id) as claim:
        if claim is None:
            return Outcome(video_id, elsewhere=True)

        def progress(rows: int) -> None:
            claim.renew()
            if on_rows is not None:
                on_rows(rows)

        streams: Collection[str] = task.snippets.streams
        try:
            if video_id in task.again.streams:
                return _extract_again(task, backbones, video_id, path, claim, progress)
            if video_id not in store:
                video = task.extract(backbones, path, streams, progress)
                committed = store.write(video_id, video.features, video.spans, video.info)
                return _outcome(video_id, video, committed)
            # Some streams, or all, may have been committed since the plan was made.
            streams = missing_streams(store, store.recorded(video_id), task.snippets.streams)
            if not streams:
                return Outcome(video_id, rows=store.rows(video_id))
            video = task.extract(backbones, path, streams, progress)
            attributes = store.recorded(video_id)
            everything = " ".join(sorted({*store.streams_in(attributes), *task.snippets.streams}))
            _require_same_source(attributes, video, f"--update --streams {everything} extracts all of them again")
            return _commit_change(store, video_id, attributes, video, claim)
        except StoreWriteError:
            raise
        except Exception as error:  # an error in a decoder or network must not stop the other videos
            reason = str(error) if isinstance(error, UserError) else _describe_error(error)
            if video_id not in task.again.streams:
                store.record_failure(video_id, reason, streams)
            return Outcome(video_id, failure=reason)


def _extract_again(
    task: Task,
    backbones: Mapping[str, Backbone],
    video_id: str,
    path: Path,
    claim: HeldClaim,
    progress: Callable[[int], None],
) -> Outcome:
    """Replace streams of a committed video, or all of it if what is recorded about it is damaged."""
    store, streams = task.store, task.again.streams[video_id]
    video = task.extract(backbones, path, streams, progress)
    try:
        attributes = store.recorded(video_id)
    except UserError:
        store.replace_video(video_id, video.features, video.spans, video.info, claim)
        return _outcome(video_id, video)
    if _source_of(attributes) == _source_of(video.info) or not _source_of(attributes):
        return _commit_change(store, video_id, attributes, video, claim)
    if not task.again.accept_new_source:
        _require_same_source(attributes, video, "--accept-new-source extracts all of its streams from the new file")
    held = {*store.streams_in(attributes), *streams}
    if held - backbones.keys():
        other = ", ".join(sorted(held - backbones.keys()))
        raise UserError(
            f"its file is another one than before, so its stream {other} must be extracted in the same run: add it to "
            "--streams"
        )
    if held - set(streams):
        video = task.extract(backbones, path, held, progress)
    store.replace_video(video_id, video.features, video.spans, video.info, claim)
    return _outcome(video_id, video)


def _commit_change(
    store: FeatureStore, video_id: str, attributes: Mapping[str, Any], video: ExtractedVideo, claim: HeldClaim
) -> Outcome:
    """Commit streams of a stored video beside those that it keeps, or instead of all of them."""
    if set(store.streams_in(attributes)) <= video.features.keys():  # the snippets may be others, too
        store.replace_video(video_id, video.features, video.spans, video.info, claim)
    else:
        store.add_streams(video_id, video.features, video.spans, claim)
    return _outcome(video_id, video)


def _source_of(info: Mapping[str, Any]) -> str:
    """The sha256 of the file of a video; empty if it is not recorded."""
    source = info.get("source")
    return str(source.get("sha256", "")) if isinstance(source, Mapping) else ""


def _require_same_source(attributes: Mapping[str, Any], video: ExtractedVideo, advice: str) -> None:
    before, now = _source_of(attributes), _source_of(video.info)
    if before and before != now:
        raise UserError(
            f"its file {video.info['source']['name']} is not the one that its features were extracted from (sha256 "
            f"{now[:12]}, recorded is {before[:12]}); {advice}"
        )


def _outcome(video_id: str, video: ExtractedVideo, committed: bool = True) -> Outcome:
    damage = video.info["damage"]
    warnings = (*([f"incomplete: {damage}"] if damage else []), *video.info["warnings"])
    meanwhile = () if committed else ("another run committed it meanwhile; its features were kept",)
    return Outcome(video_id, rows=len(video.spans), warnings=(*warnings, *meanwhile))


def _describe_error(error: Exception) -> str:
    """One line about an unexpected exception: its text and the innermost line of this package."""
    line, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if f"{os.sep}ssn_feat{os.sep}" in file:
            line = f" ({os.path.basename(file)}:{trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{line}"


__all__ = ["Again", "Outcome", "Task", "extract_and_commit", "missing_streams", "only_streams"]
