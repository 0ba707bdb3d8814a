"""What a network family hands over: a module without classifier, and how its input is to be normalised."""

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
    """How 8-bit pixels become the float input of a network: ``(pixel - mean) / std``, in units of 0..255."""

    mean: tuple[float, ...]
    """One value, or one for each channel in the order of the network's input."""
    std: tuple[float, ...] = (1.0,)
    """One value, or one for each channel in the order of the network's input."""
    order: Literal["bgr", "rgb"] = "bgr"
    """Order of the colour channels that the network wants; pixels always arrive as BGR."""

    def __post_init__(self) -> None:
        if self.order not in ("bgr", "rgb"):
            raise UserError(f"the colour order of a normalisation is bgr or rgb, not {self.order!r}")
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)) or min(self.std, default=0) <= 0:
            raise UserError(f"a normalisation needs finite means and positive stds, not {self.mean} and {self.std}")

    def for_flow(self) -> Normalisation:
        """The normalisation of 8-bit flow for the same network: 128 is no motion, scaled by the mean of the stds."""
        return Normalisation(mean=(128.0,), std=(sum(self.std) / len(self.std),), order="bgr")


@dataclass
class Architecture:
    """A network without its classifier, before any weights are read into it."""

    module: nn.Module
    """Maps normalised float input (N, C, H, W), or (N, C, T, H, W) for clips, to features (N, D)."""
    feature_dim: int
    """D."""
    input_size: int
    """Height and width of the input, pixels."""
    normalisation: Normalisation
    """Of RGB input."""
    classifier: tuple[str, ...] = ()
    """Prefixes of the weight names of removed layers; a file of weights may hold them and they are passed over."""
    clip_length: int | None = None
    """Frames of one input of a video model; None where the input is a single image or a stack of flow."""
    pretrained: Callable[[str | None], Path | dict[str, torch.Tensor]] | None = None
    """Weights that the family has itself, a file or a state dict: by name, or its default for None.
    Raises UserError for an unknown name."""
    inflatable: bool = True
    """The first convolution takes RGB and may be inflated to the channels of flow."""
    brings_weights: bool = False
    """The module came with the weights that it shall have (a user's own module)."""


def remove_classifier(module: nn.Module) -> tuple[int, str]:
    """Replace the last linear or convolution layer of ``module`` by the identity.

    Returns the number of its input features and its name. Raises UserError where there is no such layer.
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
    """Convolutions from N(0, 2 / fan_in), biases 0, so that activations of a deep ReLU net neither vanish nor explode.

    PyTorch's own default shrinks them at each layer: the features of a deep net of random weights would be constant.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module
