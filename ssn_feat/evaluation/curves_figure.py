"""Precision-recall and reliability curves of several files as a figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssn_feat.drawing.colours import class_colours
from ssn_feat.drawing.pictures import FAINT, GRID, INK
from ssn_feat.evaluation.curves import RECALLS, Calibration, calibration_of, precision_recall
from ssn_feat.evaluation.measure import Evaluation


def curves_figure(evaluations: Sequence[Evaluation], level: int) -> Figure:
    """Precision-recall curves (mean over classes) of each file at the threshold of position ``level`` and of the first
    file at all thresholds, and reliability curves (precision against score) of files whose scores are probabilities.
    """
    calibrations = [calibration_of(e.ranked, level) for e in evaluations]
    probable = [number for number, curve in enumerate(calibrations) if not np.isnan(curve.error)]
    columns = 3 if probable else 2
    figure = Figure(figsize=(1 + 4 * columns, 4.2), dpi=120, layout="constrained", facecolor="white")
    compared, levels, *reliability = figure.subplots(1, columns)
    names = [evaluation.name for evaluation in evaluations]
    colours = list(class_colours(names).values())
    tiou = evaluations[0].thresholds[level]
    for evaluation, colour in zip(evaluations, colours, strict=True):
        curve = precision_recall(evaluation.ranked, level)
        compared.plot(
            100 * RECALLS, 100 * curve, color=colour, label=f"{evaluation.name}: {100 * evaluation.mean[level]:.1f}"
        )
    _clean(compared, f"files at tIoU {tiou:.3g} (mAP, %)", "recall, %", "precision, %", 100)
    shades = colormaps["viridis"](np.linspace(0.0, 0.85, len(evaluations[0].thresholds)))
    first = evaluations[0]
    for position, (threshold, average, shade) in enumerate(zip(first.thresholds, first.mean, shades, strict=True)):
        curve = precision_recall(first.ranked, position)
        levels.plot(100 * RECALLS, 100 * curve, color=shade, label=f"{threshold:.3g}: {100 * average:.1f}")
    _clean(levels, f"{first.name} at each tIoU (mAP, %)", "recall, %", "precision, %", 100)
    if probable:
        chosen = [(f"{names[number]}: {calibrations[number].note}", colours[number]) for number in probable]
        _draw_reliability(reliability[0], chosen, [calibrations[number] for number in probable], tiou)
    return figure


def _draw_reliability(
    axes: Axes, styles: Sequence[tuple[str, str]], calibrations: Sequence[Calibration], tiou: float
) -> None:
    """Draw calibrations with their labels and colours."""
    axes.plot([0, 1], [0, 100], color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    for (label, colour), curve in zip(styles, calibrations, strict=True):
        axes.plot(curve.score, 100 * curve.precision, color=colour, marker="o", markersize=4, label=label)
    _clean(axes, f"calibration at tIoU {tiou:.3g}", "score of the detections", "precision, %", None)


def _clean(axes: Axes, title: str, across: str, up: str, limit: float | None) -> None:
    axes.set_title(title, fontsize=10, loc="left", color=INK, parse_math=False)
    axes.set_xlabel(across, fontsize=9, color=INK)
    axes.set_ylabel(up, fontsize=9, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(length=0, labelsize=8, colors=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_ylim(0, 101)
    if limit is not None:
        axes.set_xlim(0, limit)
    legend = axes.legend(fontsize=8, frameon=False, loc="best")
    for text in legend.get_texts():
        text.set_parse_math(False)


__all__ = ["curves_figure"]
