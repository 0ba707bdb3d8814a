"""Learn a head from a feature store: read all features once, then gather the rows of each step from memory."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from ssn_feat.errors import UserError
from ssn_feat.heads.features import stream_dims
from ssn_feat.runs.checkpoints import CHECKPOINT
from ssn_feat.runs.folders import EVENTS, RunFolder, is_run, run_folders, terms_of
from ssn_feat.store import open_store
from ssn_feat.training.fit_options import TrainingOptions
from ssn_feat.training.loop import run_epochs, stop_requested, threads_and_seed
from ssn_feat.training.prepare import prepare, require_same_data
from ssn_feat.training.seeds import summarise_seeds
from ssn_feat.training.sequence_options import SequenceOptions
from ssn_feat.training.steps import steps_of
from ssn_feat.training.tensorboard_events import event_writers, require_tensorboard
from ssn_feat.training.usable_scores import usable_scores
from ssn_feat.training.validation import validation_measure


def fit(options: TrainingOptions) -> dict[str, Any]:
    """Learn a head from a feature store; write it and its log to the run folder OUT.

    Returns the summary of the run. Raises UserError for input that is missing or does not fit together, and where OUT
    holds a run that is neither resumed nor overwritten.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "training from features uses one process: start it without torchrun, or choose fit.py end-to-end"
        )
    if options.fusion == "late":
        return _fit_streams(options)
    return _fit(options, [options] if options.seeds > 1 else [])


def _fit(options: TrainingOptions, outer: Sequence[TrainingOptions]) -> dict[str, Any]:
    """Learn heads from one set of features; ``outer``: runs of several heads that these are part of."""
    if options.seeds > 1 and isinstance(options, SequenceOptions):  # whose steps have different shapes for each seed
        return _fit_in_turn(options, outer)
    runs = runs_of(options)
    folders = [RunFolder(run.out) for run in runs]
    saved = _checkpoints_to_resume(options)
    # A run that was killed right after its last checkpoint has no summary: resuming it writes the summary.
    summarised = all((folder.path / "summary.json").exists() for folder in folders)
    if summarised and len(saved) == len(runs) and all(state["finished"] for state in saved):
        require_same_data(options, saved)
        return _finished(options, folders)
    _require_same_point(options, saved, len(runs))
    measure = validation_measure(options) if options.eval else None
    if options.tensorboard:
        require_tensorboard()
    training = prepare(*runs)
    if saved:
        training.restore(saved)
    else:
        for run in (*outer, *runs):
            RunFolder(run.out).create(run)
    before, started = training.done, time.perf_counter()
    with (
        stop_requested() as stop,
        threads_and_seed(options, training.task.device),
        event_writers([folder.path / EVENTS for folder in folders] if options.tensorboard else []) as write,
    ):
        check = usable_scores(options) if options.head == "ssn" else None
        run_epochs(training, steps_of(training), folders, stop, measure, write, check=check)
    seconds = time.perf_counter() - started
    if not training.finished:
        print(f"interrupted in epoch {training.epoch}: the same command with --resume continues {options.out}")
        raise KeyboardInterrupt
    speed = {"seconds": round(seconds, 3), "steps_per_second": round((training.done - before) / seconds, 1)}
    for folder, state in zip(folders, training.states(), strict=True):
        counts = {"head": training.kind, "videos": state["videos"], "steps": training.done}
        best = {"best": state["best"]} if state["best"] else {}
        folder.summarise(counts | speed | {"final": state["log"][-1]} | best)
    return _finished(options, folders)


def _fit_in_turn(options: TrainingOptions, outer: Sequence[TrainingOptions]) -> dict[str, Any]:
    """Learn the head of each seed, one after the other."""
    _checkpoints_to_resume(options)  # of all seeds before the first is trained
    return summarise_seeds(options, [_fit(run, outer) for run in runs_of(options)])


def _fit_streams(options: TrainingOptions) -> dict[str, Any]:
    """Learn a head for each stream in OUT/STREAM; write the summaries of all of them to OUT/summary.json."""
    if (options.out / CHECKPOINT).exists():
        raise UserError(f"{options.out} holds a run of one head: choose another --out for a head of each stream")
    # Check every stream before the first is trained.
    stream_dims(open_store(options.store), options.streams)
    runs = stream_runs(options)
    for run in runs.values():
        _checkpoints_to_resume(run)
    outer = {stream: [options, run] if run.seeds > 1 else [options] for stream, run in runs.items()}
    summaries = {stream: _fit(run, outer[stream]) for stream, run in runs.items()}
    result: dict[str, Any] = {"runs": {stream: run.out.name for stream, run in runs.items()}, "streams": summaries}
    for kind in ("final", "mean", "spread"):
        values = {
            f"{stream} {term}": value
            for stream, summary in summaries.items()
            for term, value in terms_of(summary.get(kind, {})).items()
        }
        result |= {kind: values} if values else {}
    RunFolder(options.out).summarise(result)
    return result


def stream_runs(options: TrainingOptions) -> dict[str, TrainingOptions]:
    """The options of the head of each stream with late fusion; its run is in OUT/STREAM."""
    return {
        stream: replace(options, streams=(stream,), fusion="early", out=options.out / quote(stream, safe=""))
        for stream in options.streams
    }


def _checkpoints_to_resume(options: TrainingOptions) -> list[dict[str, Any]]:
    """The checkpoints of those heads that have one. Raises UserError if OUT holds other runs."""
    runs = runs_of(options)
    if len(runs) > 1 and (options.out / CHECKPOINT).exists():
        raise UserError(f"{options.out} holds a run of one seed: choose another --out for {options.seeds} seeds")
    if len(runs) == 1 and is_run(options.out) and run_folders(options.out) != [options.out]:
        raise UserError(f"{options.out} holds runs of several heads: choose another --out for a single one")
    return [state for run in runs if (state := RunFolder(run.out).checkpoint_to_resume(run)) is not None]


def runs_of(options: TrainingOptions) -> list[TrainingOptions]:
    """The options of each head; with several seeds, each head has its run folder OUT/seed-N."""
    if options.seeds == 1:
        return [options]
    seeds = range(options.seed, options.seed + options.seeds)
    return [replace(options, seed=seed, seeds=1, out=options.out / f"seed-{seed}") for seed in seeds]


def _finished(options: TrainingOptions, folders: Sequence[RunFolder]) -> dict[str, Any]:
    """The summary of the finished run; of several seeds, the mean and spread of their results."""
    if options.seeds == 1:
        return folders[0].read_summary(options.quiet)
    return summarise_seeds(options, [folder.read_summary(quiet=True) for folder in folders])


def _require_same_point(options: TrainingOptions, saved: Sequence[dict[str, Any]], runs: int) -> None:
    """Raises UserError if some seeds are further than others: the program was killed between two checkpoints."""
    if saved and (len(saved) < runs or len({(state["epoch"], state["step"]) for state in saved}) > 1):
        raise UserError(
            f"the seeds in {options.out} are at different steps: finish each separately with "
            f"python train/fit.py head {options.head} {options.out}/seed-N/config.yaml --resume, or start again "
            "with --overwrite"
        )


__all__ = ["fit", "runs_of", "stream_runs"]
