"""Progress of an extraction: a bar on a terminal, a line every minute in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

_SECONDS_BETWEEN_LINES = 60.0


class Progress:
    """Counts videos and snippets, and advances a bar by fractions of a video where its batches are counted.

    ``advance``: the function that :func:`ssn_feat.progress.progress_bar` yields, None to show nothing; ``predicted``:
    number of snippets expected of each video.
    """

    def __init__(self, advance: Callable[..., None] | None, predicted: Mapping[str, float]) -> None:
        self._advance, self._predicted = advance, predicted
        self.videos = self.snippets = 0
        self._part = 0.0
        self._start = self._line = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    @property
    def rate(self) -> float:
        """Snippets per second so far."""
        return self.snippets / max(self.seconds, 1e-9)

    def rows(self, video_id: str, count: int) -> None:
        """Count ``count`` more snippets of a video as done."""
        step = min(count / max(self._predicted[video_id], 1.0), 1.0 - self._part)  # predictions may fall short
        self._part += step
        self.snippets += count
        self._show(step)

    def video(self) -> None:
        """Count the video whose rows were counted last as done."""
        step, self._part = 1.0 - self._part, 0.0
        self.videos += 1
        self._show(step)

    def _show(self, step: float) -> None:
        if self._advance is None:
            return
        self._advance(step, f"{self.rate:,.1f} snippets/s")
        now = time.monotonic()
        if not sys.stderr.isatty() and now - self._line > _SECONDS_BETWEEN_LINES:
            self._line = now
            done = f"{self.videos} of {len(self._predicted)} videos, {self.snippets:,} snippets"
            print(f"{done}, {self.rate:,.1f} snippets/s", file=sys.stderr, flush=True)


__all__ = ["Progress"]
