"""File names and order of axes of the features of other projects. The time base is not part of a layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Orientation = Literal["auto", "TD", "DT", "CTD"]
LayoutName = Literal[
    "actionformer", "opentad", "tsp", "gtad", "videomaev2", "video_features", "mmaction2", "bmn", "cmcs"
]


@dataclass(frozen=True)
class Layout:
    """How a project stores its features."""

    files: tuple[str, ...]
    """Patterns, one for each stream."""
    orientation: Orientation


LAYOUTS: dict[LayoutName, Layout] = {
    "actionformer": Layout(("features={id}.npy",), "TD"),
    "opentad": Layout(("features={id}.npy",), "TD"),
    "tsp": Layout(("features=:{id}",), "TD"),
    "gtad": Layout(("rgb=rgb.h5:{id}", "flow=flow.h5:{id}"), "TD"),
    "videomaev2": Layout(("features={id}.npy",), "TD"),
    "video_features": Layout(("rgb={id}_rgb.npy", "flow={id}_flow.npy"), "TD"),
    "mmaction2": Layout(("features={id}.pkl",), "TD"),
    "bmn": Layout(("features=v_{id}.csv",), "TD"),
    "cmcs": Layout(("rgb={id}-rgb.npz:feature", "flow={id}-flow.npz:feature"), "CTD"),
}


__all__ = ["LAYOUTS", "Layout", "LayoutName", "Orientation"]
