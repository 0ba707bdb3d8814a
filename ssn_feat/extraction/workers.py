"""Runs the videos of a plan through the networks, in this process or in several, and commits each by itself."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any

import joblib

from ssn_feat.backbones import Backbone
from ssn_feat.errors import UserError
from ssn_feat.extraction.commit_video import Outcome, Task, extract_and_commit
from ssn_feat.extraction.extract_options import ExtractOptions
from ssn_feat.extraction.extract_progress import Progress
from ssn_feat.extraction.plan import ExtractionPlan
from ssn_feat.extraction.recipes import load_backbones
from ssn_feat.extraction.worker_pools import WorkerContext, WorkerPool, worker_pool
from ssn_feat.extraction.worker_threads import limited_threads
from ssn_feat.store import FeatureStore

_POLL_SECONDS = 0.5


def outcomes(plan: ExtractionPlan, store: FeatureStore, progress: Progress) -> Iterator[Outcome]:
    """The videos of the plan, extracted and committed (or recorded as failed), in the order in which they finish."""
    task = Task(plan.options, plan.snippets, store, plan.again)
    elsewhere: dict[str, Path] = {}
    for outcome in _outcomes(task, plan, plan.todo, progress):
        if outcome.elsewhere:
            elsewhere[outcome.id] = plan.todo[outcome.id]
        else:
            yield outcome
    if elsewhere:
        # The run that worked on them may have been killed, its workers with it: they have exited by now.
        time.sleep(2 * _POLL_SECONDS)
        yield from _outcomes(task, plan, elsewhere, progress)


def _outcomes(task: Task, plan: ExtractionPlan, videos: Mapping[str, Path], progress: Progress) -> Iterator[Outcome]:
    options, store = task.options, task.store
    if not options.dask and (options.jobs == 1 or len(videos) < 2):
        # Decoding and flow run in one thread, the networks in another: they share the cores.
        with limited_threads(max(1, joblib.cpu_count() // 2)):
            on_device = options.jobs == 1 or options.device[0] == "cpu"
            backbones = (
                plan.backbones if on_device else _cached_backbones(options, store.fingerprint, options.device[0])
            )
            for video_id, path in videos.items():
                yield extract_and_commit(task, backbones, video_id, path, functools.partial(progress.rows, video_id))
        return
    # Long videos first: the last one to finish decides when the run ends.
    todo = dict(sorted(videos.items(), key=lambda item: -plan.rows[item[0]]))
    for video_id in islice(plan.done, 1):
        _learn_layout(store, video_id)
    try:
        with worker_pool(options, len(videos)) as pool:
            for outcome in _surviving(pool, task, todo):
                if outcome.rows:
                    _learn_layout(store, outcome.id)
                progress.rows(outcome.id, outcome.rows)
                yield outcome
    finally:
        # Workers that died, or were killed because the run ends early, may have been in the middle of a commit.
        store.clean()


def _learn_layout(store: FeatureStore, video_id: str) -> None:
    """Let workers know the layout of a video's arrays, so that an object store is not listed for every video."""
    with suppress(UserError):  # damage of that video is reported elsewhere
        store.learn_layout(video_id)


def _surviving(pool: WorkerPool, task: Task, todo: Mapping[str, Path]) -> Iterator[Outcome]:
    """Videos in worker processes. A process that dies (a crash in a decoder, out of memory) costs only its video."""
    left = dict(todo)
    while left:
        started: list[str] = []
        try:
            for outcome in _parallel(pool, task, left, pool.at_once, started):
                del left[outcome.id]
                yield outcome
        except pool.deaths:
            # One dead worker ends all of them, and it is unknown which video killed it: retry each one alone.
            for video_id in [i for i in started if i in left]:
                yield _alone(pool, task, video_id, left.pop(video_id))


def _alone(pool: WorkerPool, task: Task, video_id: str, path: Path) -> Outcome:
    """One video in a worker process while no other video is in work."""
    try:
        return next(_parallel(pool, task, {video_id: path}, 1, []))
    except pool.deaths:
        reason = "its worker process died (a crash while decoding, or not enough memory)"
        if video_id not in task.again.streams:
            task.store.record_failure(video_id, reason, task.snippets.streams)
        return Outcome(video_id, failure=reason)


def _parallel(
    pool: WorkerPool, task: Task, todo: Mapping[str, Path], at_once: int, started: list[str]
) -> Iterator[Outcome]:
    """Outcomes of ``todo`` in order of completion, ``at_once`` videos at a time; appends ids to ``started``."""

    def calls() -> Iterator[Any]:
        for video_id, path in list(todo.items()):
            started.append(video_id)
            yield joblib.delayed(_run_in_worker)(task, video_id, path, pool.context())

    parallel = joblib.Parallel(
        n_jobs=max(2, pool.at_once),  # with one, joblib would use this process
        return_as="generator_unordered",
        batch_size=1,
        pre_dispatch=at_once,
    )
    results: Iterator[Outcome] = parallel(calls())
    return results


def _run_in_worker(task: Task, video_id: str, path: Path, context: WorkerContext) -> Outcome:
    """One video in a worker process."""
    # Elsewhere than on POSIX another process may stand between a worker and its parent.
    if context.parent and (os.name == "posix" or os.getppid() == context.parent):
        _exit_with(context.parent)
    with limited_threads(context.threads):
        backbones = _cached_backbones(task.options, task.store.fingerprint, context.device(task.options.device))
        return extract_and_commit(task, backbones, video_id, path, None)


@functools.cache
def _exit_with(parent: int) -> None:
    """Let this process exit with its parent, which may be killed: it would wait minutes for work, holding memory.

    A terminal sends Ctrl-C to all processes. Workers ignore it: the parent ends them and reports.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
        os._exit(1)

    Thread(target=watch, name="watch-parent", daemon=True).start()


@functools.lru_cache(maxsize=1)
def _cached_backbones(options: ExtractOptions, fingerprint: str, device: str) -> dict[str, Backbone]:
    """The backbones, kept for the next video of this process; loaded again when weights of the same name change."""
    return load_backbones(options, device)


__all__ = ["outcomes"]
