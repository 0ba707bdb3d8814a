"""Optical flow between gray images, and the 8-bit form in which two-stream networks read it."""

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
"""The methods that run on the device they are given; the others run on the CPU whatever it is."""

# Dense inverse search matches patches of 8 pixels on a pyramid; it fails on images that are hardly larger.
_DIS_SMALLEST = 16


def to_gray(image: np.ndarray) -> np.ndarray:
    """Gray uint8 (H, W) of a BGR uint8 (H, W, 3) image (0.299 R + 0.587 G + 0.114 B)."""
    cv2 = import_cv2()
    gray: np.ndarray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return gray


def default_flow_method(device: torch.device | str) -> FlowMethod:
    """The method that ``auto`` stands for: tvl1_fixed on a GPU, dis on a CPU."""
    return "tvl1_fixed" if torch.device(device).type == "cuda" else "dis"


def flow(
    prev: np.ndarray | torch.Tensor,
    next: np.ndarray | torch.Tensor,
    method: FlowMethod | Literal["auto"] = "dis",
    device: torch.device | str = "cpu",
    weights: Path | str | None = None,
) -> torch.Tensor:
    """Optical flow from each ``prev`` image to its ``next``: float32 (N, 2, H, W) pixels, component 0 to the right.

    ``prev`` and ``next`` are gray uint8 (N, H, W), arrays or tensors on any device. A pair's flow does not depend on
    the other pairs. Methods:

    - ``dis``: dense inverse search (Kroeger et al. 2016), OpenCV's medium preset. CPU; right beyond 8 pixels a frame.
    - ``farneback``: OpenCV's, with the parameters of its sample. CPU; shrinks motion by about a third.
    - ``tvl1``: what two-stream networks were trained on, see :mod:`ssn_feat.video.tvl1`; stops when it has converged.
    - ``tvl1_fixed``: the same with a fixed number of iterations, a whole batch at once, which suits a GPU.
    - ``raft``: torchvision's RAFT; ``weights`` is the file of a state dict of ``raft_large`` or ``raft_small``.
    - ``auto``: dis on a CPU, tvl1_fixed on a GPU.

    tvl1, tvl1_fixed and raft run on ``device``, where the result lies; the others on the CPU whatever it is. Raises
    UserError on an unknown method, images of unequal shape, of another type or too small, and on missing or unfit
    weights.
    """
    chosen = default_flow_method(device) if method == "auto" else method
    return flow_function(chosen, device, weights)(torch.as_tensor(prev), torch.as_tensor(next))


def flow_function(
    method: FlowMethod, device: torch.device | str = "cpu", weights: Path | str | None = None
) -> FlowFunction:
    """A function like :func:`flow` of two tensors, which loads ``weights`` once. Raises UserError like it."""
    device = torch.device(device)
    if (weights is not None) != (method == "raft"):
        raise UserError(
            "raft flow needs weights: a file with the state dict of torchvision's raft_large or raft_small"
            if method == "raft"
            else f"{method} flow has no weights; {weights} is for raft"
        )
    if method in ("dis", "farneback"):
        solve = _dis if method == "dis" else _farneback
        return lambda prev, next: torch.from_numpy(solve(*(t.cpu().numpy() for t in _checked(prev, next))))
    if method in ("tvl1", "tvl1_fixed"):
        from ssn_feat.video.tvl1 import tvl1

        return lambda prev, next: tvl1(*_on(device, *_checked(prev, next)), fixed=method == "tvl1_fixed")
    if method == "raft" and weights is not None:
        from ssn_feat.video.raft import load_raft, raft

        model = load_raft(Path(weights)).to(device)
        return lambda prev, next: raft(model, *_on(device, *_checked(prev, next)))
    raise UserError(f"unknown optical flow method {method!r}: dis, farneback, tvl1, tvl1_fixed or raft")


def _checked(prev: torch.Tensor, next: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if prev.shape != next.shape or prev.ndim != 3 or prev.dtype != torch.uint8 or next.dtype != torch.uint8:
        first, second = (f"{str(t.dtype).removeprefix('torch.')} {tuple(t.shape)}" for t in (prev, next))
        raise UserError(f"optical flow needs two gray uint8 arrays (N, H, W) of one shape, not {first} and {second}")
    return prev, next


def _on(device: torch.device, prev: torch.Tensor, next: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return to_device(prev, device), to_device(next, device)


def to_device(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """``images`` on ``device``, copied from pinned memory where that lets the host go on meanwhile."""
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
    """Flow as uint8: -bound..bound pixels on 0..255, clipped, rounded to the nearest (halves to even, as OpenCV).

    Any shape. No motion becomes 128, the mean that the networks subtract. Steps are 2 * bound / 255 pixels (0.157 for
    the usual bound of 20, at which published flow networks were trained).
    """
    return scale_flow(flow, bound).clamp_(0.0, 255.0).round_().to(torch.uint8)


def scale_flow(flow: torch.Tensor, bound: float = 20.0) -> torch.Tensor:
    """Flow on the scale of 8 bits, neither clipped nor rounded: -bound..bound pixels on 0..255, float32. Any shape."""
    return flow.to(torch.float32).add(bound).mul_(255.0 / (2.0 * bound))


def dequantise_flow(quantised: torch.Tensor, bound: float = 20.0) -> torch.Tensor:
    """Float32 pixels of flow in 8 bits; the inverse of :func:`quantise_flow` up to its rounding. Any shape."""
    return quantised.to(torch.float32) * (2.0 * bound / 255.0) - bound
