"""The training loop: epochs, measurements, checkpoints, progress display, and Ctrl-C."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import torch
from torch import Tensor

from ssn_feat.progress import progress_bar
from ssn_feat.runs.checkpoints import Run, run_of
from ssn_feat.runs.folders import BEST, RunFolder, format_terms
from ssn_feat.signals import on_signal
from ssn_feat.threads import torch_threads
from ssn_feat.training.steps import Steps
from ssn_feat.training.task import TaskT
from ssn_feat.training.training_state import LoopOptions, Training

# Gives the metrics of a run by name; the first metric decides which epoch is the best.
Measure = Callable[[Run], Mapping[str, float]]
# Least number of seconds between two checkpoints at the ends of epochs.
_CHECKPOINT_SECONDS = 20.0
# Seconds between two updates of the progress display.
_DISPLAY_SECONDS = 0.5


def run_epochs(
    training: Training[TaskT],
    steps: Steps,
    folders: Sequence[RunFolder],
    stop: Callable[[], bool],
    measure: Measure | None = None,
    write_events: Callable[[Sequence[Mapping[str, Any]]], None] = lambda lines: None,
    save_every: float | None = None,
    check: Callable[[Run], None] | None = None,
) -> None:
    """Train until the last epoch is complete or ``stop()`` is true; write a checkpoint of each head in both cases.

    ``steps``: those of this training, closed at the end; ``measure``: gives the metrics of ``--eval``;
    ``write_events``: takes the last line of each log; ``check``: called with each head after the first and the last
    epoch, raises UserError for a head that cannot be used. Checkpoints are written at the ends of epochs and, with
    ``save_every`` (seconds), also within them. Raises UserError, naming all terms, where a loss is not finite.
    """
    task = training.task
    saved_at = time.perf_counter()
    total = training.options.optimisation.epochs * task.steps
    with (
        closing(steps),
        _display(f"training {training.kind}", total, training.options.quiet) as show,
    ):
        task.head.train()
        while not training.finished:
            steps.begin()
            if not training.step:
                training.sums = torch.zeros(len(task.terms), len(folders), dtype=torch.float64)
            # A checkpoint holds no gradients: stop only where none are accumulated.
            while training.step < task.steps and not (training.step == training.group.start and stop()):
                terms = steps.step()
                training.step += 1
                show(training.done, task.terms, terms.mean(dim=1))
                due = save_every is not None and time.perf_counter() - saved_at > save_every
                if due and training.step == training.group.start:
                    steps.synchronise()
                    _save(training, folders)
                    saved_at = time.perf_counter()
            steps.synchronise()
            if training.step < task.steps:
                break
            _end_epoch(training)
            if check is not None and (training.epoch == 1 or training.finished):
                for state in training.states():
                    check(run_of(state))
            if measure is not None and _due(training):
                _measure(training, folders, measure)
            for folder, log in zip(folders, training.logs, strict=True):
                folder.log(log)
            write_events([log[-1] for log in training.logs])
            if time.perf_counter() - saved_at > _CHECKPOINT_SECONDS:
                _save(training, folders)
                saved_at = time.perf_counter()
        _save(training, folders)


def _save(training: Training[TaskT], folders: Sequence[RunFolder]) -> None:
    for folder, state in zip(folders, training.states(), strict=True):
        folder.save(state)


def _due(training: Training[TaskT]) -> bool:
    """Whether to measure after the epoch that just ended: every n-th epoch and the last."""
    return training.finished or training.epoch % training.options.eval_every == 0


def _measure(training: Training[TaskT], folders: Sequence[RunFolder], measure: Measure) -> None:
    """Add the metrics of each head to the last line of its log; save the head where the first metric is the best."""
    for at, (folder, state) in enumerate(zip(folders, training.states(), strict=True)):
        metrics = measure(run_of(state, trusted=(training.kind,)))
        training.logs[at][-1] |= metrics
        name, value = next(iter(metrics.items()))
        if value > training.best[at].get(name, -math.inf):
            training.best[at] = {"epoch": training.epoch - 1, **metrics}
            folder.save(state | {"best": training.best[at]}, BEST)


def _end_epoch(training: Training[TaskT]) -> None:
    means = training.sums / training.step
    line = {"epoch": training.epoch, "lr": float(training.optimiser.param_groups[0]["lr"])}
    for log, values in zip(training.logs, means.T.tolist(), strict=True):
        log.append(line | dict(zip(training.task.terms, values, strict=True)))
    training.epoch += 1
    training.step = 0


@contextmanager
def _display(what: str, total: int, quiet: bool) -> Iterator[Callable[[int, tuple[str, ...], Tensor], None]]:
    """A function that updates the progress bar a few times a second."""
    if quiet:
        yield lambda done, names, values: None
        return
    with progress_bar(what, total) as advance:
        shown, last, mean = 0, time.perf_counter(), torch.zeros(0)

        def show(done: int, names: tuple[str, ...], values: Tensor) -> None:
            nonlocal shown, last, mean
            mean = values if len(mean) == 0 else mean.lerp(values, 0.02)
            now = time.perf_counter()
            if now - last > _DISPLAY_SECONDS or done == total:
                terms = format_terms(dict(zip(names, mean.tolist(), strict=True)))
                speed = (done - shown) / (now - last)
                # A step from pixels may take several seconds.
                advance(done - shown, f"{speed:.{0 if speed >= 10 else 2}f} steps/s, {terms}")
                shown, last = done, now

        yield show


@contextmanager
def threads_and_seed(options: LoopOptions, device: torch.device) -> Iterator[None]:
    """Set torch's threads and, on a GPU, whose dropout draws from the default generator, the seed; restore both at the
    end."""
    gpus = [] if device.type == "cpu" else [device]
    # With more than one thread, one prepares inputs and the others are torch's.
    with torch_threads(max(1, options.threads - 1)), torch.random.fork_rng(devices=gpus):
        if gpus:
            torch.manual_seed(options.seed)
        yield


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """A function that tells whether Ctrl-C was pressed; pressing it again ends the program immediately.

    The first Ctrl-C raises no exception, since that could leave weights half updated.
    """
    pressed = False

    def note(number: int, frame: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    with on_signal(signal.SIGINT, note):
        yield lambda: pressed


__all__ = ["Measure", "run_epochs", "stop_requested", "threads_and_seed"]
