"""TV-L1 optical flow (Zach, Pock and Bischof 2007) on batches of image pairs, in PyTorch.

The method, its parameters and its numerics are those of OpenCV's ``DualTVL1OpticalFlow`` with default parameters, on
which two-stream networks were trained: a pyramid of 5 scales with step 0.8, 5 warps per scale, bicubic warping with
zeros outside the image, a 5x5 median filter of the flow before every 30 iterations, and one pass over the unscaled
8-bit gray values. With this step the pyramid covers displacements of about 8 pixels; faster motion is lost.

The solver stores flow multiplied by tau / theta. Its forward differences are then the steps of the dual variable,
which saves two multiplications per iteration.
"""

from __future__ import annotations

import functools
import threading
from contextlib import nullcontext

import torch
from torch.nn.functional import pad

from ssn_feat.errors import UserError
from ssn_feat.video.tvl1_state import TAU, THETA, State

_SCALES, _SCALE_STEP, _WARPS = 5, 0.8, 5
_EPSILON = 0.01
_INNER, _OUTER = 30, 10
_SMALLEST_SCALE = 16
_GAIN = TAU / THETA

# Number of pairs that a GPU solves at once: on an H100, 8 pairs reach 92 % of the speed of 32.
_GPU_BATCH = 16

# Iterations of each warp, coarsest scale first. They bring the six reference pairs within 0.05 px of the converged
# solution without a convergence test. The first warps of a scale need the most iterations.
# On these pairs the flow differs from OpenCV's by 0.043 px in the mean (0.009 px with the convergence test). Most of it
# comes from the last three warps of the finest scale: with 30 instead of 20 iterations there, which is 7 % more work,
# the error of the two worst pairs falls by 29 %. More iterations at the coarser scales change little. 0.074 % of the
# pixels are off by more than 1 px (0.013 % with the convergence test), 79 % of them in two pairs. They lie at strong
# edges (gradients of 21 gray levels in the median, 2 elsewhere), and more iterations do not make them fewer.
_FIXED_COARSEST = (120, 90, 60, 60, 30)
_FIXED_FINER = (60, 30, 20, 20, 20)


def tvl1(prev: torch.Tensor, next: torch.Tensor, fixed: bool = False) -> torch.Tensor:
    """Compute flow from each ``prev`` to its ``next``: uint8 (N, H, W) on any device -> float32 (N, 2, H, W) pixels.

    By default the iterations of a pair stop when the flow changes by less than 0.01 pixels (root mean square), as in
    OpenCV, and pairs are solved one by one. ``fixed`` runs a fixed number of iterations instead: it solves the whole
    batch at once without synchronising the host with the device, which is fast on a GPU. The mean difference to the
    converged flow is below 0.05 pixels. Raises UserError if the images have less than 16 pixels per side.
    """
    if min(prev.shape[1:]) < _SMALLEST_SCALE:
        size = f"{prev.shape[2]}x{prev.shape[1]}"
        raise UserError(f"images of {size} are too small for tvl1 flow (at least {_SMALLEST_SCALE} pixels a side)")
    if len(prev) == 0:
        return prev.new_empty((0, 2, *prev.shape[1:]), dtype=torch.float32)
    # Kernels and graphs start on the current device, which is set per thread.
    with torch.no_grad(), torch.cuda.device(prev.device) if prev.device.type == "cuda" else nullcontext():
        if fixed and prev.device.type == "cuda":
            return _solve_by_graph(prev, next)
        if fixed:
            return _solve(prev, next, fixed=True)
        return torch.cat([_solve(prev[i : i + 1], next[i : i + 1], fixed=False) for i in range(len(prev))])


def fixed_traffic(height: int, width: int) -> int:
    """Return the bytes that the ``fixed`` iterations of a pair move: each reads 11 float32 planes and writes 6.

    An iteration reads flow and dual variable (2 and 4 planes), residual, descent and gradient (1, 2 and 2), and writes
    flow and dual variable. The result divided by the device's bandwidth is the minimum time of a pair that does not
    stay in a cache.
    """
    sizes = [(height, width)]
    while len(sizes) < _SCALES:
        smaller = round(sizes[-1][0] * _SCALE_STEP), round(sizes[-1][1] * _SCALE_STEP)
        if min(smaller) < _SMALLEST_SCALE:
            break
        sizes.append(smaller)
    counts = [sum(_FIXED_FINER)] * (len(sizes) - 1) + [sum(_FIXED_COARSEST)]
    return 17 * 4 * sum(count * rows * columns for count, (rows, columns) in zip(counts, sizes, strict=True))


def _solve_by_graph(prev: torch.Tensor, next: torch.Tensor) -> torch.Tensor:
    graph = _graph(_GPU_BATCH, prev.shape[1], prev.shape[2], prev.device)
    flow = torch.empty((len(prev), 2, *prev.shape[1:]), device=prev.device)
    for start in range(0, len(prev), _GPU_BATCH):
        part = slice(start, start + _GPU_BATCH)
        graph.solve(prev[part], next[part], flow[part])
    return flow


