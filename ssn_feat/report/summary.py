"""Tables of the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ssn_feat.drawing.html import Rows
from ssn_feat.evaluation.average_precision import truths_of
from ssn_feat.evaluation.error_analysis import KINDS
from ssn_feat.evaluation.evaluate import EvaluatedFiles
from ssn_feat.evaluation.output import summary_lines
from ssn_feat.report.charts import detection_charts, map_chart
from ssn_feat.report.page_sections import PageSections
from ssn_feat.report.report_options import ReportOptions

_CURVES: tuple[str, ...] = ("precision-recall", "levels", "calibration")
_ERRORS = ("errors", "impact", "missed", "sensitivity")


def add_summary(content: PageSections, measured: EvaluatedFiles, options: ReportOptions) -> None:
    """Add the section on mAP."""
    lines = [*summary_lines(measured.evaluation_set, options.evaluated(())), *measured.notes]
    content.add("Summary", lines, _mean_tables(measured), {"map": map_chart(measured)})


def add_detections(content: PageSections, measured: EvaluatedFiles, options: ReportOptions) -> None:
    """Add the sections on curves, classes and errors."""
    how = options.evaluated(())
    charts = detection_charts(measured)
    curves = {name: charts[name] for name in _CURVES if name in charts}
    content.add("Curves", _calibration_lines(measured), _recall_tables(measured, how.multiples), curves)
    content.add("Classes", [], _class_tables(measured), {"classes": charts["classes"]})
    errors = {name: charts[name] for name in _ERRORS if name in charts}
    lines = [
        "Analysis of DETAD, averaged over the tIoU thresholds: kinds of false positives and their impact, missed "
        "instances, and sensitivity to the kind of instance."
    ]
    content.add("Errors", lines, _error_tables(measured), errors)


def _calibration_lines(measured: EvaluatedFiles) -> list[str]:
    """Names the files that have no calibration."""
    names = [e.name for e, c in zip(measured.evaluations, measured.calibrations, strict=True) if np.isnan(c.error)]
    if not names:
        return []
    return [f"Without calibration, because their scores are not probabilities: {', '.join(names)}."]


def _percent(values: Iterable[float]) -> list[str]:
    """Shares as percentages with one decimal; a dash instead of NaN."""
    return ["–" if np.isnan(value) else f"{100 * value:.1f}" for value in values]


def _thresholds(measured: EvaluatedFiles) -> list[str]:
    return [f"{threshold:.3g}" for threshold in measured.evaluations[0].thresholds]


def _mean_tables(measured: EvaluatedFiles) -> dict[str, Rows]:
    first = measured.evaluations[0]
    heads = [*_thresholds(measured), "average"]
    means, differences = {}, {}
    for e in measured.evaluations:
        cells = _percent((*e.mean, e.average))
        if e.resampled is not None:
            ends = map(_percent, e.interval())
            cells = [f"{cell}\n{low}–{high}" for cell, low, high in zip(cells, *ends, strict=True)]
            if e is not first:
                by, (low, high) = e.difference(first)
                differences[f"{e.name} − {first.name}"] = {
                    head: f"{value:+.1f}\n{a:+.1f} to {b:+.1f}"
                    for head, value, a, b in zip(heads, 100 * by, 100 * low, 100 * high, strict=True)
                }
        counted = {"detections": str(e.detections), "videos without": str(e.lacking)}
        means[e.name] = {**dict(zip(heads, cells, strict=True)), **counted}
    note = ", below it 95 % intervals over videos" if first.resampled is not None else ""
    tables: dict[str, Rows] = {f"mAP in % at tIoU{note}": means}
    if differences:
        tables["difference in mAP in percentage points, on the same draws of videos"] = differences
    return tables


def _recall_tables(measured: EvaluatedFiles, multiples: Sequence[int]) -> dict[str, Rows]:
    rows = {}
    heads = [*_thresholds(measured), "average"]
    for e, recall in zip(measured.evaluations, measured.recalls, strict=True):
        for k, values in zip(multiples, recall, strict=True):
            cells = _percent((*values, values.mean()))
            rows[f"{e.name} @{k}x"] = dict(zip(heads, cells, strict=True))
    return (
        {"Recall@kx in %: recall of the k x best detections of a class in a video with x instances of it": rows}
        if rows
        else {}
    )


def _class_tables(measured: EvaluatedFiles) -> dict[str, Rows]:
    dataset = measured.evaluation_set.dataset
    number = np.bincount(truths_of(dataset).classes, minlength=len(dataset.labels))
    tiou = _thresholds(measured)[measured.level]
    rows = {}
    for position, label in enumerate(dataset.labels):
        cells = {"instances": str(number[position])}
        for e in measured.evaluations:
            values = e.average_precision[position]
            for head, value in ((f"{e.name} @{tiou}", values[measured.level]), (f"{e.name} average", values.mean())):
                (cells[head],) = _percent((value,))
        rows[label] = cells
    return {"AP of each class in %": rows}


def _error_tables(measured: EvaluatedFiles) -> dict[str, Rows]:
    rows = {}
    for kind, name in enumerate(KINDS):
        cells = {}
        for analysis in measured.analyses:
            (cells[f"{analysis.name}: share of the top 10 G"],) = _percent((analysis.share[kind],))
            gain = f"{100 * analysis.gains[kind - 1]:+.1f}" if kind else ""
            cells[f"{analysis.name}: mAP_N gained without"] = gain
        rows[name] = cells
    return {"detections of highest score by kind, in %; gains in percentage points": rows} if measured.analyses else {}


__all__ = ["add_detections", "add_summary"]
