"""Makes the next items of an iterator in a thread while the last ones are used."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from queue import Full, Queue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _End:
    """Marks the end of the queue, with the error that stopped the iterator, if any."""

    error: BaseException | None = None


def prefetch(items: Iterator[T], depth: int = 2) -> Generator[T]:
    """The ``items`` in order, with up to ``depth`` of them made in advance in a thread.

    An exception raised by ``items`` is raised here, after the items before it. Closing the generator, or an exception
    in the code that uses it, stops the thread before its next item and waits for it.
    """
    queue: Queue[T | _End] = Queue(depth)
    stop = Event()

    def put(item: T | _End) -> bool:
        while not stop.is_set():
            try:
                queue.put(item, timeout=0.1)
            except Full:
                continue
            return True
        return False

    def produce() -> None:
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as error:  # raised again in the thread that uses the items
            put(_End(error))
        else:
            put(_End())

    thread = Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        while not isinstance(item := queue.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        thread.join()


__all__ = ["prefetch"]
