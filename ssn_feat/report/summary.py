"""Tables of the page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssn_feat.drawing.html import Rows
from ssn_feat.evaluation.average_precision import truths_of
from ssn_feat.evaluation.error_analysis import KINDS
from ssn_feat.evaluation.evaluate import EvaluatedFiles
from ssn_feat.evaluation.output import summary_lines
from ssn_feat.report.charts import detection_charts
from ssn_feat.report.page_inputs import TrainingLog
from ssn_feat.report.page_sections import PageSections
from ssn_feat.report.report_options import ReportOptions

_ERRORS = ("errors", "impact", "missed", "sensitivity")


def add_detections(content: PageSections, measured: EvaluatedFiles, options: ReportOptions) -> None:
    """Add the sections on mAP, curves, classes and errors."""
    how = options.evaluated(())
    charts = detection_charts(measured)
    lines = [*summary_lines(measured.evaluation_set, how), *measured.notes]
    content.add("Summary", lines, _mean_tables(measured), {"map": charts["map"]})
    curves = {name: charts[name] for name in ("precision-recall", "levels", "calibration")}
    content.add("Curves", [], _recall_tables(measured, how.multiples), curves)
    content.add("Classes", [], _class_tables(measured), {"classes": charts["classes"]})
    lines = [
        "Analysis of DETAD, averaged over the tIoU thresholds: kinds of false positives and their impact, missed "
        "instances, and sensitivity to the kind of instance."
    ]
    content.add("Errors", lines, _error_tables(measured), {name: charts[name] for name in _ERRORS if name in charts})


def _thresholds(measured: EvaluatedFiles) -> list[str]:
    return [f"{threshold:.3g}" for threshold in measured.evaluations[0].thresholds]


def _mean_tables(measured: EvaluatedFiles) -> dict[str, Rows]:
    first = measured.evaluations[0]
    heads = [*_thresholds(measured), "average"]
    means, differences = {}, {}
    for e in measured.evaluations:
        cells = [f"{value:.3f}" for value in (*e.mean, e.average)]
        if e.resampled is not None:
            low, high = e.interval()
            cells = [f"{cell}\n{a:.3f}–{b:.3f}" for cell, a, b in zip(cells, low, high, strict=True)]
            if e is not first:
                by, (low, high) = e.difference(first)
                differences[f"{e.name} − {first.name}"] = {
                    head: f"{value:+.3f}\n{a:+.3f} to {b:+.3f}"
                    for head, value, a, b in zip(heads, by, low, high, strict=True)
                }
        counted = {"detections": str(e.detections), "videos without": str(e.lacking)}
        means[e.name] = {**dict(zip(heads, cells, strict=True)), **counted}
    note = ", below it 95 % intervals over videos" if first.resampled is not None else ""
    tables: dict[str, Rows] = {f"mAP at tIoU{note}": means}
    if differences:
        tables["difference in mAP, on the same draws of videos"] = differences
    return tables


def _recall_tables(measured: EvaluatedFiles, multiples: Sequence[int]) -> dict[str, Rows]:
    rows = {}
    heads = [*_thresholds(measured), "average"]
    for e, recall in zip(measured.evaluations, measured.recalls, strict=True):
        for k, values in zip(multiples, recall, strict=True):
            cells = (f"{value:.3f}" for value in (*values, values.mean()))
            rows[f"{e.name} @{k}x"] = dict(zip(heads, cells, strict=True))
    return (
        {"Recall@kx: recall of the k x best detections of a class in a video with x instances of it": rows}
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
                cells[head] = "–" if np.isnan(value) else f"{value:.3f}"
        rows[label] = cells
    return {"average precision of each class": rows}


def _error_tables(measured: EvaluatedFiles) -> dict[str, Rows]:
    rows = {}
    for kind, name in enumerate(KINDS):
        cells = {}
        for analysis in measured.analyses:
            cells[f"{analysis.name}: share of the top 10 G"] = f"{100 * analysis.share[kind]:.1f} %"
            gain = f"{analysis.gains[kind - 1]:+.3f}" if kind else ""
            cells[f"{analysis.name}: mAP_N gained without"] = gain
        rows[name] = cells
    return {"detections of highest score by kind": rows} if measured.analyses else {}


def training_tables(logs: Sequence[TrainingLog]) -> dict[str, Rows]:
    """Final results of each run."""
    keys = [k for k in dict.fromkeys(k for log in logs for k in log.summary) if k != "final"]
    rows = {log.name: {key: _cell(log.summary.get(key)) for key in keys} for log in logs}
    return {"runs": rows} if keys else {}


def _cell(value: object) -> str:
    if value is None or isinstance(value, dict | list):
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


__all__ = ["add_detections", "training_tables"]
