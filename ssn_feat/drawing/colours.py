"""Colours of classes: the same class has the same colour in every picture of a data set."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

# Ten colours that are distinct on white, also in print; by Observable (observablehq.com/@d3/color-schemes).
_FIRST = (
    "#4269d0",
    "#ff725c",
    "#3ca951",
    "#a463f2",
    "#efb118",
    "#6cc5b0",
    "#9c6b4e",
    "#ff8ab7",
    "#97bbf5",
    "#9498a0",
)
# Turning the hue by the golden angle never returns to an earlier hue.
_GOLDEN_ANGLE = 0.381966


def class_colours(labels: Sequence[str]) -> dict[str, str]:
    """A colour ``#rrggbb`` for each label, which depends only on its position."""
    return {label: _colour(position) for position, label in enumerate(labels)}


def _colour(position: int) -> str:
    if position < len(_FIRST):
        return _FIRST[position]
    turn = position - len(_FIRST)
    red, green, blue = colorsys.hls_to_rgb(
        (0.58 + turn * _GOLDEN_ANGLE) % 1.0, (0.42, 0.56, 0.68)[turn % 3], (0.75, 0.6)[turn % 2]
    )
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def ink_on(colour: str) -> str:
    """Black or white, whichever reads better on ``colour`` (``#rrggbb``; contrast as WCAG defines it)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#ffffff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 * 0.6 else "#1a1a1a"
