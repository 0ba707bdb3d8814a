"""The network of the one-stage detector: a pyramid over the rows of a video, and a class and two distances per point.

Definitions follow ActionFormer (Zhang et al., ECCV 2022) and, for the pyramid of maxima, TemporalMaxer (Tang et al.,
2023). Parameters have the names and shapes of their published code, so that its checkpoints load.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssn_feat.errors import UserError
from ssn_feat.heads.attention import attend_all, attend_near
from ssn_feat.heads.sequences import Packing, convolve, convolve_channels, joined, pairs, pool_pairs

# Probability of a class at the beginning of the training, as in RetinaNet.
_PRIOR = 0.01


@dataclass(frozen=True)
class PointNetworkOptions:
    """Shape of the network of the one-stage detector."""

    pyramid: Literal["attention", "max", "conv"] = "attention"
    """How a level of the pyramid is made from the one below: attention (ActionFormer), the maximum of neighbours
    (TemporalMaxer), or convolutions."""
    width: int = 512
    """Number of channels."""
    levels: int = 6
    """Number of levels of the pyramid; level l has a point at every 2^l-th row."""
    embedding: int = 2
    """Number of convolutions between the features and the pyramid."""
    stem: int = 2
    """Number of blocks of attention or convolution at the lowest level; the pyramid of maxima has none."""
    attention_heads: int = 4
    """Number of attention heads."""
    window: int = 19
    """Number of neighbouring rows that attention sees; 0: all rows of the video."""
    top_down: bool = False
    """Add each level of the pyramid to the one below (feature pyramid network)."""
    drop_path: float = 0.1
    """Probability with which the branch of a block is left out in training, in [0, 1)."""
    class_agnostic: bool = False
    """Learn where actions are, without their classes: proposals."""

    def __post_init__(self) -> None:
        for name in ("width", "levels", "embedding", "attention_heads"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.stem < 0 or not 0 <= self.drop_path < 1:
            raise UserError(f"need stem >= 0 and drop_path in [0, 1), got {self.stem} and {self.drop_path}")
        if self.window < 0 or (self.window % 2 == 0 and self.window):
            raise UserError(f"window must be an odd number of rows, or 0 for all rows, not {self.window}")
        if self.width % self.attention_heads:
            raise UserError(f"width {self.width} must be a multiple of attention_heads {self.attention_heads}")

    @property
    def stride(self) -> int:
        """Rows between two points of the highest level."""
        return 1 << (self.levels - 1)


class Norm(nn.Module):
    """Layer normalisation over channels. Parameters have the shape ``(1, C, 1)`` of the published code."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, channels, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1))

    def forward(self, rows: Tensor) -> Tensor:
        return functional.layer_norm(rows, (rows.shape[1],), self.weight.view(-1), self.bias.view(-1), 1e-5)


class Conv(nn.Module):
    """A convolution over packed rows; results outside the videos are zero."""

    def __init__(self, channels: int, out: int, kernel: int = 3, groups: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, out, kernel, groups=groups, bias=bias)

    def forward(self, rows: Tensor, packing: Packing) -> Tensor:
        weight, bias = self.conv.weight, self.conv.bias
        if self.conv.groups > 1:
            result = convolve_channels(rows, weight, packing)
        elif weight.shape[2] == 1:
            result = functional.linear(rows, weight[:, :, 0], bias)
        else:
            result = convolve(rows, weight, bias, packing)
        return result * packing.mask


class PointWise(nn.Conv1d):
    """A linear layer with the parameters of a convolution of kernel 1."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(channels, out, 1)

    def forward(self, rows: Tensor) -> Tensor:
        return functional.linear(rows, self.weight[:, :, 0], self.bias)


class Branch(nn.Module):
    """A scale per channel, initially small, and the chance to be left out of a video in training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1, channels, 1), 1e-4))

    def forward(self, rows: Tensor, keep: Tensor | None) -> Tensor:
        scaled = rows * self.scale.view(-1)
        return scaled if keep is None else scaled * keep


