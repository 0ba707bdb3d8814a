"""Torch devices by name."""

from __future__ import annotations

import torch

from ssn_feat.errors import UserError


def device_of(name: str) -> torch.device:
    """The device ``name``; ``auto`` is a GPU if there is one, else the CPU. Raises UserError if it cannot be used."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"cannot use the device {name!r}: {str(error).splitlines()[0]}") from None


__all__ = ["device_of"]
