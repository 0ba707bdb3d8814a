"""Videos of a plan through the networks, in this process or in several, one commit each."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any

import joblib

from ssn_feat.backbones import Backbone
from ssn_feat.errors import UserError
from ssn_feat.extraction.extract_options import ExtractOptions
from ssn_feat.extraction.extract_progress import Progress
from ssn_feat.extraction.extract_video import ExtractedVideo, extract_video
from ssn_feat.extraction.plan import Plan
from ssn_feat.extraction.recipes import load_backbones, recipe_of
from ssn_feat.extraction.worker_pools import Place, Pool, worker_pool
from ssn_feat.extraction.worker_threads import threads
from ssn_feat.store import FeatureStore, StoreWriteError

_SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True)
class Outcome:
    """What became of one video."""

    id: str
    rows: int = 0
    """Snippets committed."""
    failure: str | None = None
    """Why it could not be extracted; None where it was."""
    warnings: tuple[str, ...] = ()
    """What was odd about it."""
    elsewhere: bool = False
    """Whether another run is at work on it; nothing was done then."""


def outcomes(options: ExtractOptions, store: FeatureStore, plan: Plan, progress: Progress) -> Iterator[Outcome]:
    """The videos of the plan, extracted and committed (or recorded as failed), in the order in which they finish."""
    elsewhere: dict[str, Path] = {}
    for outcome in _outcomes(options, store, plan, plan.todo, progress):
        if outcome.elsewhere:
            elsewhere[outcome.id] = plan.todo[outcome.id]
        else:
            yield outcome
    if elsewhere:
        # Whoever was at work on them may have been killed, its workers with it: they are gone by now.
        time.sleep(2 * _SECONDS_BETWEEN_LOOKS)
        yield from _outcomes(options, store, plan, elsewhere, progress)


def _outcomes(
    options: ExtractOptions, store: FeatureStore, plan: Plan, videos: Mapping[str, Path], progress: Progress
) -> Iterator[Outcome]:
    if not options.dask and (options.jobs == 1 or len(videos) < 2):
        # Decoding and flow in one thread, the networks in another: they share the cores.
        with threads(max(1, joblib.cpu_count() // 2)):
            on_device = options.jobs == 1 or options.device[0] == "cpu"
            backbones = plan.backbones if on_device else _loaded(options, store.fingerprint, options.device[0])
            for video_id, path in videos.items():
                yield _one(options, store, backbones, video_id, path, functools.partial(progress.rows, video_id))
        return
    if not options.dask:
        options = replace(options, jobs=min(options.jobs, len(videos)))
    # Long videos first: the last one to finish decides when the run ends.
    todo = dict(sorted(videos.items(), key=lambda item: -plan.rows[item[0]]))
    for video_id in islice(plan.done, 1):
        _learn_layout(store, video_id)
    try:
        with worker_pool(options) as pool:
            for outcome in _surviving(pool, options, store, todo):
                if outcome.rows:
                    _learn_layout(store, outcome.id)
                progress.rows(outcome.id, outcome.rows)
                yield outcome
    finally:
        # Workers that died, or were killed because the run ends early, may have been in the middle of a commit.
        store.clean()


def _learn_layout(store: FeatureStore, video_id: str) -> None:
    """Hand workers a store that knows what rows look like: a store of objects is not listed for every video then."""
    with suppress(UserError):  # damage of that video: its own business
        store.learn_layout(video_id)


def _surviving(pool: Pool, options: ExtractOptions, store: FeatureStore, todo: Mapping[str, Path]) -> Iterator[Outcome]:
    """Videos in worker processes. A process that dies (a crash inside a decoder, no memory) costs its video only."""
    left = dict(todo)
    while left:
        started: list[str] = []
        try:
            for outcome in _parallel(pool, options, store, left, pool.at_once, started):
                del left[outcome.id]
                yield outcome
        except pool.deaths:
            # One dead worker ends all of them, and nobody says whose it was: each video that was under way, alone.
            for video_id in [i for i in started if i in left]:
                yield _alone(pool, options, store, video_id, left.pop(video_id))


def _alone(pool: Pool, options: ExtractOptions, store: FeatureStore, video_id: str, path: Path) -> Outcome:
    """One video with no other beside it, in a process of its own."""
    try:
        return next(_parallel(pool, options, store, {video_id: path}, 1, []))
    except pool.deaths:
        reason = "its worker process died (a crash while decoding, or not enough memory)"
        store.record_failure(video_id, reason)
        return Outcome(video_id, failure=reason)


def _parallel(
    pool: Pool, options: ExtractOptions, store: FeatureStore, todo: Mapping[str, Path], at_once: int, started: list[str]
) -> Iterator[Outcome]:
    """Outcomes of ``todo`` as they come, ``at_once`` videos at a time; ids are added to ``started`` as videos begin."""

    def tasks() -> Iterator[Any]:
        for video_id, path in list(todo.items()):
            started.append(video_id)
            yield joblib.delayed(_worker)(options, store, video_id, path, pool.place())

    parallel = joblib.Parallel(
        n_jobs=max(2, pool.at_once),  # with one, joblib would use this process
        return_as="generator_unordered",
        batch_size=1,
        pre_dispatch=at_once,
    )
    results: Iterator[Outcome] = parallel(tasks())
    return results


def _worker(options: ExtractOptions, store: FeatureStore, video_id: str, path: Path, place: Place) -> Outcome:
    """One video in a worker process."""
    if place.parent and (os.name == "posix" or os.getppid() == place.parent):  # elsewhere one may stand between them
        _end_with(place.parent)
    with threads(place.threads):
        backbones = _loaded(options, store.fingerprint, place.device(options.device))
        return _one(options, store, backbones, video_id, path, None)


@functools.cache
def _end_with(parent: int) -> None:
    """Let this process end with its parent, which may be killed: it would wait minutes for work, holding memory.

    Ctrl-C on a terminal is sent to all processes there; the parent ends its workers then, and speaks for them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    Thread(target=watch, name="watch-parent", daemon=True).start()


