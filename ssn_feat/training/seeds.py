"""Training several heads at once, one for each seed: one step computes all of them with batched products.

Every seed draws its initial weights, samples and dropout as in a separate run; only the arithmetic of the step is
shared. The heads stay independent: the gradient of the sum of their losses is, for each head, that of its own loss.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ssn_feat.runs.folders import RunFolder, terms_of
from ssn_feat.training.fit_options import TrainingOptions
from ssn_feat.training.task import EpochPlan, FeatureTask


class SeedsTask:
    """The tasks of N seeds as one :class:`ssn_feat.training.task.FeatureTask`.

    ``tasks`` differ in their seed only.
    """

    fixed_shapes = True

    def __init__(self, tasks: Sequence[FeatureTask]) -> None:
        self.tasks, first = tuple(tasks), tasks[0]
        self.terms, self.steps, self.device = first.terms, first.steps, first.device
        self.head = stack_heads([task.head for task in tasks])
        # Two stacks, since the inputs of the next step may be prepared while those of this step are in use.
        self._stacks: list[tuple[Tensor, ...]] = [(), ()]

    def plan(self, epoch: int) -> EpochPlan:
        """The plans of all seeds, stacked: ``(steps, N, ...)`` each."""
        plans = [task.plan(epoch) for task in self.tasks]
        others = zip(*(plan.others for plan in plans), strict=True)
        return EpochPlan(
            torch.stack([plan.rows for plan in plans], dim=1), tuple(torch.stack(parts, dim=1) for parts in others)
        )

    def inputs(self, plan: EpochPlan, step: int, generators: Sequence[torch.Generator]) -> tuple[Tensor, ...]:
        """Inputs of all seeds, ``(N, ...)`` each; the step after the next overwrites these tensors."""
        which = step % 2
        for at, task in enumerate(self.tasks):
            plan_of_seed = EpochPlan(plan.rows[:, at], tuple(tensor[:, at] for tensor in plan.others))
            parts = task.inputs(plan_of_seed, step, generators[at : at + 1])
            if not self._stacks[which]:
                self._stacks[which] = tuple(part.new_empty(len(self.tasks), *part.shape) for part in parts)
            for stack, part in zip(self._stacks[which], parts, strict=True):
                stack[at].copy_(part)
        return self._stacks[which]

    def losses(self, head: nn.Module, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The terms of each seed, ``(N,)`` each."""
        return self.tasks[0].losses(head, *inputs)


def stack_heads(heads: Sequence[nn.Module]) -> nn.Module:
    """A module like each of ``heads`` whose parameters are theirs, stacked along a new first dimension."""
    stacked = copy.deepcopy(heads[0])
    parameters, _ = torch.func.stack_module_state(list(heads))
    for name, value in parameters.items():
        owner, _, last = name.rpartition(".")
        setattr(stacked.get_submodule(owner), last, nn.Parameter(value.detach().clone()))
    return stacked


def summarise_seeds(options: TrainingOptions, summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Write OUT/summary.json, print one line, and return the summary.

    ``summaries``: of the run of each seed. The result holds the mean and the spread (standard deviation between seeds,
    with N - 1) of each term of the last epoch, and the summary of each seed by its number.
    """
    finals = [summary["final"] for summary in summaries]
    terms = list(terms_of(finals[0]))
    values = {name: [final[name] for final in finals] for name in terms}
    seeds = range(options.seed, options.seed + options.seeds)
    result = {
        "mean": {name: statistics.fmean(of_seeds) for name, of_seeds in values.items()},
        "spread": {name: statistics.stdev(of_seeds) for name, of_seeds in values.items()},
        "seconds": summaries[0]["seconds"],
        "seeds": {str(seed): dict(summary) for seed, summary in zip(seeds, summaries, strict=True)},
    }
    RunFolder(options.out).summarise(result)
    if not options.quiet:
        each = ", ".join(f"{name} {result['mean'][name]:.3f} ± {result['spread'][name]:.3f}" for name in terms)
        print(f"{options.out}: {each} over {options.seeds} seeds, {result['seconds']:.1f} s")
    return result


def part_of(state: Any, at: int) -> Any:
    """The state (weights, optimiser, sums) of head ``at`` from that of N stacked heads; plain values are shared."""
    if isinstance(state, Tensor):
        return state[at].clone() if state.ndim else state
    if isinstance(state, Mapping):
        return {name: part_of(value, at) for name, value in state.items()}
    return state


def stack_parts(parts: Sequence[Any]) -> Any:
    """The inverse of :func:`part_of`: one state from the states of all heads."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.stack(list(parts)) if first.ndim else first
    if isinstance(first, Mapping):
        return {name: stack_parts([part[name] for part in parts]) for name in first}
    return first


__all__ = ["SeedsTask", "part_of", "stack_heads", "stack_parts", "summarise_seeds"]
