"""Interlaced frames to progressive ones by FFmpeg's bwdif, one frame for each."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from ssn_feat.video.containers import linked_graph

Stamp = TypeVar("Stamp")


def deinterlaced(frames: Iterable[tuple[Any, Stamp]]) -> Iterator[tuple[Any, Stamp]]:
    """Decoded frames with their timestamps, in which interlaced frames are replaced by progressive ones.

    Frames that are not marked as interlaced pass unchanged. The filter starts at the first interlaced frame, so that
    progressive videos cost nothing. A deinterlaced frame depends on the frame before and the one after.
    """
    graph: Any = None
    before: Any = None
    stamps: deque[tuple[Stamp, bool]] = deque()
    for frame, stamp in frames:
        alike = before is not None and _shape(frame) == _shape(before)
        if graph is not None and not alike:
            yield from _finished(graph, stamps)
            graph = None
        if graph is None:
            if not frame.interlaced_frame:
                yield frame, stamp
                before = frame
                continue
            graph = linked_graph(frame, ("bwdif", "mode=send_frame:parity=auto:deint=interlaced"))
            if alike:  # the filter reads it to deinterlace the next one
                _push(graph, before)
                stamps.append((stamp, False))
        _push(graph, frame)
        stamps.append((stamp, True))
        yield from _filtered(graph, stamps)
        before = frame
    if graph is not None:
        yield from _finished(graph, stamps)


def _shape(frame: Any) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


def _push(graph: Any, frame: Any) -> None:
    frame.pts = None
    graph.push(frame)


def _finished(graph: Any, stamps: deque[tuple[Stamp, bool]]) -> Iterator[tuple[Any, Stamp]]:
    graph.push(None)
    yield from _filtered(graph, stamps)


def _filtered(graph: Any, stamps: deque[tuple[Stamp, bool]]) -> Iterator[tuple[Any, Stamp]]:
    """The frames that the filter has ready; it gives one for each, in order. ``stamps``: and whether it is wanted."""
    while stamps:
        try:
            frame = graph.pull()
        except (BlockingIOError, EOFError):
            return
        stamp, wanted = stamps.popleft()
        if wanted:
            yield frame, stamp


__all__ = ["deinterlaced"]
