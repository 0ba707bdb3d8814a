"""Optical flow between gray images, and its 8-bit encoding for two-stream networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from ssn_feat.errors import UserError
from ssn_feat.video.opencv import import_cv2

FlowMethod = Literal["dis", "farneback", "tvl1", "tvl1_fixed", "raft"]
FlowFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

ON_DEVICE: tuple[FlowMethod, ...] = ("tvl1", "tvl1_fixed", "raft")
"""The methods that run on the given device; the other methods always run on the CPU."""

# Dense inverse search matches patches of 8 pixels on a pyramid; it fails on images that are only slightly larger.
_DIS_SMALLEST = 16


def to_gray(image: np.ndarray) -> np.ndarray:
    """Convert a BGR uint8 (H, W, 3) image to gray uint8 (H, W) (0.299 R + 0.587 G + 0.114 B)."""
    cv2 = import_cv2()
    gray: np.ndarray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return gray


def default_flow_method(device: torch.device | str) -> FlowMethod:
    """Return the method that ``auto`` selects: tvl1_fixed on a GPU, dis on a CPU."""
    return "tvl1_fixed" if torch.device(device).type == "cuda" else "dis"


def flow(
    prev: np.ndarray | torch.Tensor,
    next: np.ndarray | torch.Tensor,
    method: FlowMethod | Literal["auto"] = "dis",
    device: torch.device | str = "cpu",
    weights: Path | str | None = None,
) -> torch.Tensor:
    """Compute the flow from each ``prev`` image to its ``next``: float32 (N, 2, H, W) pixels, component 0 to the right.

    ``prev`` and ``next`` are gray uint8 (N, H, W), arrays or tensors on any device. A pair's flow does not depend on
    the other pairs. Methods:

    - ``dis``: dense inverse search (Kroeger et al. 2016), OpenCV's medium preset. CPU; accurate above 8 pixels a frame.
    - ``farneback``: OpenCV's, with the parameters of its sample. CPU; underestimates motion by about a third.
    - ``tvl1``: the training flow of two-stream networks, see :mod:`ssn_feat.video.tvl1`; stops at convergence.
    - ``tvl1_fixed``: tvl1 with a fixed number of iterations, solved for a whole batch at once; suited to a GPU.
    - ``raft``: torchvision's RAFT; ``weights`` is a file with the state dict of ``raft_large`` or ``raft_small``.
    - ``auto``: dis on a CPU, tvl1_fixed on a GPU.

    tvl1, tvl1_fixed and raft run on ``device`` and return their result there; the others always run on the CPU.
    Raises UserError if the method is unknown, if the images differ in shape, are not uint8 or are too small, and if
    the weights are missing or do not fit.
    """
    chosen = default_flow_method(device) if method == "auto" else method
    return flow_function(chosen, device, weights)(torch.as_tensor(prev), torch.as_tensor(next))


def flow_function(
    method: FlowMethod, device: torch.device | str = "cpu", weights: Path | str | None = None
) -> FlowFunction:
    """Return a function that computes :func:`flow` of two tensors. Raises the same errors."""
    device = torch.device(device)
    if (weights is not None) != (method == "raft"):
        raise UserError(
            "raft flow needs weights: a file with the state dict of torchvision's raft_large or raft_small"
            if method == "raft"
            else f"{method} flow takes no weights; {weights} is for raft"
        )
    if method in ("dis", "farneback"):
        solve = _dis if method == "dis" else _farneback
        return lambda prev, next: torch.from_numpy(solve(*(t.cpu().numpy() for t in _checked(prev, next))))
    if method in ("tvl1", "tvl1_fixed"):
        from ssn_feat.video.tvl1 import tvl1

        return lambda prev, next: tvl1(*_on(device, *_checked(prev, next)), fixed=method == "tvl1_fixed")
    if method == "raft" and weights is not None:
        from ssn_feat.video.raft import raft, shared_raft

        model = shared_raft(Path(weights), device)
        return lambda prev, next: raft(model, *_on(device, *_checked(prev, next)))
    raise UserError(f"unknown optical flow method {method!r}: dis, farneback, tvl1, tvl1_fixed or raft")


def _checked(prev: torch.Tensor, next: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if prev.shape != next.shape or prev.ndim != 3 or prev.dtype != torch.uint8 or next.dtype != torch.uint8:
        first, second = (f"{str(t.dtype).removeprefix('torch.')} {tuple(t.shape)}" for t in (prev, next))
        raise UserError(f"optical flow needs two gray uint8 arrays (N, H, W) of equal shape, not {first} and {second}")
    return prev, next


def _on(device: torch.device, prev: torch.Tensor, next: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return to_device(prev, device), to_device(next, device)


def to_device(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy ``images`` to ``device``; from the CPU to a GPU, copy asynchronously from pinned memory."""
    if device.type == "cuda" and images.device.type == "cpu":
        return images.pin_memory().to(device, non_blocking=True)
    return images.to(device)


def _dis(prev: np.ndarray, next: np.ndarray) -> np.ndarray:
    cv2 = import_cv2()
    if min(prev.shape[1:]) < _DIS_SMALLEST:
        size = f"{prev.shape[2]}x{prev.shape[1]}"
        raise UserError(f"images of {size} are too small for dis flow (at least {_DIS_SMALLEST} pixels a side)")
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    fields = np.empty((len(prev), 2, *prev.shape[1:]), dtype=np.float32)
    for i in range(len(prev)):
        fields[i] = search.calc(prev[i], next[i], None).transpose(2, 0, 1)
    return fields


def _farneback(prev: np.ndarray, next: np.ndarray) -> np.ndarray:
    cv2 = import_cv2()
    fields = np.empty((len(prev), 2, *prev.shape[1:]), dtype=np.float32)
    for i in range(len(prev)):
        field = cv2.calcOpticalFlowFarneback(prev[i], next[i], None, 0.5, 3, 15, 3, 5, 1.2, 0)
        fields[i] = field.transpose(2, 0, 1)
    return fields


def quantise_flow(flow: torch.Tensor, bound: float = 20.0) -> torch.Tensor:
    """Quantise flow to uint8: map -bound..bound pixels to 0..255, clip, round to nearest (half to even, as OpenCV).

    Any shape. Zero motion becomes 128, the mean that the networks subtract. The step is 2 * bound / 255 pixels (0.157
    for the usual bound of 20, with which published flow networks were trained).
    """
    return scale_flow(flow, bound).clamp_(0.0, 255.0).round_().to(torch.uint8)


def scale_flow(flow: torch.Tensor, bound: float = 20.0) -> torch.Tensor:
    """Map flow of -bound..bound pixels to 0..255 without clipping or rounding; returns float32. Any shape."""
    return flow.to(torch.float32).add(bound).mul_(255.0 / (2.0 * bound))


def dequantise_flow(quantised: torch.Tensor, bound: float = 20.0) -> torch.Tensor:
    """Convert 8-bit flow to float32 pixels; inverts :func:`quantise_flow` up to its rounding. Any shape."""
    return quantised.to(torch.float32) * (2.0 * bound / 255.0) - bound
