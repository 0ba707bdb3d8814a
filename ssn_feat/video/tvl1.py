"""TV-L1 optical flow (Zach, Pock and Bischof 2007) on batches of image pairs, in torch.

The method, its parameters and its numerics are those of OpenCV's ``DualTVL1OpticalFlow`` with default parameters, on
which two-stream networks were trained: a pyramid of 5 scales with step 0.8, 5 warps per scale, bicubic warping with
zeros outside the image, a 5x5 median of the flow before every 30 iterations, one pass of them over the 8-bit gray
values as they are. At this step the pyramid reaches displacements of about 8 pixels; faster motion is lost.

Inside the solver flow is multiplied by tau / theta: the forward differences of that are the steps of the dual variable,
which spares two multiplications per iteration.
"""

from __future__ import annotations

import functools
import threading
from contextlib import nullcontext

import torch
from torch.nn.functional import pad

from ssn_feat.errors import UserError
from ssn_feat.video.opencv import import_cv2

TAU, _LAMBDA, _THETA = 0.25, 0.15, 0.3
LIMIT = _LAMBDA * _THETA
_SCALES, _SCALE_STEP, _WARPS = 5, 0.8, 5
_EPSILON = 0.01
CUBIC_SLOPE = -0.75
_MEDIAN = 5
_INNER, _OUTER = 30, 10
_SMALLEST_SCALE = 16
_GAIN = TAU / _THETA

# Pairs that a GPU solves at once: on an H100, 8 run at 92 % of the speed of 32.
_GPU_BATCH = 16

# Iterations of each warp, coarsest scale first, that bring the six reference pairs within 0.05 px of the converged
# solution without ever asking how far it has come: most are needed where a scale begins.
_FIXED_COARSEST = (120, 90, 60, 60, 30)
_FIXED_FINER = (60, 30, 20, 20, 20)


def tvl1(prev: torch.Tensor, next: torch.Tensor, fixed: bool = False) -> torch.Tensor:
    """Flow from each ``prev`` to its ``next``: uint8 (N, H, W) on any device -> float32 (N, 2, H, W) pixels.

    By default iterations of a pair stop when the flow changes by less than 0.01 pixels (root mean square), as
    OpenCV's; pairs are then solved one by one. ``fixed`` runs a fixed number of iterations instead: the whole batch
    at once with no word from the device to the host in between, which is what a GPU is fast at; the mean difference
    to the converged flow is below 0.05 pixels. Raises UserError on images below 16 pixels a side.
    """
    if min(prev.shape[1:]) < _SMALLEST_SCALE:
        size = f"{prev.shape[2]}x{prev.shape[1]}"
        raise UserError(f"images of {size} are too small for tvl1 flow (at least {_SMALLEST_SCALE} pixels a side)")
    if len(prev) == 0:
        return prev.new_empty((0, 2, *prev.shape[1:]), dtype=torch.float32)
    # Kernels and graphs start on the current device, which is each thread's own.
    with torch.no_grad(), torch.cuda.device(prev.device) if prev.device.type == "cuda" else nullcontext():
        if fixed and prev.device.type == "cuda":
            return _solve_by_graph(prev, next)
        if fixed:
            return _solve(prev, next, fixed=True)
        return torch.cat([_solve(prev[i : i + 1], next[i : i + 1], fixed=False) for i in range(len(prev))])


