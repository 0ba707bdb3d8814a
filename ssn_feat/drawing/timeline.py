"""Timelines: annotations, actionness, proposals and detections of a video along one time axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from ssn_feat.annotations.dataset import Video
from ssn_feat.drawing.colours import class_colours
from ssn_feat.drawing.pictures import FAINT, GRID, INK
from ssn_feat.drawing.timeline_rows import (
    LEFT,
    RIGHT,
    WIDTH,
    Timeline,
    TimelineOptions,
    draw_actionness,
    draw_detections,
    draw_proposals,
    draw_truth,
    lanes_of,
    pack,
    row_name,
)
from ssn_feat.errors import UserError
from ssn_feat.results.detections import Detections
from ssn_feat.results.ragged import Float
from ssn_feat.terminal import counted

# Heights in inches: of the title, the gap between rows, the axis and the key, then of each kind of row.
TITLE, GAP, AXIS, KEY = 0.34, 0.09, 0.42, 0.22
TRUTH, ACTIONNESS, PROPOSALS, LANE = 0.3, 0.62, 0.8, 0.27

DEFAULT = TimelineOptions()


def timeline_figure(timelines: Sequence[Timeline], labels: Sequence[str], options: TimelineOptions = DEFAULT) -> Figure:
    """A figure with the timelines of one or several videos below each other.

    ``labels``: the class names of the data set, which decide the colours. Raises UserError without any timeline.
    """
    if not timelines:
        raise UserError("a figure needs at least one timeline")
    parts = [_parts(timeline, labels, options) for timeline in timelines]
    heights = [TITLE + sum(h + GAP for _, h in rows) + AXIS for rows in parts]
    top = sum(heights) + KEY
    figure = Figure(figsize=(WIDTH, top), dpi=130, facecolor="white")
    colours = class_colours(labels)
    for timeline, rows, height in zip(timelines, parts, heights, strict=True):
        _draw_video(figure, timeline, rows, top, labels, colours, options)
        top -= height
    _key(figure, {name for rows in parts for name, _ in rows}, options)
    return figure


def timeline_of(
    video: Video,
    detections: Detections | None = None,
    proposals: tuple[Float, NDArray[np.floating]] | None = None,
    actionness: tuple[NDArray[np.floating], Float] | None = None,
) -> Timeline:
    """The timeline of ``video`` from the detections of a data set and its own proposals and actionness.

    ``proposals``: intervals ``(N, 2)`` and scores ``(N,)``; ``actionness``: probabilities ``(T,)``, spans ``(T, 2)``.
    """
    best_first = None
    if proposals is not None:
        intervals, scores = proposals
        best_first = intervals[np.argsort(-scores, kind="stable")]
    values, spans = actionness if actionness is not None else (None, None)
    detected = detections[video.id] if detections is not None and video.id in detections else None
    return Timeline(video, values, spans, best_first, detected)


def _parts(timeline: Timeline, labels: Sequence[str], options: TimelineOptions) -> list[tuple[str, float]]:
    """Names and heights (inches) of the rows of one video, from top to bottom."""
    rows = []
    if timeline.video.instances:
        lanes = max(pack(timeline.video.intervals()), default=0) + 1
        rows.append(("truth", TRUTH * lanes))
    if timeline.actionness is not None:
        rows.append(("actionness", ACTIONNESS))
    if timeline.proposals is not None:
        rows.append(("proposals", PROPOSALS))
    if timeline.detections is not None:
        rows.append(("detections", LANE * max(1, len(lanes_of(timeline, labels, options)))))
    return rows or [("truth", TRUTH)]


def _draw_video(
    figure: Figure,
    timeline: Timeline,
    rows: list[tuple[str, float]],
    top: float,
    labels: Sequence[str],
    colours: dict[str, str],
    options: TimelineOptions,
) -> None:
    """Draw one video into the strip of the figure whose upper edge is ``top`` inches above the figure's lower edge."""
    total = figure.get_figheight()
    _title(figure, timeline, top / total)
    at = top - TITLE
    for number, (name, height) in enumerate(rows):
        box = (LEFT / WIDTH, (at - height) / total, 1 - (LEFT + RIGHT) / WIDTH, height / total)
        axes = figure.add_axes(box)
        _style(axes, timeline.video.duration, last=number == len(rows) - 1)
        if name == "truth":
            draw_truth(axes, timeline, colours)
        elif name == "actionness":
            draw_actionness(axes, timeline)
        elif name == "proposals":
            draw_proposals(axes, timeline, options)
        else:
            draw_detections(axes, timeline, labels, colours, options)
        if name != "detections":
            row_name(axes, name)
        at -= height + GAP


def _title(figure: Figure, timeline: Timeline, y: float) -> None:
    video = timeline.video
    facts = [f"{video.duration:.1f} s"]
    if video.subset:  # a video of a data set, so it is known if it has no instance
        facts.append(counted(len(video.instances), "instance"))
    if timeline.proposals is not None:
        facts.append(counted(len(timeline.proposals), "proposal"))
    if timeline.detections is not None:
        facts.append(counted(len(timeline.detections.scores), "detection"))
    offset = 0.2 / figure.get_figheight()
    plain: dict[str, Any] = {"parse_math": False, "va": "center"}
    figure.text(LEFT / WIDTH, y - offset, video.id, color=INK, fontsize=11.5, fontweight="bold", **plain)
    figure.text(1 - RIGHT / WIDTH, y - offset, "   ".join(facts), color=FAINT, fontsize=9, ha="right", **plain)


def _key(figure: Figure, names: set[str], options: TimelineOptions) -> None:
    """One line at the foot of the figure that explains its rows."""
    notes = []
    if "proposals" in names:
        fit = ", greener the better they fit an instance" if "truth" in names else ""
        notes.append(f"proposals: best {options.shown_proposals} as lines{fit}; grey: density of all")
    if "detections" in names:
        truth = ", pale boxes: annotations" if "truth" in names else ""
        notes.append(f"detections: height is score{truth}")
    y = 0.5 * KEY / figure.get_figheight()
    figure.text(LEFT / WIDTH, y, "    |    ".join(notes), color=FAINT, fontsize=8.5, va="center")


def _style(axes: Axes, duration: float, *, last: bool) -> None:
    axes.set_xlim(0, duration)
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_axisbelow(True)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(INK if last else GRID)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=12, steps=[1, 1.5, 2, 3, 5, 6, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _clock(value, duration)))
    axes.tick_params(axis="x", colors=FAINT, labelsize=8.5, length=3 if last else 0, labelbottom=last)


def _clock(seconds: float, duration: float) -> str:
    if duration <= 120:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if duration >= 3600 else f"{minutes}:{rest:02d}"


__all__ = ["Timeline", "TimelineOptions", "timeline_figure", "timeline_of"]
