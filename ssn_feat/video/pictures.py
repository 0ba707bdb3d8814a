"""Pictures of decoded frames: upright BGR with square samples, and a check that they differ as those of a video do."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.video.containers import aspect_of, display_size, high_dynamic_range, import_av
from ssn_feat.video.tone_mapping import ToneMapper

# Every sixteenth row of brightness is compared with the frame before, and every eighth frame is measured: both must be
# cheap compared with decoding.
_ROWS, _MEASURED = 16, 8
# A longer video in which more frames repeat than this is a still, a screen recording, or badly decoded.
_SUSPECT_SHARE, _SUSPECT_FRAMES = 0.9, 25


class PictureConverter:
    """Turns frames into BGR pictures.

    ``aspect``: width of a sample divided by its height; ``tone_map``: map a high dynamic range to the standard one.
    """

    def __init__(self, aspect: float, tone_map: bool = False) -> None:
        reformatter = import_av().video.reformatter
        self._aspect, self._tone_mapper = aspect, ToneMapper() if tone_map else None
        self._reformat = reformatter.VideoReformatter().reformat
        # More threads cost more than they save.
        self._options = {"format": "bgr24", "interpolation": reformatter.Interpolation.BILINEAR, "threads": 1}

    @classmethod
    def of(cls, stream: Any) -> PictureConverter:
        """The converter of a stream, by the aspect and the colours that it declares."""
        return cls(aspect_of(stream), tone_map=bool(high_dynamic_range(stream)))

    def bgr(self, frame: Any) -> NDArray[np.uint8]:
        """uint8 (H, W, 3), upright, with square samples."""
        width, height = display_size(frame.width, frame.height, self._aspect)
        converted = None if self._tone_mapper is None else self._tone_mapper.bgr(frame, width, height)
        if converted is None:
            converted = self._reformat(frame, width, height, **self._options)
        plane = converted.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        picture = rows[:, : 3 * width].reshape(height, width, 3)
        turns = rotation_of(frame) // 90
        return np.ascontiguousarray(np.rot90(picture, -turns) if turns else picture)


def rotation_of(frame: Any) -> int:
    """Degrees by which a frame is turned clockwise to be upright: 0, 90, 180 or 270."""
    return int(round(-frame.rotation / 90) * 90 % 360)


class RepetitionGuard:
    """Counts frames that equal the one before, and measures brightness: signs of a decoder that returns garbage."""

    def __init__(self) -> None:
        self._before = b""
        self._frames = self._equal = self._measured = 0
        self._sum = 0.0

    def add(self, frame: Any) -> None:
        """Count the next frame of a video."""
        plane, layout = frame.planes[0], frame.format
        bits = layout.components[0].bits
        kind = np.dtype(np.uint16 if bits > 8 else np.uint8)
        samples = 1 if layout.is_planar else max(layout.padded_bits_per_pixel // (8 * kind.itemsize), 1)
        rows = np.frombuffer(plane, kind).reshape(plane.height, -1)[::_ROWS, : plane.width * samples]
        content = rows.tobytes()
        self._equal += content == self._before
        self._before = content
        if self._frames % _MEASURED == 0:
            self._measured += 1
            self._sum += float(rows.mean()) / 2 ** max(bits - 8, 0)
        self._frames += 1

    @property
    def equal_share(self) -> float:
        """Frames that equal the one before, as a share of all but the first."""
        return self._equal / max(self._frames - 1, 1)

    @property
    def brightness(self) -> float:
        """Mean of the first plane (brightness, for most formats), on a scale of 0 to 255."""
        return self._sum / max(self._measured, 1)

    def warning(self) -> str:
        """What is implausible, in a few words; empty where nothing is."""
        if self._frames < _SUSPECT_FRAMES or self.equal_share < _SUSPECT_SHARE:
            return ""
        return f"{self.equal_share:.0%} of the frames equal the one before: a still, a screen recording, or a bad file"


__all__ = ["PictureConverter", "RepetitionGuard", "rotation_of"]
