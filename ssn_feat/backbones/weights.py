"""Files of network weights: read without running code, check each name, compute hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssn_feat.backbones.inflation import first_convolution, inflate_input
from ssn_feat.errors import UserError
from ssn_feat.files import write_torch
from ssn_feat.hashes import read_checked
from ssn_feat.safe_loading import load_torch

State = dict[str, torch.Tensor]

_COUNTERS = "num_batches_tracked"  # absent from files written before PyTorch 0.4.1, and not used at inference


@dataclass(frozen=True)
class BackboneWeights:
    """The content of a weights file, split into its parts."""

    path: Path
    sha256: str
    """SHA-256 of the file's bytes."""
    backbone: State
    """Weights of the backbone, named as in its state dict."""
    heads: State = field(default_factory=dict)
    """Weights outside the backbone: ``activity_fc.weight``, ``completeness_fc.bias``, ``classifier_fc.weight``, ..."""
    reg_stats: torch.Tensor | None = None
    """float64 (2, 2) from an SSN checkpoint: [[mean location, mean size], [std location, std size]]."""
    about: dict[str, Any] = field(default_factory=dict)
    """Plain fields of the file other than the weights (arch, epoch, backbone, stream, ...)."""


def read_weights(path: Path | str) -> BackboneWeights:
    """Read a weights file of any of these kinds to the CPU.

    A plain state dict (ImageNet initialisation); ``{"state_dict": ...}``; SSN and actionness checkpoints of the
    original implementation, with the name prefixes ``module.`` and ``base_model.`` for backbone and heads and with
    ``reg_stats`` as a separate entry; files of :meth:`ssn_feat.backbones.Backbone.save`. Nothing in the file is
    executed. Raises UserError for a file that is missing or damaged, or that holds objects other than tensors and
    plain values, or non-finite values.
    """
    path = Path(path)
    content, sha256 = _load(path)
    state = content["state_dict"] if isinstance(content.get("state_dict"), Mapping) else content
    tensors = {str(name): value.detach() for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise UserError(f"{path} holds no weights: no tensors at its top level or under 'state_dict'")
    backbone, heads = _split(tensors)
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise UserError(f"{path}: the weights {name} hold values that are not finite")
    reg_stats = content.get("reg_stats")
    if reg_stats is not None and (not isinstance(reg_stats, torch.Tensor) or reg_stats.shape != (2, 2)):
        raise UserError(f"{path}: reg_stats must be a tensor of shape (2, 2)")
    plain = {str(k): v for k, v in content.items() if isinstance(v, str | int | float | bool)}
    reg_stats = None if reg_stats is None else reg_stats.double()
    return BackboneWeights(path, sha256, backbone, heads, reg_stats, plain)


def _load(path: Path) -> tuple[Mapping[Any, Any], str]:
    """The content of a file and its SHA-256."""
    try:
        content = read_checked(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"no file of weights at {path}") from None
    except OSError as error:
        raise UserError(f"cannot read the weights {path}: {error.strerror}") from None
    try:
        loaded = load_torch(content)
    except ValueError as error:
        raise UserError(
            f"{path} cannot be read as weights (only tensors and plain values may be in it): {error}"
        ) from None
    if not isinstance(loaded, Mapping):
        raise UserError(f"{path} holds a {type(loaded).__name__}, not a mapping of names to weights")
    return loaded, hashlib.sha256(content).hexdigest()


def _split(tensors: State) -> tuple[State, State]:
    """Split a state dict into backbone and heads, after removing the prefix that DataParallel adds."""
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    prefix = "base_model."
    if not any(name.startswith(prefix) for name in tensors):
        return tensors, {}
    backbone = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return backbone, {name: value for name, value in tensors.items() if not name.startswith(prefix)}


def load_state(
    module: nn.Module, state: Mapping[str, torch.Tensor], channels: int | None, passed_over: Sequence[str], source: str
) -> None:
    """Copy weights into ``module`` and set its first convolution to ``channels`` input channels (None: unchanged).

    Weights of an RGB network are inflated; weights that already have ``channels`` channels are used unchanged.
    Names that start with one of ``passed_over`` (removed layers) are ignored. Batch-norm tensors may be (1, C).
    Raises UserError with the names that are missing, unknown or of another shape.
    """
    state = {name: value for name, value in state.items() if not name.startswith(tuple(passed_over))}
    if channels is not None and _input_channels(module, state) == channels:
        inflate_input(module, channels)
    expected = module.state_dict()
    state = {name: _unwrapped(value, expected.get(name)) for name, value in state.items()}
    _check_names(expected, state, source)
    module.load_state_dict({**expected, **state})
    if channels is not None:
        inflate_input(module, channels)


def _input_channels(module: nn.Module, state: Mapping[str, torch.Tensor]) -> int | None:
    """Return the input channels of the first convolution's kernels in ``state``, or None if ``state`` lacks them."""
    kernels = state.get(f"{first_convolution(module)[0]}.weight")
    return kernels.shape[1] if kernels is not None and kernels.ndim >= 4 else None


def _unwrapped(value: torch.Tensor, expected: torch.Tensor | None) -> torch.Tensor:
    """Reshape (1, C) batch-norm tensors, as in the published ImageNet initialisation, to (C,)."""
    return value[0] if expected is not None and expected.ndim == 1 and value.shape == (1, *expected.shape) else value


def _check_names(expected: State, state: State, source: str) -> None:
    missing = [name for name in expected if name not in state and not name.endswith(_COUNTERS)]
    extra = [name for name in state if name not in expected and not name.endswith(_COUNTERS)]
    misshapen = [
        f"{name} {tuple(value.shape)} instead of {tuple(expected[name].shape)}"
        for name, value in state.items()
        if name in expected and value.shape != expected[name].shape
    ]
    parts = {"missing": missing, "not of this network": extra, "of another shape": misshapen}
    if any(parts.values()):
        lists = "; ".join(f"{len(names)} {kind}: {_listed(names)}" for kind, names in parts.items() if names)
        raise UserError(f"the weights {source} do not fit the backbone: {lists}")


def _listed(names: Iterable[str], most: int = 20) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f", ... and {len(names) - most} more" if len(names) > most else "")


def save_state(path: Path, state: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
    """Write weights and plain fields so that :func:`read_weights` can read them; the write is atomic."""
    write_torch(path, {**about, "state_dict": dict(state)})


def state_sha256(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 hex digest of names, dtypes, shapes and values, for weights not from a single file."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()