class _Graph:
    """The solution of one batch as a CUDA graph, which the host launches with one call instead of thousands."""

    def __init__(self, count: int, height: int, width: int, device: torch.device) -> None:
        self._lock = threading.Lock()
        self._prev = torch.zeros((count, height, width), dtype=torch.uint8, device=device)
        self._next = torch.zeros_like(self._prev)
        _solve(self._prev, self._next, fixed=True)  # compiles kernels and fills caches, impossible in a capture
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may use the GPU (for a backbone, for example) while this one records.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._flow = _solve(self._prev, self._next, fixed=True)

    def solve(self, prev: torch.Tensor, next: torch.Tensor, flow: torch.Tensor) -> None:
        """Write the flow of up to ``count`` pairs to ``flow``; the rest of the buffers is solved and ignored."""
        with self._lock:
            self._prev[: len(prev)].copy_(prev)
            self._next[: len(next)].copy_(next)
            self._graph.replay()
            flow.copy_(self._flow[: len(flow)])


@functools.lru_cache(maxsize=4)
def _graph(count: int, height: int, width: int, device: torch.device) -> _Graph:
    with torch.cuda.device(device):
        return _Graph(count, height, width, device)


def _solve(prev: torch.Tensor, next: torch.Tensor, fixed: bool) -> torch.Tensor:
    scales = list(zip(_pyramid(prev), _pyramid(next), strict=True))
    coarsest = scales[-1][0]
    u = coarsest.new_zeros((len(prev), 2, *coarsest.shape[2:]))
    for number in range(len(scales) - 1, -1, -1):
        counts = (_FIXED_COARSEST if number == len(scales) - 1 else _FIXED_FINER) if fixed else None
        u = _solve_scale(*scales[number], u, counts)
        if number:
            height, width = scales[number - 1][0].shape[2:]
            ratios = (u.shape[2] / height, u.shape[3] / width)
            u = _resample(u, (height, width), ratios) / _SCALE_STEP
    return u / _GAIN


def _pyramid(images: torch.Tensor) -> list[torch.Tensor]:
    """Return gray float32 (N, 1, h, w) per scale, finest first. Sizes are rounded; the step is exactly 1 / 0.8."""
    scales = [images[:, None].to(torch.float32)]
    while len(scales) < _SCALES:
        height, width = (round(side * _SCALE_STEP) for side in scales[-1].shape[2:])
        if min(height, width) < _SMALLEST_SCALE:
            break
        scales.append(_resample(scales[-1], (height, width), (1 / _SCALE_STEP, 1 / _SCALE_STEP)))
    return scales


def _resample(images: torch.Tensor, size: tuple[int, int], ratios: tuple[float, float]) -> torch.Tensor:
    rows = _linear_weights(images.shape[2], size[0], ratios[0], images.device)
    columns = _linear_weights(images.shape[3], size[1], ratios[1], images.device)
    return rows @ images @ columns.T


@functools.lru_cache(maxsize=64)
def _linear_weights(old: int, new: int, ratio: float, device: torch.device) -> torch.Tensor:
    """Return the (new, old) matrix of linear interpolation at ``(i + 0.5) * ratio - 0.5``, clamped to the image."""
    at = ((torch.arange(new, dtype=torch.float64) + 0.5) * ratio - 0.5).clamp(0, old - 1)
    lower = at.floor().long().clamp(max=old - 2)
    weights = torch.zeros(new, old, dtype=torch.float64)
    index = torch.arange(new)
    weights[index, lower] = 1 - (at - lower)
    weights[index, lower + 1] = at - lower
    return weights.to(device=device, dtype=torch.float32)


def _solve_scale(
    prev: torch.Tensor, next: torch.Tensor, u: torch.Tensor, counts: tuple[int, ...] | None
) -> torch.Tensor:
    """Solve one scale. prev, next (N, 1, h, w); u (N, 2, h, w), scaled; counts: iterations of each warp."""
    state = _state_class(u.device.type)(u)
    moved = torch.cat([next, *_central_differences(next)], dim=1)
    limit = _EPSILON**2 * _GAIN**2 * u.shape[2] * u.shape[3]
    for warp in range(_WARPS):
        _linearise(state, prev, moved)
        count = counts[warp] if counts else _INNER * _OUTER
        for iteration in range(count):
            if iteration % _INNER == 0:
                state.median()
            state.step()
            if not counts and state.squared_change() <= limit:
                break
    return state.u


def _state_class(device_type: str) -> type[State]:
    """Return the inner loop for a device: Triton kernels on a GPU if Triton is installed, else plain PyTorch."""
    if device_type == "cuda":
        try:
            from ssn_feat.video.tvl1_kernels import KernelState
        except ImportError:
            return State
        return KernelState
    return State


def _central_differences(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    padded = pad(images, (1, 1, 1, 1), mode="replicate")
    rows, columns = padded[..., 1:-1, :], padded[..., 1:-1]
    return (rows[..., 2:] - rows[..., :-2]) / 2, (columns[..., 2:, :] - columns[..., :-2, :]) / 2


def _linearise(state: State, prev: torch.Tensor, moved: torch.Tensor) -> None:
    """Warp the second image by the flow and write the residual as a linear function of the flow around it.

    Thresholding (Zach et al., equation 15) moves the flow along the gradient g by the factor -residual / |g|^2, clamped
    to -l..l with l = lambda * theta. Dividing by |g|^2 here leaves one clamp per iteration.
    """
    u = state.u / _GAIN
    warped = state.warp(moved, u)
    gradient = warped[:, 1:]
    inverse = 1 / (gradient * gradient).sum(1, keepdim=True).clamp(min=1e-12)
    offset = warped[:, :1] - prev - (gradient * u).sum(1, keepdim=True)
    torch.mul(offset, -inverse, out=state.residual)
    torch.mul(gradient, -inverse / _GAIN, out=state.descent)
    torch.mul(gradient, _GAIN, out=state.gradient)
