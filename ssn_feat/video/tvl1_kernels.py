"""TV-L1 flow on a GPU as three Triton kernels: one iteration, the warp and the median filter.

They compute the same as :class:`ssn_feat.video.tvl1_state.State`. Memory bandwidth limits the speed, so an iteration
is one kernel: it reads each plane once and recomputes the new flow of the right and the lower neighbour instead of
waiting for them. It writes to a second set of buffers because neighbours still read the first one.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ssn_feat.video.tvl1_state import CUBIC_SLOPE, LIMIT, TAU, State

# One warp per block and two pixels per thread were fastest on an H100; the sort of the median needs larger blocks.
_BLOCK, _MEDIAN_BLOCK = 64, 128


@triton.jit  # type: ignore[untyped-decorator]
def _new_flow(  # type: ignore[no-untyped-def]
    flow, dual_x, dual_y, residual, descent, gradient, at, x, y, inside, plane, width,
    LIMIT: tl.constexpr, TAU: tl.constexpr
):  # fmt: skip
    """Return both components of the flow of the pixels ``at`` after this iteration."""
    left, above = inside & (x > 0), inside & (y > 0)
    u0 = tl.load(flow + at, inside, 0.0)
    u1 = tl.load(flow + plane + at, inside, 0.0)
    step = tl.load(residual + at, inside, 0.0)
    step += tl.load(descent + at, inside, 0.0) * u0 + tl.load(descent + plane + at, inside, 0.0) * u1
    step = tl.minimum(tl.maximum(step, -LIMIT), LIMIT)
    divergence0 = tl.load(dual_x + at, inside, 0.0) - tl.load(dual_x + at - 1, left, 0.0)
    divergence0 += tl.load(dual_y + at, inside, 0.0) - tl.load(dual_y + at - width, above, 0.0)
    divergence1 = tl.load(dual_x + plane + at, inside, 0.0) - tl.load(dual_x + plane + at - 1, left, 0.0)
    divergence1 += tl.load(dual_y + plane + at, inside, 0.0) - tl.load(dual_y + plane + at - width, above, 0.0)
    u0 += step * tl.load(gradient + at, inside, 0.0) + TAU * divergence0
    u1 += step * tl.load(gradient + plane + at, inside, 0.0) + TAU * divergence1
    return u0, u1


@triton.jit  # type: ignore[untyped-decorator]
def _iterate(  # type: ignore[no-untyped-def]
    flow, dual_x, dual_y, residual, descent, gradient, new_flow, new_dual_x, new_dual_y, height, width,
    LIMIT: tl.constexpr, TAU: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    plane = height * width
    sample = tl.program_id(1).to(tl.int64) * plane
    flow, dual_x, dual_y = flow + 2 * sample, dual_x + 2 * sample, dual_y + 2 * sample
    residual, descent, gradient = residual + sample, descent + 2 * sample, gradient + 2 * sample
    new_flow, new_dual_x, new_dual_y = new_flow + 2 * sample, new_dual_x + 2 * sample, new_dual_y + 2 * sample
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x, y, inside = at % width, at // width, at < plane
    has_right, has_below = inside & (x + 1 < width), inside & (y + 1 < height)
    u0, u1 = _new_flow(flow, dual_x, dual_y, residual, descent, gradient, at, x, y, inside, plane, width, LIMIT, TAU)
    right0, right1 = _new_flow(
        flow, dual_x, dual_y, residual, descent, gradient, at + 1, x + 1, y, has_right, plane, width, LIMIT, TAU
    )
    below0, below1 = _new_flow(
        flow, dual_x, dual_y, residual, descent, gradient, at + width, x, y + 1, has_below, plane, width, LIMIT, TAU
    )
    tl.store(new_flow + at, u0, inside)
    tl.store(new_flow + plane + at, u1, inside)
    x0, x1 = tl.where(has_right, right0 - u0, 0.0), tl.where(has_right, right1 - u1, 0.0)
    y0, y1 = tl.where(has_below, below0 - u0, 0.0), tl.where(has_below, below1 - u1, 0.0)
    scale0, scale1 = 1.0 / (1.0 + tl.sqrt(x0 * x0 + y0 * y0)), 1.0 / (1.0 + tl.sqrt(x1 * x1 + y1 * y1))
    tl.store(new_dual_x + at, (tl.load(dual_x + at, inside, 0.0) + x0) * scale0, inside)
    tl.store(new_dual_y + at, (tl.load(dual_y + at, inside, 0.0) + y0) * scale0, inside)
    tl.store(new_dual_x + plane + at, (tl.load(dual_x + plane + at, inside, 0.0) + x1) * scale1, inside)
    tl.store(new_dual_y + plane + at, (tl.load(dual_y + plane + at, inside, 0.0) + y1) * scale1, inside)


@triton.jit  # type: ignore[untyped-decorator]
def _cubic(distance, SLOPE: tl.constexpr):  # type: ignore[no-untyped-def]
    d = tl.abs(distance)
    near = ((SLOPE + 2.0) * d - (SLOPE + 3.0)) * d * d + 1.0
    far = ((SLOPE * d - 5.0 * SLOPE) * d + 8.0 * SLOPE) * d - 4.0 * SLOPE
    return tl.where(d <= 1.0, near, tl.where(d < 2.0, far, 0.0))


@triton.jit  # type: ignore[untyped-decorator]
def _warp(  # type: ignore[no-untyped-def]
    images, flow, target, height, width, CHANNELS: tl.constexpr, SLOPE: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    plane = height * width
    sample = tl.program_id(1).to(tl.int64) * plane
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < plane
    x = (at % width).to(tl.float32) + tl.load(flow + 2 * sample + at, inside, 0.0)
    y = (at // width).to(tl.float32) + tl.load(flow + 2 * sample + plane + at, inside, 0.0)
    left, above = tl.floor(x), tl.floor(y)
    for channel in tl.static_range(CHANNELS):
        start = sample * CHANNELS + channel * plane
        value = tl.zeros([BLOCK], dtype=tl.float32)
        for tap in tl.static_range(16):
            tap_x, tap_y = left + (tap % 4 - 1), above + (tap // 4 - 1)
            there = inside & (tap_x >= 0) & (tap_x < width) & (tap_y >= 0) & (tap_y < height)
            pixel = tl.load(images + start + tap_y.to(tl.int32) * width + tap_x.to(tl.int32), there, 0.0)
            value += _cubic(x - tap_x, SLOPE) * _cubic(y - tap_y, SLOPE) * pixel
        tl.store(target + start + at, value, inside)


@triton.jit  # type: ignore[untyped-decorator]
def _median(source, target, height, width, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    offset = tl.program_id(1).to(tl.int64) * height * width
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < height * width
    tap = tl.arange(0, 32)[None, :]
    x = tl.minimum(tl.maximum((at % width)[:, None] + tap % 5 - 2, 0), width - 1)
    y = tl.minimum(tl.maximum((at // width)[:, None] + tap // 5 - 2, 0), height - 1)
    # 25 values and 7 that exceed any flow: the median is number 12 of all. The 7 are finite because the sort of
    # Triton 3.2, which comes with torch 2.6, multiplies values by 0.
    values = tl.load(source + offset + y * width + x, inside[:, None] & (tap < 25), 1e30)
    middle = tl.where(tap == 12, tl.sort(values, dim=1), 0.0)
    tl.store(target + offset + at, tl.sum(middle, axis=1), inside)


class KernelState(State):
    """The state of a scale on a GPU; each step reads one set of buffers and writes another."""

    def __init__(self, u: torch.Tensor) -> None:
        super().__init__(u)
        self._next = (torch.empty_like(u), torch.empty_like(u), torch.empty_like(u))

    def warp(self, images: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """See :meth:`ssn_feat.video.tvl1_state.State.warp`."""
        count, channels, height, width = images.shape
        target = torch.empty_like(images)
        grid = (triton.cdiv(height * width, _BLOCK), count)
        _warp[grid](images, u, target, height, width, CHANNELS=channels, SLOPE=CUBIC_SLOPE, BLOCK=_BLOCK, num_warps=1)
        return target

    def median(self) -> None:
        """Apply a 5x5 median filter to the flow."""
        count, channels, height, width = self.u.shape
        target = torch.empty_like(self.u)
        grid = (triton.cdiv(height * width, _MEDIAN_BLOCK), count * channels)
        _median[grid](self.u, target, height, width, BLOCK=_MEDIAN_BLOCK)
        self.u = target

    def step(self) -> None:
        """Run one iteration."""
        count, _, height, width = self.u.shape
        now = (self.u, self.dual_x, self.dual_y)
        grid = (triton.cdiv(height * width, _BLOCK), count)
        _iterate[grid](
            *now, self.residual, self.descent, self.gradient, *self._next, height, width,
            LIMIT=LIMIT, TAU=TAU, BLOCK=_BLOCK, num_warps=1
        )  # fmt: skip
        (self.u, self.dual_x, self.dual_y), self._next = self._next, now

    def squared_change(self) -> float:
        """Return the sum of squared changes of the flow in the last step."""
        return float((self.u - self._next[0]).square().sum())
