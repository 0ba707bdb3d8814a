"""Error analyses as tables, CSV and a figure."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.text import Text

from ssn_feat.drawing.pictures import FAINT, GRID, INK
from ssn_feat.drawing.tables import show, table_of
from ssn_feat.evaluation.error_analysis import KINDS, ErrorAnalysis
from ssn_feat.evaluation.error_buckets import LIMITS, Bucket
from ssn_feat.files import replacing

# One colour for true positives and five distinct colours for the kinds of errors.
COLOURS = ("#3ca951", "#4269d0", "#a463f2", "#efb118", "#ff725c", "#9498a0")
MISSED, FOUND = "#c9514a", "#4269d0"
_WHAT = {"coverage": "coverage", "length": "length, s", "instances": "instances", "context": "context"}


def print_analyses(analyses: Sequence[ErrorAnalysis]) -> None:
    """Print the tables of each analysis."""
    for analysis in analyses:
        print(f"\nerrors of {analysis.name}: mean over tIoU {', '.join(f'{t:.3g}' for t in analysis.thresholds)}")
        table = table_of("detections of highest score", "top G", "top 10 G", "gain in average mAP_N without")
        for kind, first, share, gain in zip(
            KINDS, analysis.shares[0], analysis.share, [None, *analysis.gains.tolist()], strict=True
        ):
            table.add_row(kind, _percent(first), _percent(share), "" if gain is None else f"{gain:+.3f}")
        show(table)
        print(f"average mAP_N is {analysis.average_map:.3f}, {analysis.limited_map:.3f} of the top 10 G alone")
        print(f"limits of the buckets: {LIMITS[analysis.scheme]}")
        table = table_of("instances by", "bucket", "values", "instances", "missed", "average mAP_N", names=("bucket",))
        for what, rows in analysis.buckets.items():
            for row in rows:
                average = "-" if np.isnan(row.average_map) else f"{row.average_map:.3f}"
                name = Text(_WHAT[what] if row is rows[0] else "")
                table.add_row(name, row.name, row.span, str(row.instances), _percent(row.missed), average)
        show(table)


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.1f} %"


def write_analysis_csv(path: Path, analyses: Sequence[ErrorAnalysis]) -> None:
    """Lines of file, table, row, column, value; values are shares, not percentages, and empty instead of NaN."""
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "table", "row", "column", "value"])
        for analysis in analyses:
            for *cell, value in _cells(analysis):
                writer.writerow([analysis.name, *cell, "" if np.isnan(value) else repr(float(value))])


def _cells(analysis: ErrorAnalysis) -> Iterator[tuple[str, str, str, float]]:
    for group, shares in enumerate(analysis.shares, start=1):
        for kind, share in zip(KINDS, shares.tolist(), strict=True):
            yield "top detections", f"{group}G", kind, share
    for kind, gain in zip(KINDS[1:], analysis.gains.tolist(), strict=True):
        yield "gain in average mAP_N", "10G", kind, gain
    yield "average mAP_N", "10G", "", analysis.limited_map
    yield "average mAP_N", "all", "", analysis.average_map
    for what, rows in analysis.buckets.items():
        for row in rows:
            yield what, row.name, "instances", row.instances
            yield what, row.name, "missed", row.missed
            yield what, row.name, "average mAP_N", row.average_map


def error_figure(analysis: ErrorAnalysis) -> Figure:
    """A figure of false positives by rank, their impact, missed instances, and mAP_N by kind of instance."""
    figure = Figure(figsize=(12, 9), dpi=120, layout="constrained", facecolor="white")
    # File names must not be parsed as mathematics.
    figure.suptitle(analysis.name, fontsize=12, color=INK, x=0.01, ha="left", parse_math=False, weight="bold")
    upper, middle, lower = figure.subfigures(3, 1, squeeze=False, height_ratios=(1.25, 1, 1))[:, 0]
    profile, impact = upper.subplots(1, 2, width_ratios=(1.6, 1))
    _draw_profile(profile, analysis)
    _draw_impact(impact, analysis)
    missed, sensitivity = middle.subplots(), lower.subplots()
    _draw_buckets(missed, analysis, [b.missed for rows in analysis.buckets.values() for b in rows], MISSED)
    _head(missed, "False negatives: share of the instances that is missed, %", 20)
    _draw_buckets(sensitivity, analysis, [b.average_map for rows in analysis.buckets.values() for b in rows], FOUND)
    sensitivity.axhline(100 * analysis.average_map, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=0.9)
    overall = f"{100 * analysis.average_map:.1f}"
    _head(sensitivity, f"Sensitivity: average mAP_N on the instances of one bucket, % (dashed: on all, {overall})", 20)
    return figure


def _head(axes: Axes, text: str, pad: float = 8) -> None:
    axes.set_title(text, fontsize=10, loc="left", color=INK, pad=pad)


def _clean(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(length=0, labelsize=8, colors=INK)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def _draw_profile(axes: Axes, analysis: ErrorAnalysis) -> None:
    shares: NDArray[np.float64] = 100 * np.nan_to_num(analysis.shares)
    positions = np.arange(len(shares))
    bottom = np.zeros(len(shares))
    for kind, colour, values in zip(KINDS, COLOURS, shares.T, strict=True):
        axes.bar(
            positions, values, bottom=bottom, width=0.78, color=colour, label=kind, edgecolor="white", linewidth=0.6
        )
        bottom += values
    _clean(axes)
    axes.set_xticks(positions, [f"{group + 1}G" for group in positions])
    axes.set(ylim=(0, 100), xlim=(-0.6, len(shares) - 0.4))
    _head(axes, "The detections of highest score, G (number of truths) at a time, %")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=6, frameon=False, fontsize=8, handlelength=1)


def _draw_impact(axes: Axes, analysis: ErrorAnalysis) -> None:
    gains = 100 * analysis.gains
    bars = axes.barh(np.arange(len(gains)), gains, color=COLOURS[1:], height=0.66)
    axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8, color=INK)
    _clean(axes)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.grid(visible=False, axis="y")
    axes.set_yticks(np.arange(len(gains)), KINDS[1:])
    axes.invert_yaxis()
    axes.set_xlim(0, max(1.0, 1.15 * float(gains.max())))
    _head(axes, "Gain in average mAP_N without them, points")


def _draw_buckets(axes: Axes, analysis: ErrorAnalysis, values: Sequence[float], colour: str) -> None:
    """A bar for each bucket, grouped by characteristic."""
    positions, ticks, at = [], [], 0.0
    for what, rows in analysis.buckets.items():
        group_positions = at + np.arange(len(rows))
        axes.text(
            group_positions.mean(),
            1.0,
            _WHAT[what],
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=8,
            color=FAINT,
        )
        positions.extend(group_positions.tolist())
        ticks.extend([f"{row.name}\n{_short(row)}\nn={row.instances}" for row in rows])
        at = group_positions[-1] + 1.8
    heights = 100 * np.nan_to_num(np.array(values, dtype=np.float64))
    bars = axes.bar(positions, heights, color=colour, width=0.78)
    axes.bar_label(bars, ["–" if np.isnan(v) else f"{100 * v:.1f}" for v in values], padding=2, fontsize=8, color=INK)
    _clean(axes)
    axes.set_xticks(positions, ticks, fontsize=7)
    # Leaves room for the number above the highest bar.
    axes.set(ylim=(0, max(10.0, 1.12 * float(heights.max()))), xlim=(-0.7, positions[-1] + 0.7))


def _short(bucket: Bucket) -> str:
    return bucket.span.replace(" – ", "–").replace("> ", ">")


__all__ = ["error_figure", "print_analyses", "write_analysis_csv"]