class Attention(nn.Module):
    """Multi-head attention whose queries, keys and values see their neighbours by a convolution."""

    def __init__(self, channels: int, stride: int, options: PointNetworkOptions) -> None:
        super().__init__()
        self.stride, self.heads, self.reach = stride, options.attention_heads, options.window // 2
        for name in ("query", "key", "value"):
            setattr(self, f"{name}_conv", Conv(channels, channels, groups=channels))
            setattr(self, f"{name}_norm", Norm(channels))
            setattr(self, name, PointWise(channels, channels))
        self.proj = PointWise(channels, channels)

    def forward(self, rows: Tensor, packing: Packing, above: Packing) -> Tensor:
        """``packing``: of ``rows``; ``above``: of the result, which has half as many rows with stride 2."""

        def part(name: str) -> Tensor:
            weight = getattr(self, f"{name}_conv").conv.weight
            mixed = convolve_channels(rows, weight, packing, self.stride) * above.mask
            projected: Tensor = getattr(self, name)(getattr(self, f"{name}_norm")(mixed))
            return projected.view(len(projected), self.heads, -1)

        query, key, value = part("query"), part("key"), part("value")
        if self.reach:
            attended = attend_near(query, key, value, above, self.reach)
        else:
            attended = attend_all(query, key, value, above)
        result: Tensor = self.proj(attended.flatten(1)) * above.mask
        return result


class AttentionBlock(nn.Module):
    """A transformer block, with stride 2 from one level of the pyramid to the next."""

    def __init__(self, stride: int, options: PointNetworkOptions) -> None:
        super().__init__()
        width, self.stride = options.width, stride
        self.ln1, self.ln2 = Norm(width), Norm(width)
        self.attn = Attention(width, stride, options)
        # Of the published code: the two layers are the entries 0 and 3, between them activation and dropout.
        self.mlp = nn.ModuleDict({"0": PointWise(width, 4 * width), "3": PointWise(4 * width, width)})
        if options.drop_path:
            self.drop_path_attn, self.drop_path_mlp = Branch(width), Branch(width)

    def forward(self, rows: Tensor, packing: Packing, keep: Tensor | None) -> Tensor:
        above = packing.halved() if self.stride == 2 else packing
        keeps = (None, None) if keep is None else keep[:, above.video, None].unbind()
        skipped = pool_pairs(rows, packing) if self.stride == 2 else rows
        attended = self.attn(self.ln1(rows), packing, above)
        result = skipped * above.mask + self._branch("attn", attended, keeps[0])
        hidden = functional.gelu(self.mlp["0"](self.ln2(result)))
        return result + self._branch("mlp", self.mlp["3"](hidden) * above.mask, keeps[1])

    def _branch(self, name: str, rows: Tensor, keep: Tensor | None) -> Tensor:
        branch = getattr(self, f"drop_path_{name}", None)
        return rows if branch is None else branch(rows, keep)


class ConvBlock(nn.Module):
    """Two convolutions with a shortcut, with stride 2 from one level of the pyramid to the next."""

    def __init__(self, stride: int, options: PointNetworkOptions) -> None:
        super().__init__()
        width, self.stride = options.width, stride
        self.conv1, self.conv2 = Conv(width, 2 * width, bias=True), Conv(2 * width, width, bias=True)
        if stride == 2:
            self.downsample = Conv(width, width, kernel=1, bias=True)

    def forward(self, rows: Tensor, packing: Packing, keep: Tensor | None) -> Tensor:
        hidden = convolve(rows, self.conv1.conv.weight, self.conv1.conv.bias, packing)
        above, shortcut = packing, rows
        if self.stride == 2:
            above, hidden = packing.halved(), pairs(hidden)[0]
            shortcut = self.downsample(pairs(rows)[0], above)
        hidden = functional.relu(hidden * above.mask)
        return functional.relu(self.conv2(hidden, above) + shortcut)


class MaxBlock(nn.Module):
    """The maximum of neighbours, from one level of the pyramid to the next."""

    def forward(self, rows: Tensor, packing: Packing, keep: Tensor | None) -> Tensor:
        return pool_pairs(rows, packing) * packing.halved().mask


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


class GroupNorm(nn.Module):
    """Normalisation of groups of channels over the extent of each video, without parameters (TemporalMaxer)."""

    groups = 4

    def forward(self, rows: Tensor, packing: Packing) -> Tensor:
        grouped = rows.unflatten(1, (self.groups, -1))
        mean = packing.mean(grouped.mean(dim=2))
        centred = grouped - mean[packing.video, :, None]
        variance = packing.mean(centred.square().mean(dim=2))
        scaled: Tensor = centred * (variance + 1e-5).rsqrt()[packing.video, :, None]
        return scaled.flatten(1)


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