@functools.lru_cache(maxsize=1)
def _loaded(options: ExtractOptions, fingerprint: str, device: str) -> dict[str, Backbone]:
    """The backbones, kept for the next video of this process; loaded anew when weights changed under their name."""
    return load_backbones(options, device)


def _one(
    options: ExtractOptions,
    store: FeatureStore,
    backbones: Mapping[str, Backbone],
    video_id: str,
    path: Path,
    on_rows: Callable[[int], None] | None,
) -> Outcome:
    """Extract and commit one video, or record why not. Only a store that cannot be written raises."""
    with store.claims.hold(video_id) as claim:
        if claim is None:
            return Outcome(video_id, elsewhere=True)
        if video_id in store:  # committed since the plan was made, by another run
            return Outcome(video_id, rows=store.rows(video_id))

        def progress(rows: int) -> None:
            claim.renew()
            if on_rows is not None:
                on_rows(rows)

        try:
            video = _extracted(options, store, backbones, path, progress)
            committed = store.write(video_id, video.features, video.spans, video.info)
        except StoreWriteError:
            raise
        except Exception as error:  # whatever one video does to decoders and networks, the others go on
            reason = str(error) if isinstance(error, UserError) else _where(error)
            store.record_failure(video_id, reason)
            return Outcome(video_id, failure=reason)
    meanwhile = () if committed else ("another run committed it meanwhile; its features were kept",)
    return Outcome(video_id, rows=len(video.spans), warnings=(*_warnings(video), *meanwhile))


def _extracted(
    options: ExtractOptions,
    store: FeatureStore,
    backbones: Mapping[str, Backbone],
    path: Path,
    on_rows: Callable[[int], None],
) -> ExtractedVideo:
    """The features of one video. Raises UserError where it is incomplete and may not be."""
    snippet_options = options.snippets_for(backbones)
    store.require_recipe(recipe_of(backbones, snippet_options, options.keep_crops, options.fps))
    video = extract_video(
        path,
        backbones,
        snippet_options,
        batch=options.batch,
        keep_crops=options.keep_crops,
        fps=options.fps,
        on_rows=on_rows,
    )
    damage = video.info["damage"]
    if damage and not options.allow_incomplete:
        raise UserError(f"incomplete: {damage}; --allow-incomplete keeps what could be decoded")
    return video


def _warnings(video: ExtractedVideo) -> tuple[str, ...]:
    damage = video.info["damage"]
    return (*([f"incomplete: {damage}"] if damage else []), *video.info["warnings"])


def _where(error: Exception) -> str:
    """One line about an unforeseen exception: what, and the innermost place in this package."""
    place, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if f"{os.sep}ssn_feat{os.sep}" in file:
            place = f" ({os.path.basename(file)}:{trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{place}"
