"""Signals for the length of a block."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def on_signal(number: signal.Signals, answer: Callable[[int, Any], object] | signal.Handlers) -> Iterator[None]:
    """Answers a signal by ``answer`` within the block; as before in a thread, which no signal reaches."""
    try:
        before = signal.signal(number, answer)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(number, before)
