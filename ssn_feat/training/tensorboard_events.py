"""The log of a run as TensorBoard events; the package tensorboard is optional."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from ssn_feat.errors import UserError


def require_tensorboard() -> Any:
    """The class SummaryWriter of torch. Raises UserError if the package tensorboard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("--tensorboard needs the package tensorboard: pip install tensorboard") from None
    return SummaryWriter


@contextmanager
def event_writers(folders: Sequence[Path]) -> Iterator[Callable[[Sequence[Mapping[str, Any]]], None]]:
    """A function that takes one line of the log for each of ``folders`` and writes its numbers as events of its epoch.

    Without folders it does nothing. A resumed run writes another file of events, from the epoch where it continues;
    TensorBoard shows the later value of an epoch that was written twice. Raises UserError if events cannot be written.
    """
    with _one_line(folders), ExitStack() as stack:
        writers: list[Any] = []

        def write(lines: Sequence[Mapping[str, Any]]) -> None:
            if folders and not writers:
                kind, first = require_tensorboard(), lines[0]["epoch"]
                for folder in folders:
                    writer = kind(str(folder), purge_step=first or None)
                    writers.append(stack.enter_context(closing(writer)))
            for writer, line in zip(writers, lines, strict=bool(folders)):
                for name, value in line.items():
                    if name != "epoch":
                        writer.add_scalar(name, value, line["epoch"])

        yield write


@contextmanager
def _one_line(folders: Sequence[Path]) -> Iterator[None]:
    """Turn an error of the system, which TensorBoard passes on at any later call, into a UserError."""
    try:
        yield
    except OSError as error:
        where = ", ".join(map(str, folders[:1])) + (", ..." if len(folders) > 1 else "")
        raise UserError(f"cannot write the events in {where}: {error.strerror or error}") from None


__all__ = ["event_writers", "require_tensorboard"]
