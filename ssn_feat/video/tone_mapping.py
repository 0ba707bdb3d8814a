"""Maps colours of a high dynamic range (PQ, HLG; BT.2020) to the standard range (BT.709) by FFmpeg's scaler."""

from __future__ import annotations

from functools import cache
from typing import Any

from ssn_feat.video.containers import import_av, linked_graph

# Perceptual: highlights are compressed, as players do it, instead of clipped above the white of paper.
_OPTIONS = "flags=bilinear:out_primaries=bt709:out_transfer=bt709:intent=perceptual:threads=1"


class ToneMapper:
    """Converts frames of PQ or HLG to BGR frames of the standard range."""

    def __init__(self) -> None:
        self._graph: Any = None
        self._shape: tuple[int, int, str, int, int] | None = None

    def bgr(self, frame: Any, width: int, height: int) -> Any:
        """An ``av.VideoFrame`` in bgr24 of that size; None where FFmpeg cannot map tones (before version 8)."""
        if not can_map_tones():
            return None
        shape = (frame.width, frame.height, frame.format.name, width, height)
        if shape != self._shape:
            steps = (("scale", f"{width}:{height}:{_OPTIONS}"), ("format", "bgr24"))
            self._graph, self._shape = linked_graph(frame, *steps), shape
        stamp, frame.pts = frame.pts, None
        self._graph.push(frame)
        frame.pts = stamp
        return self._graph.pull()


@cache
def can_map_tones() -> bool:
    """Whether FFmpeg's scaler maps tones."""
    av = import_av()
    try:
        linked_graph(av.VideoFrame(16, 16, "yuv420p10le"), ("scale", f"16:16:{_OPTIONS}"))
    except (av.error.FFmpegError, ValueError):
        return False
    return True


__all__ = ["ToneMapper", "can_map_tones"]
