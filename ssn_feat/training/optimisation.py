"""The optimiser: learning rates and weight decay of parameters, and the schedule of the rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ssn_feat.training.fit_options import OptimisationOptions


def parameter_groups(head: nn.Module, options: OptimisationOptions, stacked: bool = False) -> list[dict[str, Any]]:
    """All parameters in three groups, each with the factors ``lr_mult`` and ``decay_mult``.

    Weights (matrices and kernels) have the factors 1; biases have ``bias_lr`` and ``bias_decay`` (in the original,
    twice the rate and no decay); other vectors, the scales of normalisation, have ``bias_decay`` only. ``stacked``: the
    parameters are those of several heads and have one more dimension.
    """
    vector = 2 if stacked else 1
    named = [(name, p) for name, p in head.named_parameters() if p.requires_grad]
    weights = [p for _, p in named if p.ndim > vector]
    biases = [p for name, p in named if p.ndim <= vector and name.rpartition(".")[2] == "bias"]
    others = [p for name, p in named if p.ndim <= vector and name.rpartition(".")[2] != "bias"]
    groups = [
        {"name": "weights", "params": weights, "lr_mult": 1.0, "decay_mult": 1.0},
        {"name": "biases", "params": biases, "lr_mult": options.bias_lr, "decay_mult": options.bias_decay},
        {"name": "others", "params": others, "lr_mult": 1.0, "decay_mult": options.bias_decay},
    ]
    return [group for group in groups if group["params"]]


def make_optimiser(head: nn.Module, options: OptimisationOptions, stacked: bool = False) -> torch.optim.Optimizer:
    """The optimiser for all parameters of ``head``; :func:`set_rate` must be called before each step.

    ``stacked``: as in :func:`parameter_groups`. Stacked heads do not mix, since updates are element-wise.
    """
    return optimiser_of(parameter_groups(head, options, stacked), options)


def optimiser_of(groups: Sequence[dict[str, Any]], options: OptimisationOptions) -> torch.optim.Optimizer:
    """The optimiser for ``groups`` with the factors ``lr_mult`` and ``decay_mult``; see :func:`make_optimiser`."""
    groups = [{**group, "weight_decay": options.weight_decay * group["decay_mult"]} for group in groups]
    if options.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=options.lr, fused=True)
    return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum, fused=True)


def rate(options: OptimisationOptions, step: int, steps_per_epoch: int) -> float:
    """Learning rate of weights in step ``step``, counted from 0 over all epochs."""
    if options.schedule == "cosine":
        value = options.lr * 0.5 * (1 + math.cos(math.pi * step / (steps_per_epoch * options.epochs)))
    else:
        value = options.lr * options.lr_decay ** sum(step // steps_per_epoch >= at for at in options.lr_steps)
    return value * min(1.0, (step + 1) / options.warmup_steps) if options.warmup_steps else value


def ema_decay(options: OptimisationOptions, step: int) -> float:
    """Decay of the moving average in step ``step``, counted from 0 over all epochs."""
    return min(options.ema, (2 + step) / (11 + step))


def state_of(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """The state of the optimiser, with learning rates as plain numbers even if they are tensors."""
    state: dict[str, Any] = optimiser.state_dict()
    groups = [
        {**group, "lr": float(group["lr"]), **({"capturable": False} if "capturable" in group else {})}
        for group in state["param_groups"]
    ]
    return {**state, "param_groups": groups}


def set_rate(optimiser: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of every group to ``value`` times its factor."""
    for group in optimiser.param_groups:
        group["lr"] = value * group["lr_mult"]


__all__ = ["ema_decay", "make_optimiser", "optimiser_of", "parameter_groups", "rate", "set_rate", "state_of"]
