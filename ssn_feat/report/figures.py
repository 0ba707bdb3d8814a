"""The charts of the page as matplotlib figures, to save as PNG, SVG or PDF for papers and slides.

============================  =============================================================================
:func:`timeline_figure`        timelines of videos: instances, actionness, proposals, detections
:func:`curves_figure`          precision-recall curves of files and of thresholds, calibration
:func:`error_figure`           kinds of errors, their impact, missed instances, sensitivity
:func:`plot_recall`            AR@AN, recall at tIoU, average recall of groups of instances
:func:`training_figure`        logged quantities of training
============================  =============================================================================

:func:`save` writes one of them; :func:`write_figures` writes all figures of a page.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ssn_feat.drawing.colours import class_colours
from ssn_feat.drawing.pictures import FAINT, GRID, INK, save
from ssn_feat.drawing.timeline import timeline_figure
from ssn_feat.errors import UserError
from ssn_feat.evaluation.compare_options import CompareOptions
from ssn_feat.evaluation.compare_output import MethodResult, plot_recall
from ssn_feat.evaluation.curves_figure import curves_figure
from ssn_feat.evaluation.error_analysis_output import error_figure
from ssn_feat.evaluation.evaluate import EvaluatedFiles
from ssn_feat.report.page_inputs import TrainingLog

_COLUMNS = 3


def training_figure(logs: Sequence[TrainingLog]) -> Figure:
    """A small plot for each logged quantity, with a line for each run. Raises UserError without any."""
    keys = list(dict.fromkeys(key for log in logs for key in log.keys))
    if not keys:
        raise UserError("none of the runs has logged anything")
    rows = -(-len(keys) // _COLUMNS)
    figure = Figure(figsize=(12, 2.8 * rows), dpi=120, layout="constrained", facecolor="white")
    plots = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    colours = class_colours([str(number) for number in range(len(logs))]).values()
    for axes, key in zip(plots, keys, strict=False):
        for log, colour in zip(logs, colours, strict=True):
            epochs, values = log.series(key)
            if values:
                axes.plot(epochs, values, color=colour, label=log.name)
        axes.set_title(key, fontsize=10, loc="left", color=INK, parse_math=False)
        axes.set_xlabel("epoch", fontsize=9, color=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(length=0, labelsize=8, colors=FAINT)
        axes.grid(color=GRID, linewidth=0.8)
        for text in axes.legend(fontsize=8, frameon=False).get_texts():
            text.set_parse_math(False)
    for axes in plots[len(keys) :]:
        axes.set_visible(False)
    return figure


def write_figures(
    folder: Path,
    measured: EvaluatedFiles | None,
    compared: Sequence[MethodResult],
    how: CompareOptions | None,
    logs: Sequence[TrainingLog],
) -> list[Path]:
    """Write each figure that has data as PNG and SVG; returns the files."""
    figures = {}
    if measured is not None:
        figures["curves"] = curves_figure(measured.evaluations, measured.level)
        for number, analysis in enumerate(measured.analyses, start=1):
            figures[f"errors-{number}"] = error_figure(analysis)
    if how is not None:
        figures["proposals"] = plot_recall(compared, how.tious, how.protocol or "")
    if any(log.keys for log in logs):
        figures["training"] = training_figure(logs)
    written = []
    for name, figure in figures.items():
        for ending in ("png", "svg"):
            written.append(folder / f"{name}.{ending}")
            save(figure, written[-1])
    return written


__all__ = [
    "curves_figure",
    "error_figure",
    "plot_recall",
    "save",
    "timeline_figure",
    "training_figure",
    "write_figures",
]
