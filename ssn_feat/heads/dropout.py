"""Dropout whose random numbers cost little on the CPU."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import NDArray
from torch import Tensor

# Values that share a threshold; long enough that comparing them is one vectorised loop.
_BLOCK = 1024
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class _Words(ISeedSequence):
    """Random words for numpy's generator as they are: to spread a single seed over them takes as long as the draws."""

    def __init__(self, words: NDArray[np.uint64]) -> None:
        self._words = words

    def generate_state(self, n_words: int, dtype: Any = np.uint64) -> NDArray[np.uint64]:
        if self._words.shape != (n_words,) or np.dtype(dtype) != self._words.dtype:
            raise ValueError(f"{n_words} words of {np.dtype(dtype)} are asked for, {self._words.shape} are there")
        return self._words


def dropout(x: Tensor, probability: float, generator: torch.Generator | None = None) -> Tensor:
    """``x`` with each element set to zero with ``probability`` (in [0, 1)), the others scaled to keep the mean.

    On the CPU the masks come from random bytes, an order of magnitude faster than torch's own (which is most of the
    time of a training step on cached features). ``generator`` (a CPU generator; None: torch's default) decides the
    mask. Elsewhere this is torch's own dropout, drawn from the device's default generator.
    """
    if probability == 0:
        return x
    if x.device.type != "cpu":
        return torch.nn.functional.dropout(x, probability)
    keep = torch.from_numpy(_keep(x.numel(), probability, generator)).view(x.shape)
    return x * (keep.to(x.dtype) * (1 / (1 - probability)))


@torch.no_grad()
def unscaled_dropout_(x: Tensor, probability: float, generator: torch.Generator | None = None) -> tuple[Tensor, float]:
    """Dropout in place and without its scale, which comes second: the result times the scale is :func:`dropout`'s.

    ``x`` is contiguous and has no gradient. Whoever pools linearly saves a pass over all values by scaling the weights.
    On another device than the CPU the result is new, of float32, and the scale is 1.
    """
    if probability == 0:
        return x, 1.0
    if x.device.type != "cpu":
        return torch.nn.functional.dropout(x.float(), probability), 1.0
    # As whole numbers: times 0 or 1 they need no conversion, whatever float they stand for.
    values = x.view(_INTEGERS[x.element_size()]).view(-1).numpy()
    np.multiply(values, _keep(x.numel(), probability, generator).view(np.int8), out=values)
    return x, 1 / (1 - probability)


def _keep(count: int, probability: float, generator: torch.Generator | None) -> NDArray[np.bool_]:
    """Which of ``count`` values stay, ``(count,)``: each with the chance ``1 - probability``, exact to 2^-24.

    A value has one random byte, of ten parts of which four are drawn and six are their differences (exclusive or) two
    by two. So any two values are independent, which is all that the mean and the variance of sums of them depend on;
    some triples, of values a tenth of all apart or more, are not. A chance that is no multiple of 1/256 is met by
    giving each block of values, at random, one of the two thresholds next to it.
    """
    part = -(-count // (10 * _BLOCK)) * _BLOCK // 8
    blocks = 10 * part * 8 // _BLOCK
    seed = _Words(torch.randint(-(2**63), 2**63 - 1, (3,), generator=generator).numpy().view(np.uint64))
    # numpy takes any such sequence; its annotations name its own alone.
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
