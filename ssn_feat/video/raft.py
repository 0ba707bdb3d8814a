"""RAFT optical flow (Teed and Deng 2020) from torchvision, with weights from a file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from torch.nn.functional import pad

from ssn_feat.errors import UserError
from ssn_feat.hashes import read_checked
from ssn_feat.safe_loading import load_torch, one_line

_STEP, _SMALLEST = 8, 128  # RAFT works at 1/8 of the size and needs 16 pixels per side there


def load_raft(path: Path) -> torch.nn.Module:
    """Load torchvision's ``raft_large`` or ``raft_small``, as the state dict in ``path`` requires, in evaluation mode.

    Raises UserError if torchvision is missing, if the file cannot be read, or if it fits neither network.
    """
    try:
        from torchvision.models import optical_flow
    except (ImportError, RuntimeError) as error:
        raise UserError(f"raft flow needs torchvision, which cannot be loaded ({error})") from None
    try:
        state = load_torch(read_checked(path))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the RAFT weights {path}: {one_line(error)}") from None
    first = state.get("feature_encoder.convnormrelu.0.weight") if isinstance(state, dict) else None
    if not isinstance(first, torch.Tensor) or not first.ndim:
        raise UserError(f"{path} is not a state dict of torchvision's RAFT (no feature_encoder.convnormrelu.0.weight)")
    model = (optical_flow.raft_small if len(first) == 32 else optical_flow.raft_large)(weights=None)
    try:
        model.load_state_dict(state)
    except Exception as error:  # of names and values of any type
        raise UserError(f"{path} does not fit torchvision's RAFT: {one_line(error)}") from None
    evaluating: torch.nn.Module = model.eval()
    return evaluating


def shared_raft(path: Path, device: torch.device) -> torch.nn.Module:
    """:func:`load_raft` on ``device``, loaded once per process as long as the file and the device stay the same."""
    about = path.stat() if path.is_file() else None
    return _shared(path, device, about and (about.st_size, about.st_mtime_ns))


# Videos, and the parts of a video between gaps, are read one after the other: only the last network is kept.
@lru_cache(maxsize=1)
def _shared(path: Path, device: torch.device, version: tuple[int, int] | None) -> torch.nn.Module:
    return load_raft(path).to(device)


def raft(model: torch.nn.Module, prev: torch.Tensor, next: torch.Tensor, batch_size: int = 8) -> torch.Tensor:
    """Compute flow (pixels) from ``prev`` to ``next``: gray uint8 (N, H, W) on its device -> float32 (N, 2, H, W).

    The gray image is repeated in all three colour channels; borders are replicated up to a multiple of 8 pixels.
    """
    height, width = prev.shape[1:]
    if min(height, width) < _SMALLEST:
        raise UserError(f"images of {width}x{height} are too small for raft flow (at least {_SMALLEST} pixels a side)")
    margin = (0, -width % _STEP, 0, -height % _STEP)

    def prepared(images: torch.Tensor) -> torch.Tensor:
        scaled = images[:, None].to(torch.float32) / 127.5 - 1
        return pad(scaled, margin, mode="replicate").expand(-1, 3, -1, -1).contiguous()

    with torch.no_grad():
        fields = [
            model(prepared(prev[i : i + batch_size]), prepared(next[i : i + batch_size]))[-1][..., :height, :width]
            for i in range(0, len(prev), batch_size)
        ]
    return torch.cat(fields)
