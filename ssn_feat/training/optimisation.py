"""The optimiser: learning rates and weight decay of parameters, and the schedule of the rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ssn_feat.training.fit_options import OptimisationOptions

# Their weights are matrices or kernels, whatever their shape: that of a layer with one output may be (1, D).
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def parameter_groups(head: nn.Module, options: OptimisationOptions, stacked: bool = False) -> list[dict[str, Any]]:
    """All parameters in three groups, each with the factors ``lr_mult`` and ``decay_mult``.

    Weights (matrices and kernels) have the factors 1; biases have ``bias_lr`` and ``bias_decay`` (in the original,
    twice the rate and no decay); other vectors, the scales of normalisation, have ``bias_decay`` only. ``stacked``: the
    parameters are those of several heads and have one more dimension.
    """
    layers = {id(module.weight) for module in head.modules() if isinstance(module, _LAYERS)}
    named = [(name.rpartition(".")[2], p) for name, p in head.named_parameters() if p.requires_grad]
    biases = [p for name, p in named if name == "bias"]
    rest = [p for name, p in named if name != "bias"]
    weights = [p for p in rest if id(p) in layers or _is_matrix(p, stacked)]
    others = [p for p in rest if not (id(p) in layers or _is_matrix(p, stacked))]
    groups = [
        {"name": "weights", "params": weights, "lr_mult": 1.0, "decay_mult": 1.0},
        {"name": "biases", "params": biases, "lr_mult": options.bias_lr, "decay_mult": options.bias_decay},
        {"name": "others", "params": others, "lr_mult": 1.0, "decay_mult": options.bias_decay},
    ]
    return [group for group in groups if group["params"]]


def _is_matrix(parameter: nn.Parameter, stacked: bool) -> bool:
    """Whether more than one axis is longer than 1."""
    shape = parameter.shape[1:] if stacked else parameter.shape
    return sum(size > 1 for size in shape) > 1


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
    if options.schedule == "cosine-after-warmup":
        return options.lr * _after_warmup(step, options.warmup_steps, steps_per_epoch * options.epochs)
    if options.schedule == "cosine":
        value = options.lr * 0.5 * (1 + math.cos(math.pi * step / (steps_per_epoch * options.epochs)))
    else:
        value = options.lr * options.lr_decay ** sum(step // steps_per_epoch >= at for at in options.lr_steps)
    return value * min(1.0, (step + 1) / options.warmup_steps) if options.warmup_steps else value


def _after_warmup(step: int, warmup: int, steps: int) -> float:
    """Factor of the rate: from 0 in the first step to 1 in the last one of the warm-up, then along half a cosine."""
    if step < warmup:
        return step / max(warmup - 1, 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


def clip_gradients(head: nn.Module, limit: float, stacked: bool = False) -> None:
    """Scale the gradient of ``head`` down to the norm ``limit``; of stacked heads, that of each by itself."""
    parameters = [p for p in head.parameters() if p.grad is not None]
    if not stacked:
        torch.nn.utils.clip_grad_norm_(parameters, limit)
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch.stack([gradient.flatten(1).square().sum(dim=1) for gradient in gradients]).sum(dim=0).sqrt()
    factor = (limit / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor.view(-1, *[1] * (gradient.ndim - 1)))


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


__all__ = [
    "clip_gradients",
    "ema_decay",
    "make_optimiser",
    "optimiser_of",
    "parameter_groups",
    "rate",
    "set_rate",
    "state_of",
]
