"""The frames of a video at a nominal rate, by time, so that videos of any frame rate have the same grid."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ssn_feat.video.containers import Probe
from ssn_feat.video.decode import Decoded
from ssn_feat.video.frame_sources import FrameSource

LATE = 0.1
"""A frame that begins this share of an interval late is still on time: Matroska rounds times to milliseconds."""


class ResampledSource:
    """The frames of ``source`` shown at multiples of ``1 / fps`` seconds: each the last that begins then or earlier.

    Frames are repeated where the source has fewer than ``fps`` and left out where it has more. Before the first frame
    of a source that begins late, and within a gap, there are none; the last frame is shown to the end of the video. A
    source of constant ``fps`` is unchanged. It has the interface of :class:`ssn_feat.video.VideoReader`; ``decoded()``
    is about the source.
    """

    def __init__(self, source: FrameSource, fps: float) -> None:
        self._source, self._fps = source, fps
        self.path: Path = source.path
        self.probe: Probe = source.probe
        self.frames = 0
        self.gap = False
        self._tick = -1
        self._held: Callable[[], np.ndarray] | None = None
        self._held_time = -np.inf
        self._next: Callable[[], np.ndarray] | None = None
        self._next_time, self._next_gap = -np.inf, False
        self._interval = 1.0 / fps
        self._end = np.inf

    @property
    def time(self) -> float:
        """Nominal time of the current frame, seconds."""
        return self._tick / self._fps

    def advance(self) -> bool:
        """Go to the next frame. False after the last one."""
        if self.frames == 0:
            self._read()
            self._tick = self._ticks_to(self._next_time) if self._next is not None else 0
        else:
            self._tick += 1
        crossed = self._take_until_tick()
        if self._next_gap and self._tick / self._fps >= self._held_time + (1 - LATE) * self._interval:
            # From the end of the held frame to the next one nothing is shown.
            self._tick = max(self._ticks_to(self._next_time), self._tick)
            crossed |= self._take_until_tick()
        self.gap = crossed and self.frames > 0
        if self._held is None or (self.frames > 0 and self._tick / self._fps >= self._end - LATE / self._fps):
            return False
        self.frames += 1
        return True

    def _take_until_tick(self) -> bool:
        """Hold the frame shown at the current tick. Returns whether there was a gap before it."""
        crossed = False
        while self._next_time <= (self._tick + LATE) / self._fps:
            crossed |= self._next_gap
            if not self._next_gap and np.isfinite(self._held_time):
                self._interval = self._next_time - self._held_time
            # A frame that is left out is never converted, and one that is repeated only once.
            self._held, self._held_time = self._next and functools.cache(self._next), self._next_time
            self._read()
        return crossed

    def _ticks_to(self, time: float) -> int:
        """The first tick at which a frame that begins at ``time`` is shown."""
        return int(np.ceil(time * self._fps - LATE))

    def _read(self) -> None:
        if self._source.advance():
            source = self._source
            self._next, self._next_time, self._next_gap = source.deferred_image(), source.time, source.gap
            return
        self._next, self._next_time, self._next_gap = None, np.inf, False
        if self._source.frames:
            self._end = self._source.decoded().duration

    def image(self) -> np.ndarray:
        """The current frame: BGR uint8 (H, W, 3), upright."""
        return self.deferred_image()()

    def deferred_image(self) -> Callable[[], np.ndarray]:
        """A function that returns :meth:`image` of the current frame, also after the source has advanced."""
        assert self._held is not None, "there is an image after advance() returned True"
        return self._held

    def decoded(self) -> Decoded:
        """The summary of the source."""
        return self._source.decoded()

    def close(self) -> None:
        """Free the decoder."""
        self._source.close()


__all__ = ["LATE", "ResampledSource"]
