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

from ssn_feat.drawing.pictures import save
from ssn_feat.drawing.timeline import timeline_figure
from ssn_feat.evaluation.compare_options import CompareOptions
from ssn_feat.evaluation.compare_output import MethodResult, plot_recall
from ssn_feat.evaluation.curves_figure import curves_figure
from ssn_feat.evaluation.error_analysis_output import error_figure
from ssn_feat.evaluation.evaluate import EvaluatedFiles
from ssn_feat.report.page_inputs import TrainingLog
from ssn_feat.report.training import kinds_of, training_figure


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
    if any(kind.terms for kind in kinds_of(logs)):
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
