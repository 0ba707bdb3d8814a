"""User-defined modules as backbones: ``package.module:callable``."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ssn_feat.backbones.architecture import Architecture, Normalisation
from ssn_feat.errors import UserError


def user_module(spec: str, stream: str, channels: int) -> Architecture:
    """Return the backbone that ``package.module:callable`` returns.

    The contract:

    - The callable is called with the keyword arguments ``stream`` (``"rgb"``, ``"flow"``, ``"rgbdiff"`` or ``"clip"``)
      and ``channels`` (3, 10, 15 or 3), if its signature has them, and returns a :class:`torch.nn.Module`.
    - The module maps normalised float32 (N, C, H, W) to features (N, D). A module with the attribute ``clip_length``
      (T) is a video model, for the stream clip, and maps (N, C, T, H, W).
    - If the signature has neither argument, the module is treated as an RGB network and its first convolution is
      inflated for flow and rgbdiff.
    - Optional attributes of the module: ``input_size`` (pixels, default 224); ``feature_dim`` (D; default: measured
      on two inputs of zeros); ``normalisation`` (a :class:`Normalisation` of RGB input; default: RGB order,
      x / 255). Flow is normalised as (x - 128) / mean of the stds.
    - The returned module's weights are used unless weights are given: a file must hold its state dict;
      ``random:SEED`` seeds PyTorch before the call.

    Raises UserError if the import fails or the contract is violated.
    """
    function = _import(spec)
    accepted = _accepted(function)
    given = {k: v for k, v in {"stream": stream, "channels": channels}.items() if k in accepted}
    module = function(**given)
    if not isinstance(module, nn.Module):
        raise UserError(f"{spec} returned a {type(module).__name__}, not a torch.nn.Module")
    size = getattr(module, "input_size", 224)
    normalisation = getattr(module, "normalisation", Normalisation((0.0,), (255.0,), "rgb"))
    if not isinstance(size, int) or size < 1:
        raise UserError(f"{spec}: input_size must be a whole number of pixels, not {size!r}")
    clip_length = getattr(module, "clip_length", None)
    if clip_length is not None and (not isinstance(clip_length, int) or clip_length < 1):
        raise UserError(f"{spec}: clip_length must be a whole number of frames, not {clip_length!r}")
    if not isinstance(normalisation, Normalisation):
        raise UserError(f"{spec}: normalisation must be an ssn_feat.backbones.Normalisation, not {normalisation!r}")
    shape = (channels if given else 3, *([] if clip_length is None else [clip_length]), size, size)
    dim = getattr(module, "feature_dim", None) or _measured_dim(module, spec, shape)
    return Architecture(
        module,
        dim,
        size,
        normalisation,
        clip_length=clip_length,
        brings_weights=True,
        inflatable=not given and channels != 3,
    )


def _import(spec: str) -> Callable[..., Any]:
    name, _, attribute = spec.partition(":")
    try:
        imported = importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"the backbone {spec} cannot be imported: {error}; put its folder on PYTHONPATH or install its package"
        ) from None
    function = getattr(imported, attribute, None)
    if not callable(function):
        raise UserError(f"the module {name} has no callable named {attribute!r} (backbone {spec})")
    result: Callable[..., Any] = function
    return result


def _accepted(function: Callable[..., Any]) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return {"stream", "channels"}
    return {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}


@torch.inference_mode()
def _measured_dim(module: nn.Module, spec: str, shape: tuple[int, ...]) -> int:
    try:
        features = module.eval()(torch.zeros(2, *shape))
    except RuntimeError as error:  # raised by layers for unsupported input
        reason = str(error).partition("\n")[0]
        raise UserError(f"{spec} cannot take input of shape {(2, *shape)}: {reason}") from None
    if not isinstance(features, torch.Tensor) or features.ndim != 2 or len(features) != 2:
        actual = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
        raise UserError(f"{spec} must map {(2, *shape)} to (2, D), but returned {actual}")
    return features.shape[1]
