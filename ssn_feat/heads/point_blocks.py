"""The layers and blocks of the network of the one-stage detector, on the rows of packed videos."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssn_feat.heads.attention import attend_all, attend_near
from ssn_feat.heads.point_options import PointNetworkOptions
from ssn_feat.heads.sequences import Packing, convolve, convolve_channels, pairs, pool_pairs


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


__all__ = ["AttentionBlock", "Conv", "ConvBlock", "GroupNorm", "MaxBlock", "Norm"]
