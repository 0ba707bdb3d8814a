"""How the projects of the field lay out their features: names of files and order of axes. Never their time base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Orientation = Literal["auto", "TD", "DT", "CTD"]
LayoutName = Literal[
    "actionformer", "opentad", "tsp", "gtad", "videomaev2", "video_features", "mmaction2", "bmn", "cmcs"
]


@dataclass(frozen=True)
class Layout:
    """What a project's features look like on disk."""

    files: tuple[str, ...]
    """Patterns, one a stream."""
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
