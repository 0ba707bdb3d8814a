"""Progress of a long run: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

_SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """Counts videos and snippets; ``predicted`` is the number of snippets that all videos are thought to have.

    A context manager; writes to standard error.
    """

    def __init__(self, videos: int, predicted: int) -> None:
        self.videos, self.predicted = videos, predicted
        self.done = self.snippets = 0
        self._console = Console(stderr=True)
        self._bar: RichProgress | None = None
        self._start = self._line = time.monotonic()

    def __enter__(self) -> Progress:
        self._start = self._line = time.monotonic()
        if self._console.is_terminal:
            self._bar = RichProgress(
                TextColumn("videos"),
                MofNCompleteColumn(),
                BarColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                console=self._console,
            )
            self._bar.add_task("videos", total=self.videos, rate="")
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._start

    def rate(self) -> str:
        """Snippets per second so far and the time left, in words."""
        speed = self.snippets / max(self.seconds, 1e-9)
        words = f"{speed:,.1f} snippets/s"
        left = max(self.predicted - self.snippets, 0)
        return f"{words}, {_duration(left / speed)} left" if speed > 0 and self.done < self.videos else words

    def rows(self, count: int) -> None:
        """``count`` snippets are done."""
        self.snippets += count
        self._show()

    def video(self, predicted: float, rows: int) -> None:
        """One video is over: it had ``rows`` snippets where ``predicted`` were expected."""
        self.done += 1
        self.predicted += round(rows - predicted)
        self._show()

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self.done, rate=self.rate())
        elif time.monotonic() - self._line > _SECONDS_BETWEEN_LINES:
            self._line = time.monotonic()
            self._console.print(f"{self.done} of {self.videos} videos, {self.rate()}", highlight=False)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
