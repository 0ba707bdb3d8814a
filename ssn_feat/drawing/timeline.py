"""Timelines: what is true of a video, and what actionness, proposals and detections make of it, along one time axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from ssn_feat.annotations.dataset import Video
from ssn_feat.drawing.colours import class_colours, ink_on
from ssn_feat.errors import UserError
from ssn_feat.files import replacing
from ssn_feat.intervals import tiou
from ssn_feat.results.detections import Detections, VideoDetections
from ssn_feat.results.ragged import Float

INK, FAINT, GRID = "#2b2f36", "#8a9099", "#e6e8eb"
# Grey for proposals that meet no instance, deep teal for those that fit one exactly.
FIT = LinearSegmentedColormap.from_list("fit", ["#c9cdd3", "#a9cfc9", "#4fae9f", "#0b7a6b"])

WIDTH, LEFT, RIGHT = 12.0, 1.55, 0.25
TITLE, GAP, AXIS, KEY = 0.34, 0.09, 0.42, 0.22
TRUTH, ACTIONNESS, PROPOSALS, LANE = 0.3, 0.62, 0.8, 0.27
SUFFIXES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Timeline:
    """What is drawn of one video; parts that are None are left out."""

    video: Video
    """Id, duration and true instances."""
    actionness: NDArray[np.floating] | None = None
    """Probability of any action in each snippet, ``(T,)``; needs ``spans``."""
    spans: Float | None = None
    """Start and end of each snippet, ``(T, 2)``, seconds."""
    proposals: Float | None = None
    """Proposals, best first, ``(N, 2)``, seconds."""
    detections: VideoDetections | None = None
    """Detections; class indices as in the ``labels`` of the figure."""


@dataclass(frozen=True)
class TimelineOptions:
    """How much a timeline shows."""

    shown_proposals: int = 40
    """How many proposals, the best ones, are drawn as lines; all of them count in the density behind."""
    shown_detections: int = 20
    """How many detections of highest score are drawn."""
    shown_score: float = 0.1
    """Detections below this share of the video's best score are not drawn."""
    shown_classes: int = 8
    """How many lanes of classes are drawn: those of the truth first, then those of the best detections."""

    def __post_init__(self) -> None:
        for name in ("shown_proposals", "shown_detections", "shown_classes"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.shown_score <= 1:
            raise UserError(f"shown_score is a share between 0 and 1, not {self.shown_score}")


DEFAULT = TimelineOptions()


def timeline_figure(timelines: Sequence[Timeline], labels: Sequence[str], options: TimelineOptions = DEFAULT) -> Figure:
    """A figure with the timelines of one or several videos below each other.

    ``labels``: the class names of the data set; they decide colours. Raises UserError where there is nothing to draw.
    """
    if not timelines:
        raise UserError("there is no video to draw a timeline of")
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


def check_picture(path: Path | None) -> None:
    """Raises UserError where ``path`` cannot be the name of a picture: asked before any work, not after it."""
    if path is not None and path.suffix not in SUFFIXES:
        raise UserError(f"pictures are written as {', '.join(SUFFIXES)}, not {path.name!r}")


def save(figure: Figure, path: Path) -> None:
    """Write ``figure`` as PNG, SVG or PDF, by the suffix of ``path``. Raises UserError on another suffix."""
    check_picture(path)
    # Without the date the same picture is the same file.
    metadata = {"Creator": None, "Date": None} if path.suffix == ".svg" else {}
    with replacing(path) as part:
        figure.savefig(part, format=path.suffix[1:], metadata=metadata)


def timeline_of(
    video: Video,
    detections: Detections | None = None,
    proposals: tuple[Float, NDArray[np.floating]] | None = None,
    actionness: tuple[NDArray[np.floating], Float] | None = None,
) -> Timeline:
    """The timeline of ``video`` out of collections of a data set.

    ``proposals``: intervals ``(N, 2)`` and scores ``(N,)``; ``actionness``: probabilities ``(T,)``, spans ``(T, 2)``.
    """
    best_first = None
    if proposals is not None:
        intervals, scores = proposals
        best_first = intervals[np.argsort(-scores, kind="stable")]
    values, spans = actionness if actionness is not None else (None, None)
    found = detections[video.id] if detections is not None and video.id in detections else None
    return Timeline(video, values, spans, best_first, found)


# ---------------------------------------------------------------------------------------------------- layout


def _parts(timeline: Timeline, labels: Sequence[str], options: TimelineOptions) -> list[tuple[str, float]]:
    """Names and heights (inches) of the rows of one video, from top to bottom."""
    rows = []
    if timeline.video.instances:
        lanes = max(_pack(timeline.video.intervals()), default=0) + 1
        rows.append(("truth", TRUTH * lanes))
    if timeline.actionness is not None:
        rows.append(("actionness", ACTIONNESS))
    if timeline.proposals is not None:
        rows.append(("proposals", PROPOSALS))
    if timeline.detections is not None:
        rows.append(("detections", LANE * max(1, len(_lanes(timeline, labels, options)))))
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
    """Draw one video into the strip of the figure that begins ``top`` inches above its lower edge."""
    total = figure.get_figheight()
    _title(figure, timeline, top / total)
    at = top - TITLE
    for number, (name, height) in enumerate(rows):
        box = (LEFT / WIDTH, (at - height) / total, 1 - (LEFT + RIGHT) / WIDTH, height / total)
        axes = figure.add_axes(box)
        _style(axes, timeline.video.duration, last=number == len(rows) - 1)
        if name == "truth":
            _draw_truth(axes, timeline, colours)
        elif name == "actionness":
            _draw_actionness(axes, timeline)
        elif name == "proposals":
            _draw_proposals(axes, timeline, options)
        else:
            _draw_detections(axes, timeline, labels, colours, options)
        if name != "detections":
            _row_name(axes, name)
        at -= height + GAP


def _title(figure: Figure, timeline: Timeline, y: float) -> None:
    video = timeline.video
    facts = [f"{video.duration:.1f} s"]
    if video.subset:  # a video of a data set: that it has no instance is known
        facts.append(f"{len(video.instances)} instance{'s' * (len(video.instances) != 1)}")
    if timeline.proposals is not None:
        facts.append(f"{len(timeline.proposals)} proposals")
    if timeline.detections is not None:
        facts.append(f"{len(timeline.detections.scores)} detections")
    offset = 0.2 / figure.get_figheight()
    plain: dict[str, Any] = {"parse_math": False, "va": "center"}
    figure.text(LEFT / WIDTH, y - offset, video.id, color=INK, fontsize=11.5, fontweight="bold", **plain)
    figure.text(1 - RIGHT / WIDTH, y - offset, "   ".join(facts), color=FAINT, fontsize=9, ha="right", **plain)


def _key(figure: Figure, names: set[str], options: TimelineOptions) -> None:
    """One line at the foot that says how to read the rows that are there."""
    said = []
    if "proposals" in names:
        fit = ", the greener the closer to an instance" if "truth" in names else ""
        said.append(f"proposals: the best {options.shown_proposals} as lines{fit}; grey: density of all")
    if "detections" in names:
        truth = ", pale: truth" if "truth" in names else ""
        said.append(f"detections: height is score{truth}")
    y = 0.5 * KEY / figure.get_figheight()
    figure.text(LEFT / WIDTH, y, "    |    ".join(said), color=FAINT, fontsize=8.5, va="center")


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


def _row_name(axes: Axes, name: str) -> None:
    axes.text(-0.012, 0.5, name, transform=axes.transAxes, ha="right", va="center", color=INK, fontsize=9.5)


def _pack(intervals: Float) -> list[int]:
    """A lane for each interval such that those of one lane do not overlap; as few lanes as possible."""
    lanes = np.zeros(len(intervals), dtype=int)
    free_from: list[float] = []
    for i in np.argsort(intervals[:, 0], kind="stable"):
        start, end = intervals[i]
        lane = next((n for n, free in enumerate(free_from) if free <= start), len(free_from))
        free_from[lane : lane + 1] = [end]
        lanes[i] = lane
    return [int(lane) for lane in lanes]


# ---------------------------------------------------------------------------------------------------- rows


def _bar(axes: Axes, interval: Any, bottom: float, height: float, colour: str, **style: Any) -> None:
    start, end = interval
    axes.add_patch(Rectangle((start, bottom), end - start, height, facecolor=colour, linewidth=0, **style))


def _outline(axes: Axes, interval: Any, bottom: float, height: float) -> None:
    start, end = interval
    axes.add_patch(Rectangle((start, bottom), end - start, height, fill=False, edgecolor="white", linewidth=0.7))


def _short(name: str, length: int = 19) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


def _write_inside(axes: Axes, text: str, interval: Any, y: float, colour: str, size: float) -> None:
    """Write ``text`` into a bar where it has room for it."""
    start, end = interval
    inches = (end - start) / axes.get_xlim()[1] * (WIDTH - LEFT - RIGHT)
    if inches > 0.0105 * size * len(text) + 0.08:
        middle = (start + end) / 2
        axes.text(middle, y, text, ha="center", va="center_baseline", color=colour, fontsize=size, parse_math=False)


def _draw_truth(axes: Axes, timeline: Timeline, colours: dict[str, str]) -> None:
    lanes = _pack(timeline.video.intervals())
    height = 1 / (max(lanes, default=0) + 1)
    for instance, lane in zip(timeline.video.instances, lanes, strict=True):
        colour = colours.get(instance.label, FAINT)
        bottom = 1 - (lane + 1) * height
        span = (instance.start, instance.end)
        _bar(axes, span, bottom + 0.08 * height, 0.84 * height, colour)
        _write_inside(axes, instance.label, span, bottom + 0.5 * height, ink_on(colour), 8.5)


def _draw_actionness(axes: Axes, timeline: Timeline) -> None:
    values, spans = timeline.actionness, timeline.spans
    if values is None or spans is None:
        raise ValueError("actionness needs the spans of its snippets")
    centres = spans.mean(axis=1)
    axes.fill_between(centres, 0, values, color="#5b6b8c", alpha=0.18, linewidth=0)
    axes.plot(centres, values, color="#5b6b8c", linewidth=1.3, solid_joinstyle="round")
    axes.axhline(0.5, color=FAINT, linewidth=0.7, linestyle=(0, (3, 3)), zorder=0.5)
    axes.set_ylim(0, 1.04)


def _draw_proposals(axes: Axes, timeline: Timeline, options: TimelineOptions) -> None:
    """The best proposals as lines, coloured by how well they fit an instance, on the density of all of them."""
    proposals = timeline.proposals
    if proposals is None or not len(proposals):
        return
    grid = np.linspace(0, timeline.video.duration, 600)
    begun = np.searchsorted(np.sort(proposals[:, 0]), grid, side="right")
    over = np.searchsorted(np.sort(proposals[:, 1]), grid, side="right")
    density = begun - over
    axes.fill_between(grid, 0, density / max(1, density.max()), color="#eceef1", linewidth=0)
    best = proposals[: options.shown_proposals]
    truth = timeline.video.intervals()
    fit = tiou(best, truth).max(axis=1) if len(truth) else np.full(len(best), 0.6)
    lanes = np.array(_pack(best))
    y = 1 - (lanes + 0.5) / (lanes.max() + 1)
    order = np.argsort(fit, kind="stable")
    lines = [((best[i, 0], y[i]), (best[i, 1], y[i])) for i in order]
    width = float(np.clip(40 / (lanes.max() + 1), 1.0, 3.2))
    axes.add_collection(LineCollection(lines, colors=FIT(fit[order]), linewidths=width, capstyle="butt"), autolim=False)


def _shown(timeline: Timeline, options: TimelineOptions) -> NDArray[np.int64]:
    """Rows of the detections to draw, best first."""
    found = timeline.detections
    if found is None or not len(found.scores):
        return np.zeros(0, dtype=np.int64)
    order = np.argsort(-found.scores, kind="stable")[: options.shown_detections]
    return order[found.scores[order] >= options.shown_score * max(0.0, float(found.scores[order[0]]))]


def _lanes(timeline: Timeline, labels: Sequence[str], options: TimelineOptions) -> list[str]:
    """Classes that get a lane: those of the truth by first occurrence, then those detected, best first."""
    found = timeline.detections
    detected = [] if found is None else [labels[found.classes[row]] for row in _shown(timeline, options)]
    true = [i.label for i in sorted(timeline.video.instances, key=lambda instance: instance.start)]
    return list(dict.fromkeys([*true, *detected]))[: options.shown_classes]


def _draw_detections(
    axes: Axes, timeline: Timeline, labels: Sequence[str], colours: dict[str, str], options: TimelineOptions
) -> None:
    """A lane for each class: detections as bars as high as their score, before pale boxes where the truth lies."""
    found, lanes = timeline.detections, _lanes(timeline, labels, options)
    if found is None or not lanes:
        _row_name(axes, "no detections")
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
    best = float(found.scores[shown[0]]) if len(shown) else 1.0
    for row in shown:
        label = labels[found.classes[row]]
        if label in bottoms:
            # Best first, so that a lower bar inside a higher one stays visible.
            share = max(float(found.scores[row]) / best, 0.0) if best > 0 else 1.0
            tall = height * (0.2 + 0.62 * share)
            bottom, colour = bottoms[label] + 0.04 * height, colours[label]
            _bar(axes, found.intervals[row], bottom, tall, colour, alpha=0.55 + 0.45 * share)
            _outline(axes, found.intervals[row], bottom, tall)
