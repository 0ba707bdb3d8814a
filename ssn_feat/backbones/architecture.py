"""The common description of a network: a module without its classifier, and the normalisation of its input."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from ssn_feat.errors import UserError


@dataclass(frozen=True)
class Normalisation:
    """Normalisation of 8-bit pixels to float network input: ``(pixel - mean) / std``, in units of 0..255."""

    mean: tuple[float, ...]
    """One value, or one per channel in the channel order of the network's input."""
    std: tuple[float, ...] = (1.0,)
    """One value, or one per channel in the channel order of the network's input."""
    order: Literal["bgr", "rgb"] = "bgr"
    """Order of the colour channels that the network expects; input pixels are always BGR."""

    def __post_init__(self) -> None:
        if self.order not in ("bgr", "rgb"):
            raise UserError(f"the colour order of a normalisation must be bgr or rgb, not {self.order!r}")
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)) or min(self.std, default=0) <= 0:
            raise UserError(f"a normalisation needs finite means and positive stds, not {self.mean} and {self.std}")

    def for_flow(self) -> Normalisation:
        """Return the normalisation of 8-bit flow for the same network: mean 128 (zero motion), std mean(stds)."""
        return Normalisation(mean=(128.0,), std=(sum(self.std) / len(self.std),), order="bgr")


@dataclass
class Architecture:
    """A network without its classifier, before weights are loaded."""

    module: nn.Module
    """Maps normalised float input (N, C, H, W), or (N, C, T, H, W) for clips, to features (N, D)."""
    feature_dim: int
    """Feature dimension D."""
    input_size: int
    """Height and width of the input, in pixels."""
    normalisation: Normalisation
    """Normalisation of RGB input."""
    classifier: tuple[str, ...] = ()
    """Name prefixes of the weights of removed layers; such weights in a file are ignored."""
    clip_length: int | None = None
    """Number of frames per input of a video model; None if the input is a single image or a stack of flow."""
    pretrained: Callable[[str | None], Path | dict[str, torch.Tensor]] | None = None
    """Returns the network's own pretrained weights (a file or a state dict) by name, or the default for None.
    Raises UserError for an unknown name."""
    inflatable: bool = True
    """Whether the first convolution takes RGB and can be inflated to the channels of flow."""
    brings_weights: bool = False
    """Whether the module already has its weights (a user's own module)."""


def remove_classifier(module: nn.Module) -> tuple[int, str]:
    """Replace the last linear or convolution layer of ``module`` with the identity.

    Returns the number of input features of that layer and the prefix of its name. Raises UserError if there is none.
    """
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, _CLASSIFIERS)}
    if not layers:
        raise UserError(f"{type(module).__name__} has no linear or convolution layer that could be its classifier")
    name, layer = list(layers.items())[-1]
    module.set_submodule(name, nn.Identity())
    features = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
    return int(features), f"{name}."


_CLASSIFIERS = (nn.Linear, nn.Conv2d, nn.Conv3d)


@torch.no_grad()
def he_initialise(module: nn.Module) -> nn.Module:
    """Draw convolution weights from N(0, 2 / fan_in) and set biases to 0, so that activations keep their scale.

    PyTorch's default shrinks activations at each layer, so the features of a deep random ReLU net would be constant.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module
