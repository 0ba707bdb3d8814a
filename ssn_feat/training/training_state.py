"""The state of a training in progress, and its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol

import torch
from torch import Tensor

from ssn_feat.errors import UserError
from ssn_feat.runs.checkpoints import stream_fingerprints
from ssn_feat.training.fit_options import OptimisationOptions
from ssn_feat.training.optimisation import state_of
from ssn_feat.training.run_inputs import require_same_inputs
from ssn_feat.training.seeds import part_of, stack_parts
from ssn_feat.training.task import TaskT


class LoopOptions(Protocol):
    """Options that the loop needs."""

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
class Training(Generic[TaskT]):
    """A training in progress, of one head or of several that differ in their seed.

    ``generators``: one for each head, decide its dropout; ``facts``: for each head, the entries of its checkpoint that
    never change; ``logs``, ``best``: the lines of each head's log and its best measurement; ``average``: with the
    option ``ema``, the averaged weights by name, else None; ``sums``: float64 ``(terms, heads)``, sums over the steps
    of the epoch so far.
    """

    task: TaskT
    optimiser: torch.optim.Optimizer
    generators: tuple[torch.Generator, ...]
    options: LoopOptions
    facts: tuple[dict[str, Any], ...]
    logs: list[list[dict[str, Any]]] = field(init=False)
    best: list[dict[str, float]] = field(init=False)
    average: dict[str, Tensor] | None = field(init=False, default=None)
    epoch: int = field(init=False, default=0)
    step: int = field(init=False, default=0)
    sums: Tensor = field(init=False, default_factory=lambda: torch.zeros(0, dtype=torch.float64))

    def __post_init__(self) -> None:
        self.logs, self.best = [[] for _ in self.facts], [{} for _ in self.facts]
        if self.options.optimisation.ema:
            self.average = {name: value.clone() for name, value in self.task.head.state_dict().items()}

    @property
    def kind(self) -> str:
        """Kind of the trained head, as in its checkpoint."""
        return str(self.facts[0]["head"]["kind"])

    @property
    def finished(self) -> bool:
        """Whether all epochs are complete."""
        return self.epoch >= self.options.optimisation.epochs

    @property
    def group(self) -> range:
        """Steps of the epoch whose gradients are accumulated together with that of the current step."""
        size = self.options.optimisation.accumulate
        first = self.step - self.step % size
        return range(first, min(first + size, self.task.steps))

    @property
    def done(self) -> int:
        """Number of completed steps, over all epochs."""
        return self.epoch * self.task.steps + self.step

    def add(self, values: Tensor, first: int | None = None) -> None:
        """Add the terms of consecutive steps, float32 ``(steps, terms, heads)``, to the sums of the epoch.

        ``first``: number of the first of these steps; None means the current step. Raises UserError, naming all terms,
        where a loss is not finite.
        """
        if not bool(values[:, 0].isfinite().all()):
            step, at = values[:, 0].isfinite().logical_not().nonzero()[0].tolist()
            terms = zip(self.task.terms, values[step, :, at].tolist(), strict=True)
            raise UserError(
                f"the loss is not finite in epoch {self.epoch}, step {(self.step if first is None else first) + step}: "
                f"{', '.join(f'{name} {value:g}' for name, value in terms)}; lower --lr (it is "
                f"{self.options.optimisation.lr:g}), add --warmup-steps, or check the features"
            )
        for each in values:
            self.sums += each

    @torch.no_grad()
    def move_average(self, decay: float | Tensor) -> None:
        """Move the averaged weights, if there are any, towards the current weights."""
        if self.average is not None:
            for name, value in self.task.head.state_dict().items():
                if value.is_floating_point():
                    self.average[name].lerp_(value, 1 - decay)
                else:  # counters of batch norm
                    self.average[name].copy_(value)

    def states(self) -> list[dict[str, Any]]:
        """The content of the checkpoint of each head."""
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
        """Continue from the checkpoint of each head. Raises UserError if one was trained on other data."""
        for state, facts in zip(saved, self.facts, strict=True):
            require_same_inputs(self.options.out, state.get("inputs"), facts.get("inputs", {}))
            # A stream that was added to the store since does not matter. Clips are learned without a store.
            same_store = facts["store"] is None or (
                stream_fingerprints(state) == stream_fingerprints(facts)
                and state["store"]["name"] == facts["store"]["name"]
            )
            for same, what in (
                (state["data"] == facts["data"], "annotations or proposals"),
                (same_store, "store"),
            ):
                if not same:
                    raise UserError(
                        f"cannot resume {self.options.out}: its {what} changed; restore the earlier data, or train a "
                        "new run with another --out"
                    )
        shared = {name: [state[name] for state in saved] for name in ("model", "optimiser", "sums")}
        joined = {name: stack_parts(parts) if len(saved) > 1 else parts[0] for name, parts in shared.items()}
        if self.average is not None:
            trained = [state["trained"] for state in saved]
            average, joined["model"] = joined["model"], stack_parts(trained) if len(saved) > 1 else trained[0]
            for name, value in self.average.items():  # which stay on their device
                value.copy_(average[name])
        self.task.head.load_state_dict(joined["model"])
        self.optimiser.load_state_dict(joined["optimiser"])
        self.sums = torch.stack(shared["sums"], dim=1)
        for state, generator in zip(saved, self.generators, strict=True):
            generator.set_state(state["generator"])
        self.epoch, self.step = saved[0]["epoch"], saved[0]["step"]
        self.logs, self.best = [state["log"] for state in saved], [state.get("best", {}) for state in saved]


__all__ = ["LoopOptions", "Training"]
