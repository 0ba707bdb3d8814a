"""The state of one scale of the TV-L1 solver and its iteration, in plain PyTorch."""

from __future__ import annotations

import torch
from torch.nn.functional import pad

from ssn_feat.video.opencv import import_cv2

TAU, _LAMBDA, THETA = 0.25, 0.15, 0.3
LIMIT = _LAMBDA * THETA
CUBIC_SLOPE = -0.75
_MEDIAN = 5


class State:
    """Flow, dual variables and the linearised residual of one scale, with buffers for intermediate results."""

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
        """Sample ``images`` (N, C, h, w) at each pixel's position plus ``u`` (N, 2, h, w) pixels; zero outside."""
        return warp_opencv(images, u) if u.device.type == "cpu" else warp_gathered(images, u)

    def median(self) -> None:
        """Apply a 5x5 median filter to the flow."""
        self.u = median_opencv(self.u) if self.u.device.type == "cpu" else median_network(self.u)

    def step(self) -> None:
        """Run one iteration in place, with few passes over few planes, which determine its cost on a CPU."""
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
        """Return the sum of squared changes of the flow in the last step."""
        change = self._change.view(-1)
        return float(torch.dot(change, change))


def warp_opencv(images: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Apply :meth:`State.warp` to tensors on the CPU."""
    cv2 = import_cv2()
    x = torch.arange(u.shape[3], dtype=u.dtype) + u[:, 0]
    y = torch.arange(u.shape[2], dtype=u.dtype)[:, None] + u[:, 1]
    moved = [
        torch.from_numpy(cv2.remap(image.permute(1, 2, 0).contiguous().numpy(), at_x, at_y, cv2.INTER_CUBIC))
        for image, at_x, at_y in zip(images, x.numpy(), y.numpy(), strict=True)
    ]
    return torch.stack(moved).permute(0, 3, 1, 2).contiguous()


def warp_gathered(images: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Apply :meth:`State.warp` on any device.

    Unlike ``grid_sample``, whose coordinates are fractions of the image, it is exact where nothing moves. In uniform
    areas the solver would interpret the rounding of such coordinates as motion of up to a few pixels.
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
    """Evaluate Keys' kernel with the slope that OpenCV uses."""
    d, slope = distance.abs(), CUBIC_SLOPE
    near = ((slope + 2) * d - (slope + 3)) * d * d + 1
    far = ((slope * d - 5 * slope) * d + 8 * slope) * d - 4 * slope
    return torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros_like(d)))


def median_opencv(u: torch.Tensor) -> torch.Tensor:
    """Apply a 5x5 median filter to each plane of a CPU tensor, with replicated borders."""
    cv2 = import_cv2()
    planes = [torch.from_numpy(cv2.medianBlur(plane.numpy(), _MEDIAN)) for plane in u.flatten(0, 1)]
    return torch.stack(planes).view_as(u)


def median_network(u: torch.Tensor) -> torch.Tensor:
    """Apply a 5x5 median filter with replicated borders by compare-exchanges only: one kernel when compiled."""
    height, width = u.shape[2:]
    padded = pad(u, (_MEDIAN // 2,) * 4, mode="replicate")
    values = [padded[..., i : i + height, j : j + width] for i in range(_MEDIAN) for j in range(_MEDIAN)]
    for low, high, keep_low, keep_high in _median_exchanges(len(values)):
        smaller = torch.minimum(values[low], values[high]) if keep_low else values[low]
        larger = torch.maximum(values[low], values[high]) if keep_high else values[high]
        values[low], values[high] = smaller, larger
    return values[len(values) // 2].contiguous()


def _median_exchanges(count: int) -> list[tuple[int, int, bool, bool]]:
    """Return compare-exchanges (low, high, low needed, high needed) that move the median of ``count`` to the middle.

    Batcher's odd-even merge sort without the exchanges that do not affect the middle.
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
