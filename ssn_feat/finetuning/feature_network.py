"""Training a backbone: trainable layers, learning rates, precision and memory."""

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
    """Training of the backbone. The defaults are those of the original."""

    batch_norm: BatchNormMode = "frozen"
    """Batch-norm layers to train: none (frozen), the first (partial) or all (full)."""
    freeze_until: str = ""
    """Name of the first module of the backbone to train; all modules before it are frozen. Empty: train all."""
    backbone_lr: float = 1.0
    """Learning rate of the backbone as a multiple of lr."""
    clip: float = 0.0
    """Largest norm of the gradient of all parameters; 0: no clipping."""
    precision: Precision = "float32"
    """Precision of the computations in the backbone; weights, head and losses remain float32."""
    checkpoint_activations: int = 0
    """Number of images whose activations are in memory at the same time. The others are computed again in the backward
    pass, which takes a third more time. 0: keep the activations of the whole batch."""

    def __post_init__(self) -> None:
        for name in ("backbone_lr", "clip", "checkpoint_activations"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} must be finite and not negative, it is {getattr(self, name)}")
        if self.checkpoint_activations and self.batch_norm != "frozen":
            raise UserError("checkpoint_activations needs --batch-norm frozen: batches are computed in parts")


class FeatureNetwork(nn.Module):
    """Features (N, D) of pixels, with gradients: uint8 (N, C, H, W), or floats that are already normalised."""

    def __init__(self, backbone: Backbone, options: TuningOptions) -> None:
        super().__init__()
        self.module = backbone.module
        self._backbone, self._options = (backbone,), options  # in a tuple, so that it is not a submodule

    def forward(self, pixels: Tensor) -> Tensor:
        """Features in float32, or float64 if the input is float64."""
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
        """As in every module, but only trained batch-norm layers update their statistics."""
        super().train(mode)
        if mode:
            _freeze(self.module, self._options)
        return self


def set_batch_norm(module: nn.Module, mode: BatchNormMode) -> None:
    """Train no batch-norm layer (``frozen``), the first (``partial``, as in the original) or all (``full``)."""
    layers = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    learning = {"frozen": 0, "partial": 1, "full": len(layers)}[mode]
    for index, layer in enumerate(layers):
        layer.train(index < learning)
        layer.requires_grad_(index < learning)


def _freeze(module: nn.Module, options: TuningOptions) -> None:
    set_batch_norm(module, options.batch_norm)
    for layer in _before(module, options.freeze_until):
        layer.eval()
        layer.requires_grad_(False)


def _before(module: nn.Module, name: str) -> Iterator[nn.Module]:
    """The modules that are entirely before the module ``name``. Raises UserError if there is no such module."""
    if not name:
        return
    names = [each for each, _ in module.named_modules() if each]
    if name not in names:
        some = ", ".join([each for each in names if "." not in each][:40])
        raise UserError(f"the backbone has no module {name!r} for freeze_until; it has {some}")
    for before in names[: names.index(name)]:
        if not name.startswith(f"{before}."):
            yield module.get_submodule(before)


def learning_groups(
    backbone: nn.Module, head: nn.Module, options: OptimisationOptions, factor: float = 1.0
) -> list[dict[str, Any]]:
    """Parameter groups as in the original: all trainable parameters with factors ``lr_mult`` and ``decay_mult``.

    Weights have the factors 1; biases have ``bias_lr`` and ``bias_decay``; scale and shift of normalisation have
    ``bias_decay`` only. The backbone's first convolution, its other layers, its normalisation and the head are in
    separate groups; ``factor`` multiplies the rates of the backbone.
    """
    groups: dict[str, dict[str, Any]] = {}

    def add(name: str, parameter: nn.Parameter, rate: float, decay: float) -> None:
        if parameter.requires_grad:
            group = groups.setdefault(name, {"name": name, "params": [], "lr_mult": rate, "decay_mult": decay})
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
    return list(groups.values())


__all__ = [
    "BatchNormMode",
    "FeatureNetwork",
    "TuningOptions",
    "learning_groups",
    "set_batch_norm",
]
