"""Progress bars and predicted durations of long work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Width of the bar and the numbers, and the least width of the note, in characters.
_BAR_WIDTH, _NOTE_WIDTH = 62, 24


@contextmanager
def progress_bar(description: str, total: int) -> Iterator[Callable[..., None]]:
    """Show a progress bar on standard error; yields the function that advances it: ``advance(1, note="loss 0.3")``.

    On a narrow terminal the bar shrinks and the note is cut; the numbers remain. If standard error is not a terminal
    (a log file), one line is written at the end.
    """
    # Imported here because commands without a bar, such as the status of a store, should start quickly.
    from rich import progress
    from rich.console import Console
    from rich.table import Column

    console = Console(stderr=True)
    note_width = max(_NOTE_WIDTH, console.width - _BAR_WIDTH)
    columns = (
        progress.TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        progress.BarColumn(),
        progress.MofNCompleteColumn(table_column=Column(no_wrap=True)),
        progress.TimeElapsedColumn(table_column=Column(no_wrap=True)),
        progress.TimeRemainingColumn(table_column=Column(no_wrap=True)),
        progress.TextColumn(
            "{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis", max_width=note_width)
        ),
    )
    with progress.Progress(*columns, console=console) as bar:
        task = bar.add_task(description, total=total, note="")

        def advance(steps: float = 1, note: str | None = None) -> None:
            bar.update(task, advance=steps)
            if note is not None:
                bar.update(task, note=note)

        yield advance


def about(seconds: float) -> str:
    """A predicted duration in words, for example "about 3 minutes"."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    return f"about {minutes} minute{'s' * (minutes > 1)}" if minutes < 120 else f"about {seconds / 3600:,.1f} hours"


__all__ = ["about", "progress_bar"]
