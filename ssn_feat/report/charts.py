"""Charts of the page as data for plotly.js; the page sets the colours of text and background.

Titles are plain text; names of traces, categories and hover texts are escaped by :func:`plain`.

A chart is ``{"data": traces, "layout": layout}``. With ``"choice": name`` each trace has a ``group``, and the reader
chooses the group that is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

from ssn_feat.drawing.colours import class_colours
from ssn_feat.evaluation.compare_options import CompareOptions
from ssn_feat.evaluation.compare_output import MethodResult
from ssn_feat.evaluation.curves import RECALLS, class_precision_recall, precision_recall
from ssn_feat.evaluation.error_analysis import KINDS, ErrorAnalysis
from ssn_feat.evaluation.error_analysis_output import COLOURS
from ssn_feat.evaluation.error_buckets import Bucket
from ssn_feat.evaluation.evaluate import EvaluatedFiles
from ssn_feat.report.page_inputs import TrainingLog

Chart = dict[str, Any]
MEAN = "mean of all classes"
# Distinguish lines also without colour.
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_MARKS = ("circle", "square", "diamond", "triangle-up", "x")


def plain(text: str) -> str:
    """``text`` escaped for plotly.js, which interprets tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _percent(values: Any) -> list[float | None]:
    """Shares as percentages with two decimals; None instead of NaN."""
    return [None if np.isnan(v) else round(100 * float(v), 2) for v in np.atleast_1d(values)]


def _axis(title: str, **more: Any) -> dict[str, Any]:
    return {"title": {"text": title}, **more}


def _layout(title: str, across: dict[str, Any], up: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"title": {"text": title}, "xaxis": across, "yaxis": up, **more}


def _line(name: str, x: Any, y: Any, colour: str, number: int, **more: Any) -> dict[str, Any]:
    style = {"color": colour, "width": 2, "dash": _DASHES[number % len(_DASHES)]}
    return {"type": "scatter", "mode": "lines", "name": plain(name), "x": list(x), "y": list(y), "line": style, **more}


def _points(name: str, x: Any, y: Any, colour: str, number: int, **more: Any) -> dict[str, Any]:
    marker = {"symbol": _MARKS[number % len(_MARKS)], "size": 7, "color": colour}
    return _line(name, x, y, colour, number, **{"mode": "lines+markers", "marker": marker, **more})


def _bars(name: str, x: Any, y: Any, colour: Any, **more: Any) -> dict[str, Any]:
    return {"type": "bar", "name": plain(name), "x": list(x), "y": list(y), "marker": {"color": colour}, **more}


_SHARE = {"range": [0, 102], "ticksuffix": " %"}


def detection_charts(measured: EvaluatedFiles) -> dict[str, Chart]:
    """Charts of mAP, precision and recall, calibration, classes and errors, by name."""
    return {
        "map": _map_chart(measured),
        "precision-recall": _precision_recall_chart(measured),
        "levels": _level_chart(measured),
        "calibration": _calibration_chart(measured),
        "classes": _class_chart(measured),
        **error_charts(measured.analyses),
    }


def _colours(things: Sequence[Any]) -> list[str]:
    return list(class_colours([str(number) for number in range(len(things))]).values())


def _map_chart(measured: EvaluatedFiles) -> Chart:
    traces = []
    names = [e.name for e in measured.evaluations]
    for number, (e, colour) in enumerate(zip(measured.evaluations, _colours(names), strict=True)):
        more: dict[str, Any] = {}
        if e.resampled is not None:
            low, high = (np.array(end[:-1]) for end in e.interval())
            more["error_y"] = {
                "type": "data",
                "symmetric": False,
                "array": _percent(high - e.mean),
                "arrayminus": _percent(e.mean - low),
                "thickness": 1,
                "width": 3,
            }
        traces.append(_points(e.name, e.thresholds, _percent(e.mean), colour, number, **more))
    note = " with 95 % intervals" if measured.evaluations[0].resampled is not None else ""
    return {
        "data": traces,
        "layout": _layout(f"mAP at tIoU{note}", _axis("tIoU"), _axis("mAP", ticksuffix=" %", rangemode="tozero")),
    }


