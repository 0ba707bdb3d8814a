"""The frames of a video at a nominal rate, by time: what makes grids of videos of any frame rate alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ssn_feat.video.decode import Decoded, Probe
from ssn_feat.video.frame_sources import FrameSource

# Containers round times, to whole milliseconds in Matroska: a frame this share of an interval late is still on time.
_LATE = 0.1


class ResampledSource:
    """Frame k is the frame of ``source`` on show at ``k / fps`` seconds: the last one that begins then or earlier.

    Frames are repeated where the source has fewer than ``fps`` and left out where it has more; before its first frame
    there is the first, and the last is on show to the end of the video. A source of a constant ``fps`` comes out as it
    is. It offers what :class:`ssn_feat.video.VideoReader` does; ``decoded()`` is about the source.
    """

    def __init__(self, source: FrameSource, fps: float) -> None:
        self._source, self._fps = source, fps
        self.path: Path = source.path
        self.probe: Probe = source.probe
        self.frames = 0
        self._held: np.ndarray | None = None
        self._next: np.ndarray | None = None
        self._next_time = -np.inf
        self._end = np.inf

    @property
    def time(self) -> float:
        """Nominal time of the current frame, seconds."""
        return (self.frames - 1) / self._fps

    def advance(self) -> bool:
        """Go to the next frame. False after the last one."""
        while self._next_time <= (self.frames + _LATE) / self._fps:
            if self._next is not None:
                self._held = self._next
            self._read()
        if self._held is None:
            self._held = self._next
        if self._held is None or (self.frames > 0 and self.frames / self._fps >= self._end - _LATE / self._fps):
            return False
        self.frames += 1
        return True

    def _read(self) -> None:
        if self._source.advance():
            self._next, self._next_time = self._source.image(), self._source.time
            return
        self._next, self._next_time = None, np.inf
        if self._source.frames:
            self._end = self._source.decoded().duration

    def image(self) -> np.ndarray:
        """The current frame: BGR uint8 (H, W, 3), upright."""
        assert self._held is not None, "there is an image after advance() said so"
        return self._held

    def decoded(self) -> Decoded:
        """What decoding the source found."""
        return self._source.decoded()

    def close(self) -> None:
        """Free the decoder."""
        self._source.close()