def fixed_traffic(height: int, width: int) -> int:
    """Bytes that the iterations of a pair must move with ``fixed``: each reads 11 planes of float32 and writes 6.

    Read are flow and dual variable (2 and 4 planes), residual, descent and gradient (1, 2 and 2); written are flow and
    dual variable. Divided by a device's bandwidth it is the least time of a pair that does not stay in a cache.
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
    """All the work on one batch as a CUDA graph: the host starts it with one call instead of thousands."""

    def __init__(self, count: int, height: int, width: int, device: torch.device) -> None:
        self._lock = threading.Lock()
        self._prev = torch.zeros((count, height, width), dtype=torch.uint8, device=device)
        self._next = torch.zeros_like(self._prev)
        _solve(self._prev, self._next, fixed=True)  # compiles kernels, fills caches: neither can happen in a capture
        self._graph = torch.cuda.CUDAGraph()
        # Other threads go on using the GPU (a backbone, say) while this one records.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._flow = _solve(self._prev, self._next, fixed=True)

    def solve(self, prev: torch.Tensor, next: torch.Tensor, flow: torch.Tensor) -> None:
        """Write the flow of at most ``count`` pairs; what lies in the rest of the buffers is solved and left."""
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
    """Gray (N, 1, h, w) float32 at every scale, finest first; sizes are rounded, sampling is at exactly 1 / 0.8."""
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
    """(new, old) matrix of linear interpolation at ``(i + 0.5) * ratio - 0.5``, clamped to the image."""
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
    """The flow of one scale. prev, next (N, 1, h, w); u (N, 2, h, w), scaled; counts: iterations of each warp."""
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


class State:
    """Flow, dual variables and the linearised residual of one scale, and room for intermediate results."""

    def __init__(self, u: torch.Tensor) -> None:
        self.u = u
        self.dual_x, self.dual_y = torch.zeros_like(u), torch.zeros_like(u)
        self.residual, self.descent, self.gradient = (
            torch.empty_like(u[:, :1]),
            torch.empty_like(u),
            torch.empty_like(u),
        )
        # Forward differences; their last column and row stay zero.
        self._step_x, self._step_y = torch.zeros_like(u), torch.zeros_like(u)
        self._change, self._norm, self._threshold = torch.empty_like(u), torch.empty_like(u), torch.empty_like(u[:, :1])

    def warp(self, images: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """``images`` (N, C, h, w) at each pixel's position moved by ``u`` (N, 2, h, w) pixels; zero outside."""
        return warp_opencv(images, u) if u.device.type == "cpu" else warp_gathered(images, u)

    def median(self) -> None:
        """5x5 median of the flow."""
        self.u = median_opencv(self.u) if self.u.device.type == "cpu" else median_network(self.u)

    def step(self) -> None:
        """One iteration, in place: few passes over few planes, which is what it costs on a CPU."""
        u, dual_x, dual_y, change, norm = self.u, self.dual_x, self.dual_y, self._change, self._norm
        step_x, step_y, threshold, descent = self._step_x, self._step_y, self._threshold, self.descent
        torch.addcmul(self.residual, descent[:, :1], u[:, :1], out=threshold)
        threshold.addcmul_(descent[:, 1:], u[:, 1:]).clamp_(-LIMIT, LIMIT)
        torch.mul(self.gradient, threshold, out=change)
        change.add_(dual_x, alpha=TAU).add_(dual_y, alpha=TAU)
        change[..., 1:].sub_(dual_x[..., :-1], alpha=TAU)
        change[..., 1:, :].sub_(dual_y[..., :-1, :], alpha=TAU)
        u.add_(change)
        torch.sub(u[..., 1:], u[..., :-1], out=step_x[..., :-1])
        torch.sub(u[..., 1:, :], u[..., :-1, :], out=step_y[..., :-1, :])
        torch.mul(step_x, step_x, out=norm)
        norm.addcmul_(step_y, step_y).sqrt_().add_(1)
        dual_x.add_(step_x).div_(norm)
        dual_y.add_(step_y).div_(norm)

    def squared_change(self) -> float:
        """Sum of the squares of what the last step changed."""
        change = self._change.view(-1)
        return float(torch.dot(change, change))


