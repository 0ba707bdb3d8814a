"""Learn a head from a feature store: read everything once, then one gather per step."""

from __future__ import annotations

import hashlib
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
from ssn_feat.training.checkpoints import BEST, CHECKPOINT, EVENTS, Run, RunFolder, describe, describe_head, run_of
from ssn_feat.training.data import TrainingData, read_data
from ssn_feat.training.events import event_writers, require_tensorboard
from ssn_feat.training.optimisation import make_optimiser, rate, set_rate
from ssn_feat.training.options import FitOptions
from ssn_feat.training.pools import make_pools
from ssn_feat.training.seeds import SeedsTask, part_of, stack_parts, summarise_seeds
from ssn_feat.training.tasks import ActionnessTask, Plan, SSNTask, Task, rows_inside

# What --eval finds of a run: metrics by name, the first of which decides what is best.
Measure = Callable[[Run], Mapping[str, float]]
# Seconds between checkpoints of a running training; each is written at the end of an epoch.
_CHECKPOINT_SECONDS = 20.0
# Seconds between two updates of the progress display.
_DISPLAY_SECONDS = 0.5


@dataclass
class Training:
    """A training in progress, of one head or of several that differ in their seed.

    ``facts``: for each head what never changes but belongs into its checkpoint; ``generators``: what decides the
    dropout of each; ``sums``: float64 ``(terms, heads)`` over the steps of the epoch; ``logs``, ``best``: lines of each
    head's log and its best measurement; ``average``: with the option ``ema`` the averaged weights by name, else None.
    """

    task: Task
    optimiser: torch.optim.Optimizer
    generators: tuple[torch.Generator, ...]
    options: FitOptions
    facts: tuple[dict[str, Any], ...]
    logs: list[list[dict[str, Any]]]
    best: list[dict[str, float]]
    average: dict[str, Tensor] | None = None
    epoch: int = 0
    step: int = 0
    sums: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.epoch >= self.options.optimisation.epochs

    @property
    def group(self) -> range:
        """Steps of the epoch whose mean gradient makes the optimiser step that the present one belongs to."""
        size = self.options.optimisation.accumulate
        first = self.step - self.step % size
        return range(first, min(first + size, self.task.steps))

    @property
    def done(self) -> int:
        """Steps done, over all epochs."""
        return self.epoch * self.task.steps + self.step

    def states(self) -> list[dict[str, Any]]:
        """Everything that the checkpoint of each head holds."""
        shared = {"model": self.task.head.state_dict(), "optimiser": self.optimiser.state_dict()}
        if self.average is not None:
            shared |= {"model": self.average, "trained": shared["model"]}
        several = len(self.facts) > 1
        return [
            {
                **facts,
                **(part_of(shared, at) if several else shared),
                "generator": self.generators[at].get_state(),
                "epoch": self.epoch,
                "step": self.step,
                "sums": self.sums[:, at].clone() if self.sums.ndim > 1 else self.sums,
                "log": self.logs[at],
                "best": self.best[at],
                "finished": self.finished,
            }
            for at, facts in enumerate(self.facts)
        ]

    def restore(self, saved: Sequence[dict[str, Any]]) -> None:
        """Go on from the checkpoint of each head. Raises UserError where one is of other data."""
        for own, facts in zip(saved, self.facts, strict=True):
            for name, what in (("data", "annotations or proposals"), ("store", "store")):
                if own[name] != facts[name]:
                    raise UserError(f"cannot resume {self.options.out}: its {what} changed; --overwrite starts anew")
        shared = {name: [own[name] for own in saved] for name in ("model", "optimiser", "sums")}
        joined = {name: stack_parts(parts) if len(saved) > 1 else parts[0] for name, parts in shared.items()}
        if self.average is not None:
            trained = [own["trained"] for own in saved]
            self.average, joined["model"] = joined["model"], stack_parts(trained) if len(saved) > 1 else trained[0]
        self.task.head.load_state_dict(joined["model"])
        self.optimiser.load_state_dict(joined["optimiser"])
        self.sums = torch.stack(shared["sums"], dim=1)
        for own, generator in zip(saved, self.generators, strict=True):
            generator.set_state(own["generator"])
        self.epoch, self.step = saved[0]["epoch"], saved[0]["step"]
        self.logs, self.best = [own["log"] for own in saved], [own.get("best", {}) for own in saved]


