"""Dropout whose random numbers cost little on the CPU."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_LEVELS = 1 << 16


def dropout(x: Tensor, probability: float, generator: torch.Generator | None = None) -> Tensor:
    """``x`` with each element set to zero with ``probability`` (in [0, 1)), the others scaled to keep the mean.

    On the CPU the masks come from random 16-bit integers, several times faster than torch's own (which is most of the
    time of a training step on cached features): the probability is exact to 1/65536 and the scale fits it exactly.
    ``generator`` (a CPU generator; None: torch's default) decides the mask. Elsewhere this is torch's own dropout,
    drawn from the device's default generator.
    """
    if probability == 0:
        return x
    if x.device.type != "cpu":
        return torch.nn.functional.dropout(x, probability)
    kept = max(1, round((1 - probability) * _LEVELS))
    scale = np.float32(_LEVELS / kept)
    keep = _random_16_bits(tuple(x.shape), generator) < kept
    if x.requires_grad or x.dtype != torch.float32:
        return x * torch.from_numpy(keep * scale).to(x.dtype)
    # Without gradients NumPy's mixed product saves writing out a mask of floats.
    result = np.multiply(x.numpy(), keep)
    result *= scale
    return torch.from_numpy(result)


def _random_16_bits(shape: tuple[int, ...], generator: torch.Generator | None) -> NDArray[np.uint16]:
    """Uniform 16-bit integers, four from each draw of a fast generator that torch's generator seeds."""
    seed = int(torch.randint(0, 2**63 - 1, (), generator=generator))
    count = int(np.prod(shape))
    draws = np.random.SFC64(seed).random_raw(-(-count // 4))
    return draws.view(np.uint16)[:count].reshape(shape)
