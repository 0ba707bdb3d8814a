"""Optical flow between gray images, and the 8-bit form in which two-stream networks read it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from ssn_feat.errors import UserError
from ssn_feat.video.opencv import import_cv2

FlowMethod = Literal["dis", "farneback"]


def to_gray(image: np.ndarray) -> np.ndarray:
    """Gray uint8 (H, W) of a BGR uint8 (H, W, 3) image (0.299 R + 0.587 G + 0.114 B)."""
    gray: np.ndarray = import_cv2().cvtColor(image, import_cv2().COLOR_BGR2GRAY)
    return gray


def flow(prev: np.ndarray, next: np.ndarray, method: FlowMethod = "dis") -> torch.Tensor:
    """Optical flow from each ``prev`` image to its ``next``: float32 (N, 2, H, W) pixels, component 0 to the right.

    ``prev`` and ``next`` are gray uint8 (N, H, W). Methods: ``dis`` (dense inverse search, Kroeger et al. 2016, at
    OpenCV's medium preset; right beyond 8 pixels a frame) and ``farneback`` (OpenCV's sample parameters). A pair's
    flow does not depend on the other pairs. Raises UserError on an unknown method or images of unequal shape or type.
    """
    if prev.shape != next.shape or prev.ndim != 3 or prev.dtype != np.uint8 or next.dtype != np.uint8:
        raise UserError(
            f"optical flow needs two gray uint8 arrays (N, H, W) of one shape, not {prev.dtype} {prev.shape} "
            f"and {next.dtype} {next.shape}"
        )
    if method == "dis":
        fields = _dis(prev, next)
    elif method == "farneback":
        fields = _farneback(prev, next)
    else:
        raise UserError(f"unknown optical flow method {method!r}: dis or farneback")
    return torch.from_numpy(fields)


# Dense inverse search builds a pyramid of patches of 8 pixels; it fails on images smaller than one patch at the
# finest level it computes.
_DIS_SMALLEST = 16


def _dis(prev: np.ndarray, next: np.ndarray) -> np.ndarray:
    cv2 = import_cv2()
    if min(prev.shape[1:]) < _DIS_SMALLEST:
        height, width = prev.shape[1:]
        raise UserError(
            f"images of {width}x{height} are too small for dis flow (at least {_DIS_SMALLEST} pixels a side)"
        )
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
    scaled = (flow.clamp(-bound, bound) + bound) * (255.0 / (2.0 * bound))
    return scaled.round().to(torch.uint8)


def dequantise_flow(quantised: torch.Tensor, bound: float = 20.0) -> torch.Tensor:
    """Float32 pixels of flow in 8 bits; the inverse of :func:`quantise_flow` up to its rounding. Any shape."""
    return quantised.to(torch.float32) * (2.0 * bound / 255.0) - bound