def _state_class(device_type: str) -> type[State]:
    """The solver's inner loop for a device: Triton kernels on a GPU where Triton is installed, else plain torch."""
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

    Thresholding (Zach et al., equation 15) moves the flow along the gradient g by a factor between -l and l, l = lambda
    * theta, which is -residual / |g|^2 inside. Dividing by |g|^2 here leaves one clamp for each iteration.
    """
    u = state.u / _GAIN
    warped = state.warp(moved, u)
    gradient = warped[:, 1:]
    inverse = 1 / (gradient * gradient).sum(1, keepdim=True).clamp(min=1e-12)
    offset = warped[:, :1] - prev - (gradient * u).sum(1, keepdim=True)
    torch.mul(offset, -inverse, out=state.residual)
    torch.mul(gradient, -inverse / _GAIN, out=state.descent)
    torch.mul(gradient, _GAIN, out=state.gradient)


def warp_opencv(images: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """:meth:`State.warp` of tensors on the CPU."""
    cv2 = import_cv2()
    x = torch.arange(u.shape[3], dtype=u.dtype) + u[:, 0]
    y = torch.arange(u.shape[2], dtype=u.dtype)[:, None] + u[:, 1]
    moved = [
        torch.from_numpy(cv2.remap(image.permute(1, 2, 0).contiguous().numpy(), at_x, at_y, cv2.INTER_CUBIC))
        for image, at_x, at_y in zip(images, x.numpy(), y.numpy(), strict=True)
    ]
    return torch.stack(moved).permute(0, 3, 1, 2).contiguous()


def warp_gathered(images: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """:meth:`State.warp` on any device.

    Unlike ``grid_sample``, whose coordinates are fractions of the image, it is exact where nothing moves: the solver
    takes the rounding of such coordinates in even areas for motion of up to some pixels.
    """
    count, channels, height, width = images.shape
    x = torch.arange(width, dtype=u.dtype, device=u.device) + u[:, 0]
    y = torch.arange(height, dtype=u.dtype, device=u.device)[:, None] + u[:, 1]
    left, above = x.floor(), y.floor()
    flat, warped = images.flatten(2), torch.zeros_like(images)
    for row in range(-1, 3):
        for column in range(-1, 3):
            tap_x, tap_y = left + column, above + row
            inside = (tap_x >= 0) & (tap_x < width) & (tap_y >= 0) & (tap_y < height)
            weight = _cubic(x - tap_x) * _cubic(y - tap_y) * inside
            index = (tap_y.clamp(0, height - 1) * width + tap_x.clamp(0, width - 1)).long()
            taps = flat.gather(2, index.view(count, 1, -1).expand(-1, channels, -1)).view_as(images)
            warped += weight[:, None] * taps
    return warped


def _cubic(distance: torch.Tensor) -> torch.Tensor:
    """Keys' kernel with the slope that OpenCV uses."""
    d, slope = distance.abs(), CUBIC_SLOPE
    near = ((slope + 2) * d - (slope + 3)) * d * d + 1
    far = ((slope * d - 5 * slope) * d + 8 * slope) * d - 4 * slope
    return torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros_like(d)))


def median_opencv(u: torch.Tensor) -> torch.Tensor:
    """5x5 median of each plane of a CPU tensor, borders replicated."""
    cv2 = import_cv2()
    planes = [torch.from_numpy(cv2.medianBlur(plane.numpy(), _MEDIAN)) for plane in u.flatten(0, 1)]
    return torch.stack(planes).view_as(u)


def median_network(u: torch.Tensor) -> torch.Tensor:
    """5x5 median of each plane by compare-exchanges alone, borders replicated: one kernel when compiled."""
    height, width = u.shape[2:]
    padded = pad(u, (_MEDIAN // 2,) * 4, mode="replicate")
    values = [padded[..., i : i + height, j : j + width] for i in range(_MEDIAN) for j in range(_MEDIAN)]
    for low, high, keep_low, keep_high in _median_exchanges(len(values)):
        smaller = torch.minimum(values[low], values[high]) if keep_low else values[low]
        larger = torch.maximum(values[low], values[high]) if keep_high else values[high]
        values[low], values[high] = smaller, larger
    return values[len(values) // 2].contiguous()


def _median_exchanges(count: int) -> list[tuple[int, int, bool, bool]]:
    """Compare-exchanges (low, high, low needed, high needed) that bring the median of ``count`` values to the middle.

    Batcher's odd-even merge sort without the exchanges on which the middle does not depend.
    """
    network = []
    half = 1
    while half < count:
        distance = half
        while distance >= 1:
            for start in range(distance % half, count - distance, 2 * distance):
                for low in range(start, min(start + distance, count - distance)):
                    if low // (2 * half) == (low + distance) // (2 * half):
                        network.append((low, low + distance))
            distance //= 2
        half *= 2
    needed, kept = {count // 2}, []
    for low, high in reversed(network):
        if needed & {low, high}:
            kept.append((low, high, low in needed, high in needed))
            needed |= {low, high}
    return kept[::-1]
