"""The time of every frame: single wrong timestamps are interpolated, lasting jumps are gaps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Frame = TypeVar("Frame")

# Frames looked at beyond the current one: as many wrong timestamps in a row, less one, are told from a lasting jump.
_LOOK_AHEAD = 4
# A jump of a format with discontinuous timestamps (MPEG-TS, MPEG-PS) is a gap from this many seconds and intervals on.
_GAP_SECONDS, _GAP_INTERVALS = 1.0, 10


@dataclass(frozen=True)
class Timed(Generic[Frame]):
    """A frame and when it is shown."""

    frame: Frame
    time: float
    """Seconds, greater than the time of the frame before."""
    repaired: bool = False
    """Whether the file has no plausible time for it and ``time`` was interpolated."""
    gap: float = 0.0
    """Seconds by which the timestamps jump before this frame, where recordings were joined; 0 otherwise."""


def timed(frames: Iterable[tuple[Frame, float | None]], interval: float, jumps: bool) -> Iterator[Timed[Frame]]:
    """Frames with strictly increasing times, from frames with timestamps (seconds; None: missing) in the order shown.

    ``interval``: nominal seconds between frames, which place frames without a plausible time where nothing else does.
    ``jumps``: whether the file format may have discontinuous timestamps, so that a jump forward is a gap. A jump back
    is one in any format; later frames are then shifted to follow the frame before.
    """
    source = iter(frames)
    ahead: deque[tuple[Frame, float | None]] = deque()
    before: float | None = None
    shift = 0.0
    while True:
        while len(ahead) <= _LOOK_AHEAD and (item := next(source, None)) is not None:
            ahead.append(item)
        if not ahead:
            return
        frame, stamp = ahead.popleft()
        later = [at + shift for _, at in ahead if at is not None]
        at = None if stamp is None else stamp + shift
        if before is None:
            first = _first(at, later, interval)
            yield Timed(frame, first, repaired=first != at)
            before = first
            continue
        gap = 0.0
        if at is not None and later and max(at, *later) <= before:
            gap = at - before - interval
            shift, at = shift - gap, before + interval
        elif at is not None and not before < at <= min((x for x in later if x > before), default=at):
            at = None
        elif at is not None and jumps and at - before > max(_GAP_SECONDS, _GAP_INTERVALS * interval):
            gap = at - before - interval
        if at is None:
            follows = next((i for i, (_, x) in enumerate(ahead, 1) if x is not None and x + shift > before), None)
            step = interval
            if follows is not None:
                step = (float(ahead[follows - 1][1] or 0.0) + shift - before) / (follows + 1)
            yield Timed(frame, before + step, repaired=True)
            before += step
            continue
        yield Timed(frame, at, gap=gap)
        before = at


def _first(at: float | None, later: list[float], interval: float) -> float:
    """Time of the first frame: its own, or before the next one where it has none or a later one."""
    follows = min(later, default=None)
    if at is not None and (follows is None or at < follows):
        return at
    return follows - interval if follows is not None else at or 0.0


__all__ = ["Timed", "timed"]
