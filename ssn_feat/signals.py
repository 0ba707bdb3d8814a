"""Temporary signal handlers."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def on_signal(number: signal.Signals, handler: Callable[[int, Any], object] | signal.Handlers) -> Iterator[None]:
    """Handle a signal by ``handler`` within the block. Does nothing outside the main thread, which gets all signals."""
    try:
        previous = signal.signal(number, handler)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(number, previous)


__all__ = ["on_signal"]
