"""Fast dropout on the CPU."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import NDArray
from torch import Tensor

# Number of values that share a threshold; large enough for one vectorised loop over them.
_BLOCK = 1024
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class _Words(ISeedSequence):
    """Random words used directly as the state of a NumPy generator: NumPy's own seeding takes as long as the draws."""

    def __init__(self, words: NDArray[np.uint64]) -> None:
        self._words = words

    def generate_state(self, n_words: int, dtype: Any = np.uint64) -> NDArray[np.uint64]:
        if self._words.shape != (n_words,) or np.dtype(dtype) != self._words.dtype:
            raise ValueError(f"{n_words} words of {np.dtype(dtype)} requested, {self._words.shape} available")
        return self._words


def dropout(x: Tensor, probability: float, generator: torch.Generator | None = None) -> Tensor:
    """Set each element of ``x`` to zero with ``probability`` (in [0, 1)); scale the others to keep the mean.

    On the CPU, masks are drawn from random bytes, ten times faster than in torch, whose dropout takes most of the time
    of a training step on cached features. ``generator`` (a CPU generator; None: torch's default) decides the mask. On
    other devices this is torch's dropout, drawn from the default generator of the device.
    """
    if probability == 0:
        return x
    if x.device.type != "cpu":
        return torch.nn.functional.dropout(x, probability)
    keep = torch.from_numpy(_keep(x.numel(), probability, generator)).view(x.shape)
    return x * (keep.to(x.dtype) * (1 / (1 - probability)))


@torch.no_grad()
def unscaled_dropout_(x: Tensor, probability: float, generator: torch.Generator | None = None) -> tuple[Tensor, float]:
    """Dropout in place without the final scaling. Returns the result and the scale; their product is :func:`dropout`.

    ``x`` must be contiguous and without gradient. Linear pooling can multiply its weights by the scale, which saves a
    pass over all values. On other devices than the CPU, the result is a new float32 tensor and the scale is 1.
    """
    if probability == 0:
        return x, 1.0
    if x.device.type != "cpu":
        return torch.nn.functional.dropout(x.float(), probability), 1.0
    # The bits as integers: multiplying them by 0 or 1 needs no conversion, for any float type.
    values = x.view(_INTEGERS[x.element_size()]).view(-1).numpy()
    np.multiply(values, _keep(x.numel(), probability, generator).view(np.int8), out=values)
    return x, 1 / (1 - probability)


def _keep(count: int, probability: float, generator: torch.Generator | None) -> NDArray[np.bool_]:
    """Which of ``count`` values to keep, bool ``(count,)``: each with probability ``1 - probability``, exact to 2^-24.

    Each value has one random byte. The bytes consist of ten parts: four are drawn, and six are the exclusive or of two
    drawn parts. Any two values are therefore independent, and the mean and variance of sums depend on pairs only; some
    triples of values, at least a tenth of all values apart, are not independent. If the probability is not a multiple
    of 1/256, each block of values uses one of the two nearest thresholds at random.
    """
    part = -(-count // (10 * _BLOCK)) * _BLOCK // 8
    blocks = 10 * part * 8 // _BLOCK
    seed = _Words(torch.randint(-(2**63), 2**63 - 1, (3,), generator=generator).numpy().view(np.uint64))
    # NumPy accepts any seed sequence; its annotations name its own class only.
    draws = np.random.SFC64(seed).random_raw(4 * part + -(-blocks // 4))  # type: ignore[arg-type]
    bytes_ = np.empty((10, part), np.uint64)
    bytes_[:4] = draws[: 4 * part].reshape(4, part)
    for at, (one, other) in enumerate(combinations(range(4), 2), start=4):
        np.bitwise_xor(bytes_[one], bytes_[other], out=bytes_[at])
    below, rest = divmod((1 - probability) * 256, 1)
    thresholds = below + (draws[4 * part :].view(np.uint16)[:blocks] < round(rest * 65536))
    # A threshold of 256 does not fit a byte.
    narrow: NDArray[Any] = thresholds.astype(np.uint8 if below < 255 else np.uint16)
    keep: NDArray[np.bool_] = bytes_.view(np.uint8).reshape(blocks, _BLOCK) < narrow[:, None]
    return keep.reshape(-1)[:count]
