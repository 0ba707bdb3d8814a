"""A backbone that learns: which of its layers, how fast, in which precision, and in how much memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ssn_feat.backbones import Backbone
from ssn_feat.errors import UserError
from ssn_feat.training.fit_options import OptimisationOptions

BatchNormMode = Literal["frozen", "partial", "full"]
Precision = Literal["float32", "bfloat16", "float16"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class TuningOptions:
    """How the backbone learns. The defaults are the original's."""

    batch_norm: BatchNormMode = "frozen"
    """Which batch-norm layers learn: none, the first (partial) or all (full)."""
    freeze_until: str = ""
    """Name of the first module of the backbone that learns; all before it stay as they are. Empty: all learn."""
    backbone_lr: float = 1.0
    """Factor of the learning rate for the backbone."""
    clip: float = 0.0
    """Length to which the gradient of all parameters together is cut; 0: not at all."""
    precision: Precision = "float32"
    """Numbers that the backbone computes with; weights, head and losses stay float32."""
    checkpoint_activations: int = 0
    """Images whose activations are in memory at once, computed again for the gradient: a third more time, and memory
    for so many images instead of the whole batch. 0: all are kept."""

    def __post_init__(self) -> None:
        for name in ("backbone_lr", "clip", "checkpoint_activations"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} must be finite and not negative, it is {getattr(self, name)}")
        if self.checkpoint_activations and self.batch_norm != "frozen":
            raise UserError("checkpoint_activations needs --batch-norm frozen: statistics would be of parts of a batch")


class FeatureNetwork(nn.Module):
    """Pixels to features (N, D), with gradient: uint8 (N, C, H, W) as the backbone takes them, or normalised floats."""

    def __init__(self, backbone: Backbone, options: TuningOptions) -> None:
        super().__init__()
        self.module = backbone.module
        self._backbone, self._options = (backbone,), options  # in a tuple: it is no module, and shares this one's

    def forward(self, pixels: Tensor) -> Tensor:
        """Features in float32 (float64 where the input is)."""
        size = self._options.checkpoint_activations
        if not size or not torch.is_grad_enabled():
            return self._features(pixels)
        parts = [checkpoint(self._features, part, use_reentrant=False) for part in pixels.split(size)]
        return torch.cat(parts)

    def _features(self, pixels: Tensor) -> Tensor:
        images = pixels if pixels.is_floating_point() else self._backbone[0].preprocess(pixels)
        with self._autocast(images.device):
            features: Tensor = self.module(images)
        return features if features.dtype == torch.float64 else features.float()

    def _autocast(self, device: torch.device) -> Any:
        if self._options.precision == "float32":
            return nullcontext()
        return torch.autocast(device.type, getattr(torch, self._options.precision))

    def train(self, mode: bool = True) -> FeatureNetwork:
        """As of any module, but only the batch-norm layers that learn keep statistics."""
        super().train(mode)
        if mode:
            _hold_still(self.module, self._options)
        return self


def set_batch_norm(module: nn.Module, mode: BatchNormMode) -> None:
    """Which batch-norm layers learn: none (``frozen``), the first (``partial``, as the original) or all (``full``)."""
    layers = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    learning = {"frozen": 0, "partial": 1, "full": len(layers)}[mode]
    for index, layer in enumerate(layers):
        layer.train(index < learning)
        layer.requires_grad_(index < learning)


def _hold_still(module: nn.Module, options: TuningOptions) -> None:
    set_batch_norm(module, options.batch_norm)
    for layer in _before(module, options.freeze_until):
        layer.eval()
        layer.requires_grad_(False)


def _before(module: nn.Module, name: str) -> Iterator[nn.Module]:
    """The modules that lie wholly before ``name``. Raises UserError where there is no such module."""
    if not name:
        return
    names = [own for own, _ in module.named_modules() if own]
    if name not in names:
        some = ", ".join([own for own in names if "." not in own][:40])
        raise UserError(f"the backbone has no module {name!r} to freeze until; there are {some}")
    for own in names[: names.index(name)]:
        if not name.startswith(f"{own}."):
            yield module.get_submodule(own)


def learning_groups(
    backbone: nn.Module, head: nn.Module, options: OptimisationOptions, factor: float = 1.0
) -> list[dict[str, Any]]:
    """The parameters that learn, each in one group with its factors ``lr_mult`` and ``decay_mult``, as the original.

    Weights as given, biases with ``bias_lr`` and ``bias_decay``; scale and shift of normalisation without factor for
    the rate and with ``bias_decay``. Groups tell the backbone's first convolution, the rest of it (both times
    ``factor``), its normalisation and the head apart.
    """
    made: dict[str, dict[str, Any]] = {}

    def add(name: str, parameter: nn.Parameter, rate: float, decay: float) -> None:
        if parameter.requires_grad:
            group = made.setdefault(name, {"name": name, "params": [], "lr_mult": rate, "decay_mult": decay})
            group["params"].append(parameter)

    first = next((m for m in backbone.modules() if isinstance(m, _CONVOLUTIONS)), None)
    for part, root, scale in (("", backbone, factor), ("head_", head, 1.0)):
        for layer in root.modules():
            prefix = "first_conv" if layer is first else f"{part}normal"
            scaling = all(p.ndim == 1 for p in layer.parameters(recurse=False))
            for name, parameter in layer.named_parameters(recurse=False):
                if scaling:
                    add(f"{part}normalisation", parameter, scale, options.bias_decay)
                elif name == "bias":
                    add(f"{prefix}_bias", parameter, scale * options.bias_lr, options.bias_decay)
                else:
                    add(f"{prefix}_weight", parameter, scale, 1.0)
    return list(made.values())


__all__ = [
    "BatchNormMode",
    "FeatureNetwork",
    "TuningOptions",
    "learning_groups",
    "set_batch_norm",
]
