"""The network of the one-stage detector: a pyramid over the rows of a video, and a class and two distances per point.

Definitions follow ActionFormer (Zhang et al., ECCV 2022) and, for the pyramid of maxima, TemporalMaxer (Tang et al.,
2023). Parameters have the names and shapes of their published code, so that its checkpoints load.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssn_feat.errors import UserError
from ssn_feat.heads.point_blocks import AttentionBlock, Conv, ConvBlock, GroupNorm, MaxBlock, Norm
from ssn_feat.heads.point_options import PointNetworkOptions
from ssn_feat.heads.sequences import Packing, joined

# Probability of a class at the beginning of the training, as in RetinaNet.
_PRIOR = 0.01


def _block(stride: int, options: PointNetworkOptions) -> nn.Module:
    if options.pyramid == "max":
        return MaxBlock()
    return (AttentionBlock if options.pyramid == "attention" else ConvBlock)(stride, options)


class Backbone(nn.Module):
    """Features to the levels of the pyramid."""

    def __init__(self, feature_dim: int, options: PointNetworkOptions) -> None:
        super().__init__()
        width, stem = options.width, 0 if options.pyramid == "max" else options.stem
        dims = [feature_dim, *[width] * (options.embedding - 1)]
        self.embd = nn.ModuleList(Conv(dim, width) for dim in dims)
        self.embd_norm = nn.ModuleList(Norm(width) for _ in dims)
        self.stem = nn.ModuleList(_block(1, options) for _ in range(stem))
        self.branch = nn.ModuleList(_block(2, options) for _ in range(options.levels - 1))

    def forward(self, rows: Tensor, packing: Packing, keep: Tensor | None) -> list[tuple[Tensor, Packing]]:
        for convolution, norm in zip(self.embd, self.embd_norm, strict=True):
            rows = functional.relu(norm(convolution(rows, packing)))
        kept = iter(()) if keep is None else iter(keep)
        for block in self.stem:
            rows = block(rows, packing, next(kept, None))
        levels = [(rows, packing)]
        for block in self.branch:
            rows = block(rows, packing, next(kept, None))
            packing = packing.halved()
            levels.append((rows, packing))
        return levels


class Neck(nn.Module):
    """Normalisation of each level, after adding the levels from the top down if wanted."""

    def __init__(self, options: PointNetworkOptions) -> None:
        super().__init__()
        width, levels = options.width, range(options.levels)
        self.top_down = options.top_down
        if self.top_down:
            self.lateral_convs = nn.ModuleList(Conv(width, width, kernel=1) for _ in levels)
            self.fpn_convs = nn.ModuleList(Conv(width, width, groups=width) for _ in levels)
        if options.pyramid == "max":
            self.group_norm = GroupNorm()
        else:
            self.fpn_norms = nn.ModuleList(Norm(width) for _ in levels)

    def forward(self, levels: Sequence[tuple[Tensor, Packing]]) -> list[Tensor]:
        rows, packings = [each for each, _ in levels], [packing for _, packing in levels]
        if self.top_down:
            rows = [conv(each, packing) for conv, (each, packing) in zip(self.lateral_convs, levels, strict=True)]
            for lower in reversed(range(len(rows) - 1)):
                rows[lower] = rows[lower] + rows[lower + 1].repeat_interleave(2, dim=0)
            rows = [conv(each, packing) for conv, each, packing in zip(self.fpn_convs, rows, packings, strict=True)]
        if hasattr(self, "group_norm"):
            return [self.group_norm(each, packing) for each, packing in zip(rows, packings, strict=True)]
        return [norm(each) for norm, each in zip(self.fpn_norms, rows, strict=True)]


class Tower(nn.Module):
    """The convolutions of a head, shared by all levels."""

    def __init__(self, options: PointNetworkOptions) -> None:
        super().__init__()
        self.head = nn.ModuleList(Conv(options.width, options.width) for _ in range(2))
        self.norm = nn.ModuleList(Norm(options.width) for _ in range(2))

    def hidden(self, rows: Tensor, packing: Packing) -> Tensor:
        for convolution, norm in zip(self.head, self.norm, strict=True):
            rows = functional.relu(norm(convolution(rows, packing)))
        return rows


class ClassHead(Tower):
    """Logits of the classes of each point."""

    def __init__(self, options: PointNetworkOptions, classes: int) -> None:
        super().__init__(options)
        self.cls_head = Conv(options.width, classes, bias=True)

    def forward(self, rows: Tensor, packing: Packing) -> Tensor:
        logits: Tensor = self.cls_head(self.hidden(rows, packing), packing)
        return logits


class Scale(nn.Module):
    """A learned factor."""

    scale: nn.Parameter

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))


class DistanceHead(Tower):
    """Distances from each point to the start and to the end of its action, in steps of the point's level."""

    def __init__(self, options: PointNetworkOptions) -> None:
        super().__init__(options)
        self.offset_head = Conv(options.width, 2, bias=True)
        self.scale = nn.ModuleList(Scale() for _ in range(options.levels))

    def forward(self, rows: Tensor, packing: Packing, counts: Sequence[int]) -> Tensor:
        factors = torch.stack([each.scale for each in self.scale if isinstance(each, Scale)])
        of_rows = factors.repeat_interleave(torch.tensor(counts, device=rows.device), output_size=len(rows))
        return functional.relu(self.offset_head(self.hidden(rows, packing), packing) * of_rows[:, None])


