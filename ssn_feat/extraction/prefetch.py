"""Work ahead: the next items of an iterator are made in a thread while the last ones are used."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from queue import Full, Queue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _End:
    """What the thread puts after the last item: how it ended."""

    error: BaseException | None = None


def ahead(items: Iterator[T], depth: int = 2) -> Generator[T]:
    """The ``items`` in order, of which up to ``depth`` are made ahead of need in a thread.

    An exception raised while making items is raised here, after the items before it. Closing the generator, or an
    exception where it is used, stops the thread before its next item and waits for it.
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
        except BaseException as error:  # travels to the thread that asked
            put(_End(error))
        else:
            put(_End())

    thread = Thread(target=produce, name="work-ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := queue.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        thread.join()