def fit(options: FitOptions, validation: Callable[[FitOptions], Measure] | None = None) -> dict[str, Any]:
    """Learn an SSN head or an actionness head from a feature store; the run folder OUT then holds everything of it.

    ``validation``: makes of options what measures a run for ``--eval`` (see ssn_feat.evaluation.validation).
    """
    runs = runs_of(options)
    if len(runs) > 1 and (options.out / CHECKPOINT).exists():
        raise UserError(f"{options.out} holds a run of one seed: choose another --out for {options.seeds} seeds")
    folders = [RunFolder(run.out) for run in runs]
    saved = [state for folder, run in zip(folders, runs, strict=True) if (state := folder.held(run)) is not None]
    if len(saved) == len(runs) and all(state["finished"] for state in saved):
        return _finished(options, folders)
    _require_same_point(options, saved, len(runs))
    if options.eval and validation is None:
        raise UserError("--eval needs what measures: call ssn_feat.evaluation.validation.fit_and_validate")
    measure = validation(options) if validation and options.eval else None
    if options.tensorboard:
        require_tensorboard()
    training = prepare(*runs)
    if saved:
        training.restore(saved)
    else:
        for folder, run in zip(folders, runs, strict=True):
            folder.begin(run)
    before, started = training.done, time.perf_counter()
    with (
        _stop_requested() as stop,
        _machine(options, training.task.device),
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


def run_epochs(
    training: Training,
    folders: Sequence[RunFolder],
    stop: Callable[[], bool],
    measure: Measure | None = None,
    write_events: Callable[[Sequence[Mapping[str, Any]]], None] = lambda lines: None,
) -> None:
    """Train to the last epoch or until ``stop()`` says so; leaves a checkpoint of each head in its folder either way.

    ``measure`` gives the metrics of ``--eval``; ``write_events`` takes the last line of each log.
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
                training.sums = torch.zeros(len(task.terms), len(folders), dtype=torch.float64)
            # Gradients are in no checkpoint: a run stops only where none are gathered.
            while training.step < task.steps and not (training.step == training.group.start and stop()):
                set_rate(training.optimiser, rate(schedule, training.done, task.steps))
                terms = train_step(training, plan)
                training.step += 1
                show(training.done, task.terms, terms.mean(dim=1))
            if training.step < task.steps:
                break
            _end_epoch(training)
            if measure is not None and _due(training):
                _measure(training, folders, measure)
            for folder, log in zip(folders, training.logs, strict=True):
                folder.log(log)
            write_events([log[-1] for log in training.logs])
            if time.perf_counter() - saved_at > _CHECKPOINT_SECONDS:
                _save(training, folders)
                saved_at = time.perf_counter()
        _save(training, folders)


def _save(training: Training, folders: Sequence[RunFolder]) -> None:
    for folder, state in zip(folders, training.states(), strict=True):
        folder.save(state)


def _due(training: Training) -> bool:
    """Whether the epoch that just ended is measured: each n-th and the last."""
    return training.finished or training.epoch % training.options.eval_every == 0


def _measure(training: Training, folders: Sequence[RunFolder], measure: Measure) -> None:
    """Add the metrics of each head to the last line of its log; keep the head where the first of them is the best."""
    for at, (folder, state) in enumerate(zip(folders, training.states(), strict=True)):
        metrics = measure(run_of(state))
        training.logs[at][-1] |= metrics
        name, value = next(iter(metrics.items()))
        if value > training.best[at].get(name, -math.inf):
            training.best[at] = {"epoch": training.epoch - 1, **metrics}
            folder.save(state | {"best": training.best[at]}, BEST)


def train_step(training: Training, plan: Plan) -> Tensor:
    """One batch, and a step of gradient descent where it is the last of its group: the task's terms of each head,
    float32 ``(terms, heads)``.

    Raises UserError on a loss that is not finite.
    """
    task = training.task
    losses = task.losses(task.head, *task.inputs(plan, training.step, training.generators))
    group = training.group
    if training.step == group.start:
        training.optimiser.zero_grad(set_to_none=True)
    (losses[0].sum() / len(group)).backward()
    values = torch.stack([loss.detach() for loss in losses]).cpu().view(len(losses), -1)
    if not bool(values[0].isfinite().all()):
        at = int(values[0].isfinite().logical_not().nonzero()[0])
        each = ", ".join(f"{name} {value:g}" for name, value in zip(task.terms, values[:, at].tolist(), strict=True))
        raise UserError(
            f"the loss is not finite in epoch {training.epoch}, step {training.step}: {each}; "
            f"lower --lr (it is {training.options.optimisation.lr:g}), add --warmup-steps, or look at the features"
        )
    if training.step + 1 == group.stop:
        training.optimiser.step()
        if training.average is not None:
            _average(training, training.average)
    training.sums += values
    return values


@torch.no_grad()
def _average(training: Training, average: dict[str, Tensor]) -> None:
    batches = training.done + 1
    decay = min(training.options.optimisation.ema, (1 + batches) / (10 + batches))
    for name, value in training.task.head.state_dict().items():
        average[name].lerp_(value, 1 - decay)


def _end_epoch(training: Training) -> None:
    means = training.sums / training.step
    line = {"epoch": training.epoch, "lr": training.optimiser.param_groups[0]["lr"]}
    for log, own in zip(training.logs, means.T.tolist(), strict=True):
        log.append(line | dict(zip(training.task.terms, own, strict=True)))
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


def prepare(*runs: FitOptions) -> Training:
    """Read all data and build what is to be trained: a head for each of ``runs``, which differ in seed and folder.

    Raises UserError for whatever does not fit together.
    """
    options = runs[0]
    data = read_data(options)
    generators = tuple(torch.Generator().manual_seed(run.seed) for run in runs)
    build = _ssn_task if options.head == "ssn" else _actionness_task
    tasks, facts = [], []
    for run, generator in zip(runs, generators, strict=True):
        own, digest, reg_stats = build(run, data, generator)
        tasks.append(own)
        facts.append(_facts(run, data, own, digest, reg_stats))
    task: Task = tasks[0] if len(tasks) == 1 else SeedsTask(tasks)
    optimiser = make_optimiser(task.head, options.optimisation, stacked=len(tasks) > 1)
    training = Training(task, optimiser, generators, options, tuple(facts), [[] for _ in runs], [{} for _ in runs])
    if options.optimisation.ema:
        training.average = {name: value.clone() for name, value in task.head.state_dict().items()}
    return training


def _facts(
    options: FitOptions, data: TrainingData, task: SSNTask | ActionnessTask, digest: str, reg_stats: Tensor | None
) -> dict[str, Any]:
    return {
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


def _ssn_task(options: FitOptions, data: TrainingData, generator: torch.Generator) -> tuple[SSNTask, str, Tensor]:
    table, schedule = data.table, options.optimisation
    candidates = data.candidates(options.random_windows, options.seed)
    pools = make_pools(candidates, options.pools, options.groups)
    head = SSNHead(table.feature_dim, len(data.labels), options.ssn, generator).to(table.rows.device)
    draws = (schedule.batch_videos, schedule.epoch_multiplier, options.seed)
    task = SSNTask(head, table, candidates, pools, options.groups, options.losses, options.augmentation, *draws)
    return task, _digest(candidates.intervals, candidates.labels), torch.from_numpy(pools.target_stats)


def _actionness_task(
    options: FitOptions, data: TrainingData, generator: torch.Generator
) -> tuple[ActionnessTask, str, None]:
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


__all__ = ["FitOptions", "Measure", "Training", "fit", "prepare", "run_epochs", "runs_of", "train_step"]