def _precision_recall_chart(measured: EvaluatedFiles) -> Chart:
    """Curves of each file at one threshold, for the mean over classes or a chosen class."""
    level, traces = measured.level, []
    recalls = _percent(RECALLS)
    names = [e.name for e in measured.evaluations]
    for number, (e, colour) in enumerate(zip(measured.evaluations, _colours(names), strict=True)):
        mean = _percent(precision_recall(e.ranked)[level])
        label = f"{e.name}: {e.mean[level]:.3f}"
        traces.append(_line(label, recalls, mean, colour, number, group=MEAN))
        for position, curve in enumerate(class_precision_recall(e.ranked, level)):
            if not np.isnan(curve).any():
                label = f"{e.name}: {e.average_precision[position, level]:.3f}"
                # Every second point suffices for a class, and halves the size of a page with 200 classes.
                group = e.labels[position]
                traces.append(_line(label, recalls[::2], _percent(curve)[::2], colour, number, group=group))
    title = f"Precision and recall at tIoU {measured.evaluations[0].thresholds[level]:.3g} (AP)"
    layout = _layout(title, _axis("recall", **_SHARE), _axis("precision", **_SHARE))
    return {"data": traces, "layout": layout, "choice": "class"}


def _level_chart(measured: EvaluatedFiles) -> Chart:
    """Curves of a chosen file at each threshold."""
    traces = []
    for e in measured.evaluations:
        shades = colormaps["viridis"](np.linspace(0.12, 0.88, len(e.thresholds)))
        for threshold, curve, mean, shade in zip(e.thresholds, precision_recall(e.ranked), e.mean, shades, strict=True):
            label = f"{threshold:.3g}: {mean:.3f}"
            traces.append(_line(label, _percent(RECALLS), _percent(curve), to_hex(shade), 0, group=e.name))
    # There may be too many thresholds for a legend below the chart.
    beside = {"x": 1.01, "y": 1, "xanchor": "left", "yanchor": "top", "font": {"size": 11}}
    axes = _axis("recall", **_SHARE), _axis("precision", **_SHARE)
    layout = _layout("Precision and recall at each tIoU (mAP)", *axes, legend=beside)
    return {"data": traces, "layout": layout, "choice": "file"}


def _calibration_chart(measured: EvaluatedFiles) -> Chart:
    traces: list[dict[str, Any]] = []
    probable = not any(np.isnan(curve.error) for curve in measured.calibrations)
    if probable:
        diagonal = _line("perfect calibration", [0, 1], [0, 100], "#8a9099", 2)
        traces.append({**diagonal, "hoverinfo": "skip"})
    names = [e.name for e in measured.evaluations]
    for number, (name, colour, curve) in enumerate(zip(names, _colours(names), measured.calibrations, strict=True)):
        hover = [f"{count} detections" for count in curve.counts.tolist()]
        score = [float(f"{value:.4g}") for value in curve.score]
        traces.append(_points(f"{name}: {curve.note}", score, _percent(curve.precision), colour, number, text=hover))
    title = f"Calibration at tIoU {measured.evaluations[0].thresholds[measured.level]:.3g}"
    return {
        "data": traces,
        "layout": _layout(title, _axis("score of the detections"), _axis("hits among them", **_SHARE)),
    }


def _class_chart(measured: EvaluatedFiles) -> Chart:
    """Average precision of each class, in ascending order of the first file."""
    first = measured.evaluations[0]
    known = np.flatnonzero(~np.isnan(first.average_precision).any(axis=1))
    order = known[np.argsort(first.average_precision[known, measured.level], kind="stable")]
    names = [plain(first.labels[c]) for c in order]
    traces = [
        _bars(e.name, names, _percent(e.average_precision[order, measured.level]), colour)
        for e, colour in zip(measured.evaluations, _colours(measured.evaluations), strict=True)
    ]
    title = f"Average precision of each class at tIoU {first.thresholds[measured.level]:.3g}"
    across = _axis("", type="category", automargin=True)
    return {"data": traces, "layout": _layout(title, across, _axis("AP", ticksuffix=" %"))}


def error_charts(analyses: Sequence[ErrorAnalysis]) -> dict[str, Chart]:
    """Kinds of errors, their impact, and missed instances."""
    if not analyses:
        return {}
    return {
        "errors": _profile_chart(analyses),
        "impact": _impact_chart(analyses),
        "missed": _bucket_chart(analyses, "missed", "Missed instances", "missed"),
        "sensitivity": _bucket_chart(analyses, "average_map", "Sensitivity: mAP_N on one group of instances", "mAP_N"),
    }


