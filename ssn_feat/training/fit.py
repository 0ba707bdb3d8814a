"""Learn a head from a feature store: read everything once, then one gather per step."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from ssn_feat.errors import UserError
from ssn_feat.heads.features import stream_dims
from ssn_feat.runs.checkpoints import CHECKPOINT, EVENTS, RunFolder
from ssn_feat.runs.folders import is_run, run_folders
from ssn_feat.store import open_store
from ssn_feat.training.fit_options import FitOptions
from ssn_feat.training.loop import Measure, run_epochs, stop_requested, threads_and_seed
from ssn_feat.training.seeds import summarise_seeds
from ssn_feat.training.tensorboard_events import event_writers, require_tensorboard
from ssn_feat.training.training_state import prepare


def fit(options: FitOptions, validation: Callable[[FitOptions], Measure] | None = None) -> dict[str, Any]:
    """Learn an SSN head or an actionness head from a feature store; the run folder OUT then holds everything of it.

    ``validation``: makes of options what measures a run for ``--eval`` (see ssn_feat.training.validation).
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("training from features takes one process: start it without torchrun, or add --end-to-end")
    if options.eval and validation is None:
        raise UserError("--eval needs what measures: call ssn_feat.training.validation.fit_and_validate")
    if options.fusion == "late":
        return _fit_streams(options, validation)
    return _fit(options, validation, [options] if options.seeds > 1 else [])


def _fit(
    options: FitOptions, validation: Callable[[FitOptions], Measure] | None, outer: Sequence[FitOptions]
) -> dict[str, Any]:
    """Learn heads of one set of features; ``outer``: runs of several heads that these are part of."""
    runs = runs_of(options)
    folders = [RunFolder(run.out) for run in runs]
    saved = _held(options)
    # A run that was killed right after its last checkpoint has no summary: going on writes it.
    summarised = all((folder.path / "summary.json").exists() for folder in folders)
    if summarised and len(saved) == len(runs) and all(state["finished"] for state in saved):
        return _finished(options, folders)
    _require_same_point(options, saved, len(runs))
    measure = validation(options) if validation and options.eval else None
    if options.tensorboard:
        require_tensorboard()
    training = prepare(*runs)
    if saved:
        training.restore(saved)
    else:
        for run in (*outer, *runs):
            RunFolder(run.out).begin(run)
    before, started = training.done, time.perf_counter()
    with (
        stop_requested() as stop,
        threads_and_seed(options, training.task.device),
        event_writers([folder.path / EVENTS for folder in folders] if options.tensorboard else []) as write,
    ):
        run_epochs(training, folders, stop, measure, write)
    seconds = time.perf_counter() - started
    if not training.finished:
        print(f"interrupted in epoch {training.epoch}: add --resume to the same command to go on with {options.out}")
        raise KeyboardInterrupt
    speed = {"seconds": round(seconds, 3), "steps_per_second": round((training.done - before) / seconds, 1)}
    for folder, state in zip(folders, training.states(), strict=True):
        counts = {"head": options.head, "videos": state["videos"], "steps": training.done}
        best = {"best": state["best"]} if state["best"] else {}
        folder.summarise(counts | speed | {"final": state["log"][-1]} | best)
    return _finished(options, folders)


def _fit_streams(options: FitOptions, validation: Callable[[FitOptions], Measure] | None) -> dict[str, Any]:
    """Learn a head for each stream, in OUT/STREAM; OUT/summary.json holds what came out of all."""
    if (options.out / CHECKPOINT).exists():
        raise UserError(f"{options.out} holds a run of one head: choose another --out for one of each stream")
    # What would stop the last stream stops the first.
    stream_dims(open_store(options.store), options.streams)
    names = {stream: quote(stream, safe="") for stream in options.streams}
    own = {s: replace(options, streams=(s,), fusion="early", out=options.out / name) for s, name in names.items()}
    for run in own.values():
        _held(run)
    outer = {stream: [options, run] if run.seeds > 1 else [options] for stream, run in own.items()}
    summaries = {stream: _fit(run, validation, outer[stream]) for stream, run in own.items()}
    result: dict[str, Any] = {"runs": names, "streams": summaries}
    for kind in ("final", "mean", "spread"):
        values = {
            f"{stream} {term}": value
            for stream, summary in summaries.items()
            for term, value in summary.get(kind, {}).items()
            if term not in ("epoch", "lr")
        }
        result |= {kind: values} if values else {}
    RunFolder(options.out).summarise(result)
    return result


def _held(options: FitOptions) -> list[dict[str, Any]]:
    """The checkpoints to go on from, of those heads that have one. Raises UserError where OUT holds other runs."""
    runs = runs_of(options)
    if len(runs) > 1 and (options.out / CHECKPOINT).exists():
        raise UserError(f"{options.out} holds a run of one seed: choose another --out for {options.seeds} seeds")
    if len(runs) == 1 and is_run(options.out) and run_folders(options.out) != [options.out]:
        raise UserError(f"{options.out} holds runs of several heads: choose another --out for a single one")
    return [state for run in runs if (state := RunFolder(run.out).held(run)) is not None]


def runs_of(options: FitOptions) -> list[FitOptions]:
    """The options of each head: those of a run of its own in OUT/seed-N where there are several seeds."""
    if options.seeds == 1:
        return [options]
    seeds = range(options.seed, options.seed + options.seeds)
    return [replace(options, seed=seed, seeds=1, out=options.out / f"seed-{seed}") for seed in seeds]


def _finished(options: FitOptions, folders: Sequence[RunFolder]) -> dict[str, Any]:
    """The summary of the finished run; of several seeds what they have in common and how far they lie apart."""
    if options.seeds == 1:
        return folders[0].finished(options.quiet)
    return summarise_seeds(options, [folder.finished(quiet=True) for folder in folders])


def _require_same_point(options: FitOptions, saved: Sequence[dict[str, Any]], runs: int) -> None:
    """Raises UserError where some seeds are further than others, as when the program was killed between two files."""
    if saved and (len(saved) < runs or len({(state["epoch"], state["step"]) for state in saved}) > 1):
        raise UserError(
            f"the seeds in {options.out} stand at different points: finish each on its own with "
            f"python train/fit.py {options.out}/seed-N/config.yaml --resume, or start all anew with --overwrite"
        )


__all__ = ["FitOptions", "Measure", "fit", "runs_of"]
