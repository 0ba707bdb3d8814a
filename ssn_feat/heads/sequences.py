"""Sequences of several videos, packed end to end: one tensor of rows, without padding to a common length.

Each video occupies an *extent*: its rows and at least one further row, rounded up to a multiple of the largest stride
of the pyramid. The further rows take part in the computation as padding does in a padded batch, so that the result for
a video does not depend on the other videos of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Packing:
    """Where each of V videos lies among N packed rows.

    ``offsets``: int64 ``(V + 1,)``, extent of video v is ``offsets[v]:offsets[v + 1]``; ``lengths``: int64 ``(V,)``,
    number of rows of each video, from the beginning of its extent on.
    """

    offsets: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], multiple: int, extents: Sequence[int] | None = None) -> Packing:
        """The packing of videos of ``lengths`` rows; extents are multiples of ``multiple``.

        ``extents``: sizes of the extents, by default the smallest ones with one row more than the video.
        """
        rows = torch.tensor(list(lengths), dtype=torch.int64)
        sizes = (rows // multiple + 1) * multiple if extents is None else torch.tensor(list(extents))
        return cls(functional.pad(sizes.cumsum(0), (1, 0)), rows)

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def to(self, device: torch.device | str) -> Packing:
        """The packing with its tensors on ``device``."""
        return Packing(self.offsets.to(device), self.lengths.to(device))

    def halved(self) -> Packing:
        """The packing of every second row. All offsets must be even."""
        return Packing(self.offsets // 2, (self.lengths + 1) // 2)

    @cached_property
    def video(self) -> Tensor:
        """Index of the video of each row, int64 ``(N,)``."""
        index = torch.arange(len(self.lengths), device=self.offsets.device)
        return index.repeat_interleave(self.offsets.diff(), output_size=len(self))

    @cached_property
    def position(self) -> Tensor:
        """Position of each row in its extent, int64 ``(N,)``."""
        return torch.arange(len(self), device=self.offsets.device) - self.offsets[self.video]

    @cached_property
    def valid(self) -> Tensor:
        """Whether each row belongs to its video and not to the rest of the extent, bool ``(N,)``."""
        return self.position < self.lengths[self.video]

    @cached_property
    def mask(self) -> Tensor:
        """``valid`` as float32 ``(N, 1)``, to multiply rows with."""
        return self.valid.float()[:, None]

    def pack(self, sequences: Sequence[Tensor]) -> Tensor:
        """The rows of V sequences ``(T_v, D)`` in one tensor ``(N, D)``; zero outside the videos."""
        packed = sequences[0].new_zeros(len(self), sequences[0].shape[1])
        for start, sequence in zip(self.offsets.tolist(), sequences, strict=False):
            packed[start : start + len(sequence)] = sequence
        return packed

    def mean(self, rows: Tensor) -> Tensor:
        """The mean over the extent of each video: ``(N, C)`` to ``(V, C)``."""
        sums = rows.new_zeros(len(self.lengths), rows.shape[1]).index_add(0, self.video, rows)
        return sums / self.offsets.diff()[:, None]

    def before(self, rows: Tensor) -> Tensor:
        """The row before each row of ``(N, C)``; zero at the beginning of an extent."""
        shifted = torch.cat([rows.new_zeros(1, rows.shape[1]), rows[:-1]])
        return shifted.index_fill_(0, self.offsets[:-1], 0)

    def after(self, rows: Tensor) -> Tensor:
        """The row after each row of ``(N, C)``; zero at the end of an extent."""
        shifted = torch.cat([rows[1:], rows.new_zeros(1, rows.shape[1])])
        return shifted.index_fill_(0, self.offsets[1:] - 1, 0)


def joined(packings: Sequence[Packing]) -> Packing:
    """One packing for the rows of several packings, such as the levels of a pyramid, one after the other."""
    starts = [0]
    for packing in packings:
        starts.append(starts[-1] + len(packing))
    offsets = [packing.offsets[:-1] + start for packing, start in zip(packings, starts, strict=False)]
    end = packings[0].offsets.new_tensor([starts[-1]])
    return Packing(torch.cat([*offsets, end]), torch.cat([packing.lengths for packing in packings]))


def convolve(rows: Tensor, weight: Tensor, bias: Tensor | None, packing: Packing) -> Tensor:
    """Convolution with a kernel of 3 rows, as one matrix product.

    ``rows``: ``(N, C)``; ``weight``: ``(C_out, C, 3)``; ``bias``: ``(C_out,)``. Returns ``(N, C_out)``; rows outside
    the extent of a video count as zero.
    """
    context = torch.cat([packing.before(rows), rows, packing.after(rows)], dim=1)
    return functional.linear(context, weight.permute(0, 2, 1).reshape(len(weight), -1), bias)


def convolve_channels(rows: Tensor, weight: Tensor, packing: Packing, stride: int = 1) -> Tensor:
    """Convolution of each channel by itself with a kernel of 3 rows, at every row or (stride 2) every second row.

    ``rows``: ``(N, C)``; ``weight``: ``(C, 1, 3)``. Returns ``(N / stride, C)``.
    """
    left, middle, right = weight[:, 0].unbind(dim=1)
    if stride == 1:
        return packing.before(rows) * left + rows * middle + packing.after(rows) * right
    even, odd = pairs(rows)
    return packing.halved().before(odd) * left + even * middle + odd * right


def pool_pairs(rows: Tensor, packing: Packing) -> Tensor:
    """Maximum of each even row and its two neighbours: ``(N, C)`` to ``(N / 2, C)``.

    At the beginning of an extent there is only one neighbour.
    """
    even, odd = pairs(rows)
    starts = packing.offsets[:-1] // 2
    before = torch.cat([odd[:1], odd[:-1]]).index_copy(0, starts, even[starts])
    return torch.maximum(torch.maximum(even, odd), before)


def pairs(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The even and the odd rows of ``(N, C)``, ``(N / 2, C)`` each."""
    even, odd = rows.view(-1, 2, rows.shape[1]).unbind(dim=1)
    return even, odd


__all__ = ["Packing", "convolve", "convolve_channels", "joined", "pairs", "pool_pairs"]
