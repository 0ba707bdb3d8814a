"""Initialise a flow network from an RGB network: cross-modality initialisation (TSN, ECCV 2016, section 3.2)."""

from __future__ import annotations

import torch
from torch import nn

from ssn_feat.errors import UserError

Convolution = nn.Conv2d | nn.Conv3d


def inflate(weight: torch.Tensor, channels: int, keep_rgb: bool = False) -> torch.Tensor:
    """Convert the kernels of a first convolution to another number of input channels.

    ``weight`` is (out, in, k, k) or (out, in, k, k, k). The mean over the input channels is repeated, NOT rescaled
    (as in the published flow networks). With ``keep_rgb``, the original kernels come first and only the
    ``channels - in`` additional channels get the mean. Returns (out, channels, ...) of the same dtype.
    """
    if weight.ndim not in (4, 5):
        raise UserError(f"convolution kernels must have 4 or 5 dimensions, not shape {tuple(weight.shape)}")
    kept = weight.shape[1] if keep_rgb else 0
    if channels <= kept:
        raise UserError(f"cannot inflate kernels of {weight.shape[1]} input channels to {channels}")
    repeats = [1, channels - kept] + [1] * (weight.ndim - 2)
    return torch.cat([weight[:, :kept], weight.mean(dim=1, keepdim=True).repeat(repeats)], dim=1).contiguous()


def first_convolution(module: nn.Module) -> tuple[str, Convolution]:
    """Return the name and module of the first convolution. Raises UserError if there is none."""
    for name, layer in module.named_modules():
        if isinstance(layer, Convolution):
            return name, layer
    raise UserError(f"{type(module).__name__} has no convolution whose kernels could be inflated to other channels")


def inflate_input(module: nn.Module, channels: int) -> None:
    """Change the first convolution of ``module`` to ``channels`` input channels, in place, if it has another number.

    Stride, padding, bias and other settings are kept. Raises UserError for a grouped convolution.
    """
    name, layer = first_convolution(module)
    if layer.in_channels == channels:
        return
    if layer.groups != 1:
        raise UserError(
            f"the first convolution {name!r} has {layer.groups} groups; only ungrouped ones can be inflated"
        )
    layer.weight = nn.Parameter(inflate(layer.weight.detach(), channels), requires_grad=layer.weight.requires_grad)
    layer.in_channels = channels
