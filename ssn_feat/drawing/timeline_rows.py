"""The rows of a timeline: what one video shows, and how each row is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from numpy.typing import NDArray

from ssn_feat.annotations.dataset import Video
from ssn_feat.drawing.colours import ink_on
from ssn_feat.drawing.pictures import FAINT, GRID, INK
from ssn_feat.errors import UserError
from ssn_feat.intervals import tiou
from ssn_feat.results.detections import VideoDetections
from ssn_feat.results.ragged import Float

# Widths in inches: of a figure, and of the margins beside its axes.
WIDTH, LEFT, RIGHT = 12.0, 1.55, 0.25
# From grey for proposals that overlap no instance to deep teal for those that fit one exactly.
_FIT = LinearSegmentedColormap.from_list("fit", ["#c9cdd3", "#a9cfc9", "#4fae9f", "#0b7a6b"])
# Detections below this share of the video's best score are not drawn.
_SHOWN_SCORE = 0.1


@dataclass(frozen=True)
class Timeline:
    """The content of the timeline of one video; parts that are None are left out."""

    video: Video
    """Id, duration and annotated instances."""
    actionness: NDArray[np.floating] | None = None
    """Probability of any action in each snippet, ``(T,)``; needs ``spans``."""
    spans: Float | None = None
    """Start and end of each snippet, ``(T, 2)``, seconds."""
    proposals: Float | None = None
    """Proposals, best first, ``(N, 2)``, seconds."""
    detections: VideoDetections | None = None
    """Detections; class indices refer to the ``labels`` of the figure."""


@dataclass(frozen=True)
class TimelineOptions:
    """How much a timeline shows."""

    shown_proposals: int = 40
    """Number of proposals drawn as lines, best first; all proposals count in the density behind them."""
    shown_detections: int = 20
    """Number of detections drawn, best first."""
    shown_classes: int = 8
    """Number of classes that get a lane: first those of the annotations, then those of the best detections."""

    def __post_init__(self) -> None:
        for name in ("shown_proposals", "shown_detections", "shown_classes"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")


def row_name(axes: Axes, name: str) -> None:
    """Write the name of a row to the left of its axes."""
    axes.text(-0.012, 0.5, name, transform=axes.transAxes, ha="right", va="center", color=INK, fontsize=9.5)


def pack(intervals: Float) -> list[int]:
    """Lane number of each interval, so that intervals in one lane do not overlap; uses as few lanes as possible."""
    lanes = np.zeros(len(intervals), dtype=int)
    free_from: list[float] = []
    for i in np.argsort(intervals[:, 0], kind="stable"):
        start, end = intervals[i]
        lane = next((n for n, free in enumerate(free_from) if free <= start), len(free_from))
        free_from[lane : lane + 1] = [end]
        lanes[i] = lane
    return [int(lane) for lane in lanes]


def _bar(axes: Axes, interval: Any, bottom: float, height: float, colour: str, **style: Any) -> None:
    start, end = interval
    axes.add_patch(Rectangle((start, bottom), end - start, height, facecolor=colour, linewidth=0, **style))


def _outline(axes: Axes, interval: Any, bottom: float, height: float) -> None:
    start, end = interval
    axes.add_patch(Rectangle((start, bottom), end - start, height, fill=False, edgecolor="white", linewidth=0.7))


def _short(name: str, length: int = 19) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


def _write_inside(axes: Axes, text: str, interval: Any, y: float, colour: str, size: float) -> None:
    """Write ``text`` into a bar if it fits."""
    start, end = interval
    inches = (end - start) / axes.get_xlim()[1] * (WIDTH - LEFT - RIGHT)
    if inches > 0.0105 * size * len(text) + 0.08:
        middle = (start + end) / 2
        axes.text(middle, y, text, ha="center", va="center_baseline", color=colour, fontsize=size, parse_math=False)


def draw_truth(axes: Axes, timeline: Timeline, colours: dict[str, str]) -> None:
    """Annotated instances as bars, overlapping ones in lanes below each other."""
    lanes = pack(timeline.video.intervals())
    height = 1 / (max(lanes, default=0) + 1)
    for instance, lane in zip(timeline.video.instances, lanes, strict=True):
        colour = colours.get(instance.label, FAINT)
        bottom = 1 - (lane + 1) * height
        span = (instance.start, instance.end)
        _bar(axes, span, bottom + 0.08 * height, 0.84 * height, colour)
        _write_inside(axes, instance.label, span, bottom + 0.5 * height, ink_on(colour), 8.5)


def draw_actionness(axes: Axes, timeline: Timeline) -> None:
    """The probability of action as a filled curve, with a line at 0.5."""
    values, spans = timeline.actionness, timeline.spans
    if values is None or spans is None:
        raise ValueError("actionness needs the spans of its snippets")
    centres = spans.mean(axis=1)
    axes.fill_between(centres, 0, values, color="#5b6b8c", alpha=0.18, linewidth=0)
    axes.plot(centres, values, color="#5b6b8c", linewidth=1.3, solid_joinstyle="round")
    axes.axhline(0.5, color=FAINT, linewidth=0.7, linestyle=(0, (3, 3)), zorder=0.5)
    axes.set_ylim(0, 1.04)


def draw_proposals(axes: Axes, timeline: Timeline, options: TimelineOptions) -> None:
    """The best proposals as lines, coloured by how well they fit an instance, over the density of all proposals."""
    proposals = timeline.proposals
    if proposals is None or not len(proposals):
        return
    grid = np.linspace(0, timeline.video.duration, 600)
    started = np.searchsorted(np.sort(proposals[:, 0]), grid, side="right")
    ended = np.searchsorted(np.sort(proposals[:, 1]), grid, side="right")
    density = started - ended
    axes.fill_between(grid, 0, density / max(1, density.max()), color="#eceef1", linewidth=0)
    best = proposals[: options.shown_proposals]
    truth = timeline.video.intervals()
    fit = tiou(best, truth).max(axis=1) if len(truth) else np.full(len(best), 0.6)
    lanes = np.array(pack(best))
    y = 1 - (lanes + 0.5) / (lanes.max() + 1)
    order = np.argsort(fit, kind="stable")
    lines = [((best[i, 0], y[i]), (best[i, 1], y[i])) for i in order]
    width = float(np.clip(40 / (lanes.max() + 1), 1.0, 3.2))
    axes.add_collection(
        LineCollection(lines, colors=_FIT(fit[order]), linewidths=width, capstyle="butt"), autolim=False
    )


def _shown(timeline: Timeline, options: TimelineOptions) -> NDArray[np.int64]:
    """Rows of the detections that are drawn, best first."""
    detections = timeline.detections
    if detections is None or not len(detections.scores):
        return np.zeros(0, dtype=np.int64)
    order = np.argsort(-detections.scores, kind="stable")[: options.shown_detections]
    return order[detections.scores[order] >= _SHOWN_SCORE * max(0.0, float(detections.scores[order[0]]))]


def lanes_of(timeline: Timeline, labels: Sequence[str], options: TimelineOptions) -> list[str]:
    """Classes that get a lane: annotated classes by first occurrence, then detected classes, best first."""
    detections = timeline.detections
    detected = [] if detections is None else [labels[detections.classes[row]] for row in _shown(timeline, options)]
    annotated = [i.label for i in sorted(timeline.video.instances, key=lambda instance: instance.start)]
    return list(dict.fromkeys([*annotated, *detected]))[: options.shown_classes]


def draw_detections(
    axes: Axes, timeline: Timeline, labels: Sequence[str], colours: dict[str, str], options: TimelineOptions
) -> None:
    """A lane for each class: bars whose height is the score of a detection, in front of pale boxes for instances."""
    detections, lanes = timeline.detections, lanes_of(timeline, labels, options)
    if detections is None or not lanes:
        row_name(axes, "no detections")
        return
    height = 1 / len(lanes)
    bottoms = {label: 1 - (position + 1) * height for position, label in enumerate(lanes)}
    for label, bottom in bottoms.items():
        name: Text = axes.text(-0.012, bottom + height / 2, _short(label), transform=axes.get_yaxis_transform())
        name.set(ha="right", va="center", color=INK, fontsize=9, parse_math=False)
        axes.axhline(bottom, color=GRID, linewidth=0.6, zorder=0.5)
    for instance in timeline.video.instances:
        if instance.label in bottoms:
            span, colour = (instance.start, instance.end), colours.get(instance.label, FAINT)
            _bar(axes, span, bottoms[instance.label], height, colour, alpha=0.16)
    shown = _shown(timeline, options)
    best = float(detections.scores[shown[0]]) if len(shown) else 1.0
    for row in shown:
        label = labels[detections.classes[row]]
        if label in bottoms:
            # Drawn best first, so that a lower bar inside a higher one stays visible.
            share = max(float(detections.scores[row]) / best, 0.0) if best > 0 else 1.0
            bar_height = height * (0.2 + 0.62 * share)
            bottom, colour = bottoms[label] + 0.04 * height, colours[label]
            _bar(axes, detections.intervals[row], bottom, bar_height, colour, alpha=0.55 + 0.45 * share)
            _outline(axes, detections.intervals[row], bottom, bar_height)


__all__ = [
    "LEFT",
    "RIGHT",
    "WIDTH",
    "Timeline",
    "TimelineOptions",
    "draw_actionness",
    "draw_detections",
    "draw_proposals",
    "draw_truth",
    "lanes_of",
    "pack",
    "row_name",
]