class Points(NamedTuple):
    """The result of the network for P points, level after level, and within a level video after video.

    ``logits``: ``(P, K)``; ``distances``: ``(P, 2)``, steps of the level to start and end; ``packings``: of each level,
    which say to which video and position each point belongs.
    """

    logits: Tensor
    distances: Tensor
    packings: tuple[Packing, ...]


class PointNetwork(nn.Module):
    """Classes and distances to start and end at every point of a temporal pyramid.

    ``feature_dim``: D; ``classes``: K. Linear and convolutional weights start as in torch, drawn from ``generator``;
    biases at 0, those of the classes at a probability of 0.01, those of the distances at 1.
    """

    def __init__(
        self,
        feature_dim: int,
        classes: int,
        options: PointNetworkOptions,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if feature_dim < 1 or classes < 1:
            raise UserError(f"a head needs at least one feature and one class, got {feature_dim} and {classes}")
        self.feature_dim, self.classes, self.shape = feature_dim, classes, options
        self.backbone = Backbone(feature_dim, options)
        self.neck = Neck(options)
        self.cls_head = ClassHead(options, 1 if options.class_agnostic else classes)
        self.reg_head = DistanceHead(options)
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        bias = self.cls_head.cls_head.conv.bias
        assert bias is not None
        nn.init.constant_(bias, -math.log((1 - _PRIOR) / _PRIOR))
        # Distances that are below 0 at all points have no gradient. The published code starts at 0, where this happens.
        assert self.reg_head.offset_head.conv.bias is not None
        nn.init.ones_(self.reg_head.offset_head.conv.bias)

    @property
    def blocks(self) -> int:
        """Number of blocks that may be left out in training."""
        return len(self.backbone.stem) + len(self.backbone.branch)

    def forward(self, rows: Tensor, packing: Packing, keep: Tensor | None = None) -> Points:
        """``rows``: packed features ``(N, D)``; ``keep``: factors of the branches of each block for each video,
        ``(blocks, 2, V)``, None where nothing is left out."""
        levels = self.backbone(rows, packing, keep)
        packings = tuple(each for _, each in levels)
        merged, all_levels = torch.cat(self.neck(levels)), joined(packings)
        counts = [len(each) for each in packings]
        return Points(self.cls_head(merged, all_levels), self.reg_head(merged, all_levels, counts), packings)


__all__ = ["PointNetwork", "PointNetworkOptions", "Points"]
