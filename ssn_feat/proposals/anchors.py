"""Dense anchors: intervals of many lengths at many positions, from one second up to the whole video."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssn_feat.errors import UserError


@dataclass(frozen=True)
class AnchorOptions:
    """Anchors whose lengths grow by a constant factor, evenly spaced over the video."""

    shortest: float = 1.0
    """Length of the shortest anchor, seconds."""
    per_octave: int = 2
    """Number of lengths per doubling."""
    anchor_step: float = 0.25
    """Largest distance of neighbouring anchors as a share of their length, in (0, 1]."""

    def __post_init__(self) -> None:
        if not (self.shortest > 0 and math.isfinite(self.shortest)):
            raise UserError(f"the shortest anchor must be longer than 0 seconds, not {self.shortest}")
        if self.per_octave < 1:
            raise UserError(f"anchors need at least 1 length per octave, not {self.per_octave}")
        if not 0.0 < self.anchor_step <= 1.0:
            raise UserError(f"the step of anchors must be a share of their length in (0, 1], not {self.anchor_step}")


def anchors(duration: float, options: AnchorOptions | None = None) -> NDArray[np.float64]:
    """Anchors over a video of ``duration`` seconds: float64 ``(N, 2)``, seconds, sorted by length, then by start.

    Lengths are ``shortest * 2 ** (k / per_octave)`` for all k for which they are shorter than the video, and the whole
    video. Anchors of one length cover the video at equal distances of at most ``anchor_step`` times the length. Their
    number is about ``2 ** (1 / per_octave) / (2 ** (1 / per_octave) - 1) * duration / (anchor_step * shortest)``.

    Raises UserError unless the duration is a finite number of at least 0.
    """
    options = options or AnchorOptions()
    if not (math.isfinite(duration) and duration >= 0):
        raise UserError(f"a video's duration must be a finite number of seconds, not {duration}")
    rows = []
    octaves = math.log2(duration / options.shortest) if duration > 0 else 0.0
    for rung in range(max(0, math.ceil(octaves * options.per_octave))):
        length = options.shortest * 2 ** (rung / options.per_octave)
        if length >= duration:  # rounding made the number of octaves a little too large
            break
        starts = np.linspace(0, duration - length, math.ceil((duration - length) / (options.anchor_step * length)) + 1)
        rows.append(np.stack([starts, np.minimum(starts + length, duration)], axis=1))
    return np.concatenate([*rows, [[0.0, duration]]])


__all__ = ["AnchorOptions", "anchors"]