def _profile_chart(analyses: Sequence[ErrorAnalysis]) -> Chart:
    traces = []
    for analysis in analyses:
        groups = [f"{number + 1}G" for number in range(len(analysis.shares))]
        for kind, colour, shares in zip(KINDS, COLOURS, analysis.shares.T, strict=True):
            traces.append(_bars(kind, groups, _percent(shares), colour, group=analysis.name))
    layout = _layout(
        "Detections of highest score, in groups of G (the number of instances)",
        _axis("", type="category"),
        _axis("", **_SHARE),
        barmode="stack",
    )
    return {"data": traces, "layout": layout, "choice": "file"}


def _impact_chart(analyses: Sequence[ErrorAnalysis]) -> Chart:
    traces = [
        _bars(analysis.name, KINDS[1:], [round(100 * gain, 2) for gain in analysis.gains.tolist()], colour)
        for analysis, colour in zip(analyses, _colours(analyses), strict=True)
    ]
    layout = _layout("Gain in average mAP_N without each kind of error", _axis(""), _axis("points"))
    return {"data": traces, "layout": layout}


def _bucket_chart(analyses: Sequence[ErrorAnalysis], quantity: str, title: str, axis: str) -> Chart:
    """A bar for each bucket of each file, grouped by characteristic."""
    traces = []
    for analysis, colour in zip(analyses, _colours(analyses), strict=True):
        outer, inner, values, notes = [], [], [], []
        for what, rows in analysis.buckets.items():
            for row in rows:
                outer.append("length, s" if what == "length" else what)
                inner.append(row.name)
                values.extend(_percent(getattr(row, quantity)))
                notes.append(_bucket_note(row))
        traces.append(
            _bars(analysis.name, [], values, colour, text=notes) | {"x": [outer, inner], "textposition": "none"}
        )
    return {
        "data": traces,
        "layout": _layout(title, _axis("", type="multicategory"), _axis(axis, ticksuffix=" %")),
    }


def _bucket_note(row: Bucket) -> str:
    return plain(f"{row.span}; {row.instances} instances")


def proposal_charts(results: Sequence[MethodResult], options: CompareOptions) -> dict[str, Chart]:
    """Average recall by number of proposals, recall by tIoU, and average recall of groups of instances."""
    charts: dict[str, Chart] = {
        "average-recall": {
            "data": [],
            "layout": _layout("AR@AN (area)", _axis("proposals per video"), _axis("average recall", **_SHARE)),
        },
        "recall": {"data": [], "layout": _layout("Recall at tIoU", _axis("tIoU"), _axis("recall", **_SHARE))},
        "by-length": {
            "data": [],
            "layout": _layout("By length of instances", _axis("", type="category"), _axis("average recall", **_SHARE)),
        },
        "by-number": {
            "data": [],
            "layout": _layout(
                "By number of instances in a video", _axis("", type="category"), _axis("average recall", **_SHARE)
            ),
        },
    }
    for number, (result, colour) in enumerate(zip(results, _colours(results), strict=True)):
        curve, name = result.curve, result.name
        area = f"{name} ({curve.auc:.1f})"
        numbers = [round(float(n), 4) for n in curve.numbers]
        charts["average-recall"]["data"].append(_line(area, numbers, _percent(curve.average), colour, number))
        charts["recall"]["data"].append(_points(name, options.tious, _percent(result.recall), colour, number))
        for key, groups in (("by-length", result.by_length), ("by-number", result.by_number)):
            charts[key]["data"].append(_points(name, map(plain, groups.names), _percent(groups.recall), colour, number))
    return charts


def training_charts(logs: Sequence[TrainingLog]) -> dict[str, Chart]:
    """One chart for each logged quantity, a line for each run."""
    keys = dict.fromkeys(key for log in logs for key in log.keys)
    colours = _colours(logs)
    charts = {}
    for position, key in enumerate(keys):
        traces = []
        for number, (log, colour) in enumerate(zip(logs, colours, strict=True)):
            epochs, values = log.series(key)
            if values:
                rounded = [float(f"{value:.5g}") for value in values]
                traces.append(_line(log.name, epochs, rounded, colour, number))
        charts[f"training-{position}"] = {
            "data": traces,
            "layout": _layout(key, _axis("epoch"), _axis("", rangemode="tozero"), small=True),
        }
    return charts


__all__ = ["Chart", "detection_charts", "error_charts", "plain", "proposal_charts", "training_charts"]
