"""A training in progress: what is learned, by what, how far it is, and its checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssn_feat.cli import to_dict
from ssn_feat.errors import UserError
from ssn_feat.heads.actionness import ActionnessHead
from ssn_feat.heads.losses import Groups
from ssn_feat.heads.ssn import SSNHead
from ssn_feat.runs.checkpoints import describe_head
from ssn_feat.sampling.pools import make_pools
from ssn_feat.training.actionness_task import ActionnessProposalsTask, ActionnessTask, row_pool, rows_inside
from ssn_feat.training.dense_ssn_task import DenseSSNTask
from ssn_feat.training.fit_options import FitOptions, OptimisationOptions
from ssn_feat.training.optimisation import make_optimiser, state_of
from ssn_feat.training.seeds import SeedsTask, part_of, stack_parts
from ssn_feat.training.ssn_task import SSNTask, Task
from ssn_feat.training.training_data import TrainingData, read_data


class LoopOptions(Protocol):
    """What the loop asks of the options of a training."""

    @property
    def head(self) -> str: ...
    @property
    def out(self) -> Path: ...
    @property
    def seed(self) -> int: ...
    @property
    def threads(self) -> int: ...
    @property
    def quiet(self) -> bool: ...
    @property
    def eval_every(self) -> int: ...
    @property
    def optimisation(self) -> OptimisationOptions: ...


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
    options: LoopOptions
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

    def add(self, values: Tensor, first: int | None = None) -> None:
        """Take note of the terms of some steps, float32 ``(steps, terms, heads)``, from step ``first`` or the present.

        Raises UserError where a loss is not finite, naming its terms.
        """
        if not bool(values[:, 0].isfinite().all()):
            step, at = values[:, 0].isfinite().logical_not().nonzero()[0].tolist()
            terms = zip(self.task.terms, values[step, :, at].tolist(), strict=True)
            raise UserError(
                f"the loss is not finite in epoch {self.epoch}, step {(self.step if first is None else first) + step}: "
                f"{', '.join(f'{name} {value:g}' for name, value in terms)}; lower --lr (it is "
                f"{self.options.optimisation.lr:g}), add --warmup-steps, or look at the features"
            )
        for each in values:
            self.sums += each

    @torch.no_grad()
    def move_average(self, decay: float | Tensor) -> None:
        """Move the averaged weights, if they are kept, towards the weights of now."""
        if self.average is not None:
            for name, value in self.task.head.state_dict().items():
                if value.is_floating_point():
                    self.average[name].lerp_(value, 1 - decay)
                else:  # counters of batch norm
                    self.average[name].copy_(value)

    def states(self) -> list[dict[str, Any]]:
        """Everything that the checkpoint of each head holds."""
        shared = {"model": self.task.head.state_dict(), "optimiser": state_of(self.optimiser)}
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
        "augmentation": list(options.augmentation),
        "config": to_dict(options),
        "videos": len(data.table.ids),
        "data": digest,
    }


def _ssn_task(options: FitOptions, data: TrainingData, generator: torch.Generator) -> tuple[SSNTask, str, Tensor]:
    table = data.table
    candidates = data.candidates(options.random_windows, options.seed)
    pools = make_pools(candidates, options.pools, options.groups)
    head = SSNHead(table.feature_dim, len(data.labels), options.ssn, generator).to(table.rows.device)
    given = (head, table, candidates, pools, options)
    task = DenseSSNTask(*given, data.sums) if options.sampling == "dense" else SSNTask(*given)
    return task, digest(candidates.intervals, candidates.labels), torch.from_numpy(pools.target_stats)


def _actionness_task(
    options: FitOptions, data: TrainingData, generator: torch.Generator
) -> tuple[ActionnessTask, str, None]:
    table = data.table
    head = ActionnessHead(table.feature_dim, options.ssn.dropout, generator).to(table.rows.device)
    if options.actionness.actionness_sampling == "rows":
        inside = rows_inside(data.dataset, table)
        rows = (row_pool("action", inside, table.offsets), row_pool("background", ~inside, table.offsets))
        return ActionnessTask(head, table, rows, options), digest(inside), None
    candidates = data.candidates(options.random_windows, options.seed)
    # Background is whatever hardly meets an instance, however short it is, as in the original.
    thresholds = replace(options.pools, incomplete_overlap=1.0, background_coverage=0.0)
    pools = make_pools(candidates, thresholds, Groups(1, 0, 1))
    task = ActionnessProposalsTask(head, table, candidates, pools, options)
    return task, digest(candidates.intervals, candidates.labels), None


def digest(*arrays: NDArray[Any]) -> str:
    """Tells whether a resumed run sees the same data."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


__all__ = ["LoopOptions", "Training", "digest", "prepare"]
