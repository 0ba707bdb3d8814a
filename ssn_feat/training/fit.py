"""Learn a head from a feature store: read everything once, then one gather per step."""

from __future__ import annotations

import hashlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssn_feat.cli import to_dict
from ssn_feat.errors import UserError
from ssn_feat.heads.actionness import ActionnessHead
from ssn_feat.heads.ssn import SSNHead
from ssn_feat.progress import progress_bar
from ssn_feat.training.checkpoints import RunFolder, describe, describe_head
from ssn_feat.training.data import TrainingData, read_data
from ssn_feat.training.optimisation import make_optimiser, rate, set_rate
from ssn_feat.training.options import FitOptions
from ssn_feat.training.pools import make_pools
from ssn_feat.training.tasks import ActionnessTask, Plan, SSNTask, Task, rows_inside

# Seconds between checkpoints of a running training; each is written at the end of an epoch.
_CHECKPOINT_SECONDS = 20.0
# Seconds between two updates of the progress display.
_DISPLAY_SECONDS = 0.5


@dataclass
class Training:
    """A training in progress: what is learned, how far it is, and what never changes but belongs into a checkpoint."""

    task: Task
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    options: FitOptions
    facts: dict[str, Any]
    epoch: int = 0
    step: int = 0
    sums: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    log: list[dict[str, Any]] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.epoch >= self.options.optimisation.epochs

    @property
    def done(self) -> int:
        """Steps done, over all epochs."""
        return self.epoch * self.task.steps + self.step

    def state(self) -> dict[str, Any]:
        """Everything that a checkpoint holds."""
        return {
            **self.facts,
            "model": self.task.head.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums,
            "log": self.log,
            "finished": self.finished,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint. Raises UserError where it is of other data."""
        for name, what in (("data", "annotations or proposals"), ("store", "store")):
            if saved[name] != self.facts[name]:
                raise UserError(f"cannot resume {self.options.out}: its {what} changed; --overwrite starts anew")
        self.task.head.load_state_dict(saved["model"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.generator.set_state(saved["generator"])
        self.epoch, self.step, self.sums, self.log = saved["epoch"], saved["step"], saved["sums"], saved["log"]


def fit(options: FitOptions) -> dict[str, Any]:
    """Learn an SSN head or an actionness head from a feature store; the run folder OUT then holds everything of it."""
    folder = RunFolder(options.out)
    saved = folder.held(options)
    if saved is not None and saved["finished"]:
        return folder.finished(options.quiet)
    training = prepare(options)
    if saved is None:
        folder.begin(options)
    else:
        training.restore(saved)
    before, started = training.done, time.perf_counter()
    with _stop_requested() as stop, _machine(options, training.task.device):
        run_epochs(training, folder, stop)
    seconds = time.perf_counter() - started
    if not training.finished:
        print(f"interrupted in epoch {training.epoch}: add --resume to the same command to go on with {options.out}")
        raise KeyboardInterrupt
    folder.summarise(
        {
            "head": options.head,
            "videos": training.facts["videos"],
            "steps": training.done,
            "seconds": round(seconds, 3),
            "steps_per_second": round((training.done - before) / seconds, 1),
            "final": training.log[-1],
        }
    )
    return folder.finished(options.quiet)


def run_epochs(training: Training, folder: RunFolder, stop: Callable[[], bool]) -> None:
    """Train to the last epoch or until ``stop()`` says so; leaves a checkpoint either way.

    Raises UserError, naming each term, once a loss is not finite.
    """
    task, schedule = training.task, training.options.optimisation
    saved_at = time.perf_counter()
    total = schedule.epochs * task.steps
    with _display(f"training {training.options.head}", total, training.options.quiet) as show:
        task.head.train()
        while not training.finished:
            plan = task.plan(training.epoch)
            if not training.step:
                training.sums = torch.zeros(len(task.terms), dtype=torch.float64)
            while training.step < task.steps and not stop():
                set_rate(training.optimiser, rate(schedule, training.done, task.steps))
                terms = train_step(training, plan)
                training.step += 1
                show(training.done, task.terms, terms)
            if training.step < task.steps:
                break
            _end_epoch(training)
            folder.log(training.log)
            if time.perf_counter() - saved_at > _CHECKPOINT_SECONDS:
                folder.save(training.state())
                saved_at = time.perf_counter()
        folder.save(training.state())


def train_step(training: Training, plan: Plan) -> Tensor:
    """One step of gradient descent: the task's terms, float32. Raises UserError on a loss that is not finite."""
    task = training.task
    losses = task.losses(plan, training.step, training.generator)
    training.optimiser.zero_grad(set_to_none=True)
    losses[0].backward()
    values = torch.stack([loss.detach() for loss in losses]).cpu()
    if not math.isfinite(values[0]):
        each = ", ".join(f"{name} {value:g}" for name, value in zip(task.terms, values.tolist(), strict=True))
        raise UserError(
            f"the loss is not finite in epoch {training.epoch}, step {training.step}: {each}; "
            f"lower --lr (it is {training.options.optimisation.lr:g}), add --warmup-steps, or look at the features"
        )
    training.optimiser.step()
    training.sums += values
    return values


def _end_epoch(training: Training) -> None:
    means = training.sums / training.step
    line = {"epoch": training.epoch, "lr": training.optimiser.param_groups[0]["lr"]}
    training.log.append(line | dict(zip(training.task.terms, means.tolist(), strict=True)))
    training.epoch += 1
    training.step = 0


@contextmanager
def _display(what: str, total: int, quiet: bool) -> Iterator[Callable[[int, tuple[str, ...], Tensor], None]]:
    """A function that shows how far the training is, a few times a second."""
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
                terms = describe(dict(zip(names, mean.tolist(), strict=True)))
                advance(done - shown, f"{terms}, {(done - shown) / (now - last):.0f} steps/s")
                shown, last = done, now

        yield show


@contextmanager
def _machine(options: FitOptions, device: torch.device) -> Iterator[None]:
    """Threads of a step and, on a GPU, whose dropout has no generator of its own, the seed; both undone at the end."""
    threads = torch.get_num_threads()
    gpus = [] if device.type == "cpu" else [device]
    torch.set_num_threads(options.threads)
    try:
        with torch.random.fork_rng(devices=gpus):
            if gpus:
                torch.manual_seed(options.seed)
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _stop_requested() -> Iterator[Callable[[], bool]]:
    """Says whether Ctrl-C was pressed; a second one ends the program at once.

    An exception in the middle of a step would leave weights half updated.
    """
    pressed = False

    def note(number: int, frame: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not the main thread: no signal arrives here
        yield lambda: False
        return
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


def prepare(options: FitOptions) -> Training:
    """Read all data and build what is to be trained. Raises UserError for whatever does not fit together."""
    data = read_data(options)
    generator = torch.Generator().manual_seed(options.seed)
    task, digest, reg_stats = (_ssn_task if options.head == "ssn" else _actionness_task)(options, data, generator)
    facts = {
        "head": describe_head(task.head),
        "labels": list(data.labels),
        "streams": list(options.streams),
        "reg_stats": reg_stats,
        "standardisation": None if data.standardisation is None else vars(data.standardisation),
        "store": {"name": data.store.name, "recipe": data.store.recipe, "fingerprint": data.store.fingerprint},
        "config": to_dict(options),
        "videos": len(data.table.ids),
        "data": digest,
    }
    return Training(task, make_optimiser(task.head, options.optimisation), generator, options, facts)


def _ssn_task(options: FitOptions, data: TrainingData, generator: torch.Generator) -> tuple[Task, str, Tensor]:
    table, schedule = data.table, options.optimisation
    candidates = data.candidates(options.random_windows, options.seed)
    pools = make_pools(candidates, options.pools, options.groups)
    head = SSNHead(table.feature_dim, len(data.labels), options.ssn, generator).to(table.rows.device)
    draws = (schedule.batch_videos, schedule.epoch_multiplier, options.seed)
    task = SSNTask(head, table, candidates, pools, options.groups, options.losses, options.augmentation, *draws)
    return task, _digest(candidates.intervals, candidates.labels), torch.from_numpy(pools.target_stats)


def _actionness_task(options: FitOptions, data: TrainingData, generator: torch.Generator) -> tuple[Task, str, None]:
    table, schedule = data.table, options.optimisation
    inside = rows_inside(data.dataset, table)
    head = ActionnessHead(table.feature_dim, options.ssn.dropout, generator).to(table.rows.device)
    draws = (schedule.batch_videos, schedule.epoch_multiplier, options.seed)
    return ActionnessTask(head, table, inside, options.actionness, *draws), _digest(inside), None


def _digest(*arrays: NDArray[Any]) -> str:
    """Tells whether a resumed run sees the same data."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


__all__ = ["FitOptions", "Training", "fit", "prepare", "run_epochs", "train_step"]
