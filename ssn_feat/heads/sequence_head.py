"""What a head that reads whole videos must define; derive your own from :class:`SequenceHead`.

Times are positions on the grid of the rows of a video: row 0 lies at 0, row 1 at 1. Callers convert them to seconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ssn_feat.heads.sequences import Packing

Gives = Literal["actionness", "detections", "proposals"]


class Truth(NamedTuple):
    """The instances of V packed videos.

    ``instances``: float32 ``(V, G, 2)``, start and end on the grid of rows, padded with NaN; ``labels``: int64 ``(V,
    G)``, class indices from 0.
    """

    instances: Tensor
    labels: Tensor


class RowIntervals(NamedTuple):
    """Scored intervals of one video, in any order.

    ``intervals``: float64 ``(N, 2)``, start and end on the grid of rows; ``scores``: float64 ``(N,)``, not negative;
    ``classes``: int64 ``(N,)``, class indices from 0; zeros for proposals.
    """

    intervals: NDArray[np.float64]
    scores: NDArray[np.float64]
    classes: NDArray[np.int64]


class SequenceHead(nn.Module, ABC):
    """A head that reads all rows of a video at once.

    A subclass is created with ``feature_dim`` (D), ``classes`` (K, without background), ``options`` (an instance of its
    class ``Options``) and a ``generator`` for its initial weights.
    """

    kind: ClassVar[str]
    """Name in checkpoints and command lines, ``package.module:Class``."""
    Options: ClassVar[type]
    """Frozen dataclass of the options of the head, all with defaults; a docstring below each field is its help."""
    terms: ClassVar[tuple[str, ...]] = ("loss",)
    """Names of the values that :meth:`losses` returns."""
    extent: int = 1
    """Videos are packed at multiples of this number of rows."""

    feature_dim: int
    classes: int
    options: Any

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "kind" not in vars(cls):
            cls.kind = f"{cls.__module__}:{cls.__qualname__}"

    @property
    @abstractmethod
    def gives(self) -> Gives:
        """What :meth:`results` returns."""

    @abstractmethod
    def losses(self, rows: Tensor, packing: Packing, truth: Truth, generator: torch.Generator) -> tuple[Tensor, ...]:
        """One scalar for each of ``terms``, the first of which is minimised.

        ``rows``: float32 ``(N, D)`` of all videos of a batch; ``generator``: a CPU generator for dropout.
        """

    @abstractmethod
    def results(self, rows: Tensor, packing: Packing) -> Sequence[Any]:
        """The results of each video: :class:`RowIntervals` for detections and proposals, logits ``(T, 2)`` of
        background and action for actionness."""


__all__ = ["Gives", "RowIntervals", "SequenceHead", "Truth"]
