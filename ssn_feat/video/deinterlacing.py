"""Interlaced frames to progressive ones by FFmpeg's bwdif, one frame for each."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any, TypeVar

from ssn_feat.video.containers import import_av

Stamp = TypeVar("Stamp")


def deinterlaced(frames: Iterable[tuple[Any, Stamp]]) -> Iterator[tuple[Any, Stamp]]:
    """Decoded frames with their timestamps, in which interlaced frames are replaced by progressive ones.

    Frames that are not marked as interlaced pass unchanged. The filter starts at the first interlaced frame, so that
    progressive videos cost nothing. A deinterlaced frame depends on the frame before and the one after.
    """
    graph: Any = None
    shape: tuple[int, int, str] | None = None
    stamps: deque[Stamp] = deque()
    for frame, stamp in frames:
        current = (frame.width, frame.height, frame.format.name)
        if graph is not None and current != shape:
            yield from _finished(graph, stamps)
            graph = None
        if graph is None:
            if not frame.interlaced_frame:
                yield frame, stamp
                continue
            graph, shape = _graph(frame), current
        stamps.append(stamp)
        frame.pts = None
        graph.push(frame)
        yield from _filtered(graph, stamps)
    if graph is not None:
        yield from _finished(graph, stamps)


def _finished(graph: Any, stamps: deque[Stamp]) -> Iterator[tuple[Any, Stamp]]:
    graph.push(None)
    yield from _filtered(graph, stamps)


def _filtered(graph: Any, stamps: deque[Stamp]) -> Iterator[tuple[Any, Stamp]]:
    """The frames that the filter has ready; it gives one for each, in order."""
    while stamps:
        try:
            frame = graph.pull()
        except (BlockingIOError, EOFError):
            return
        yield frame, stamps.popleft()


def _graph(frame: Any) -> Any:
    av = import_av()
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 25)
    )
    steps = [source, graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced"), graph.add("buffersink")]
    for step, following in itertools.pairwise(steps):
        step.link_to(following)
    graph.configure()
    return graph


__all__ = ["deinterlaced"]
