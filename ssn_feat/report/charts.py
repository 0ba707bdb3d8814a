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
from ssn_feat.evaluation.compare_output import MethodResult, proposals_text
from ssn_feat.evaluation.curves import RECALLS, class_precision_recall, precision_recall
from ssn_feat.evaluation.error_analysis import KINDS, ErrorAnalysis
from ssn_feat.evaluation.error_analysis_output import COLOURS
from ssn_feat.evaluation.error_buckets import Bucket
from ssn_feat.evaluation.evaluate import EvaluatedFiles
from ssn_feat.terminal import counted

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


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis with a title."""
    return {"title": {"text": title}, **more}


def layout(title: str, across: dict[str, Any], up: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The layout of a chart with a title and two axes."""
    return {"title": {"text": title}, "xaxis": across, "yaxis": up, **more}


def line(name: str, x: Any, y: Any, colour: str, number: int, **more: Any) -> dict[str, Any]:
    """A line; ``number`` decides its dashes."""
    style = {"color": colour, "width": 2, "dash": _DASHES[number % len(_DASHES)]}
    return {"type": "scatter", "mode": "lines", "name": plain(name), "x": list(x), "y": list(y), "line": style, **more}


def _points(name: str, x: Any, y: Any, colour: str, number: int, **more: Any) -> dict[str, Any]:
    marker = {"symbol": _MARKS[number % len(_MARKS)], "size": 7, "color": colour}
    return line(name, x, y, colour, number, **{"mode": "lines+markers", "marker": marker, **more})


def _bars(name: str, x: Any, y: Any, colour: Any, **more: Any) -> dict[str, Any]:
    return {"type": "bar", "name": plain(name), "x": list(x), "y": list(y), "marker": {"color": colour}, **more}


_SHARE = {"range": [0, 102], "ticksuffix": " %"}


def detection_charts(measured: EvaluatedFiles) -> dict[str, Chart]:
    """Charts of precision and recall, calibration, classes and errors, by name."""
    return {
        "precision-recall": _precision_recall_chart(measured),
        "levels": _level_chart(measured),
        **_calibration_chart(measured),
        "classes": _class_chart(measured),
        **error_charts(measured.analyses),
    }


def _colours(things: Sequence[Any]) -> list[str]:
    return list(class_colours([str(number) for number in range(len(things))]).values())


def map_chart(measured: EvaluatedFiles) -> Chart:
    """mAP of each file at each tIoU."""
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
        "layout": layout(f"mAP at tIoU{note}", axis("tIoU"), axis("mAP", ticksuffix=" %", rangemode="tozero")),
    }


def _precision_recall_chart(measured: EvaluatedFiles) -> Chart:
    """Curves of each file at one threshold, for the mean over classes or a chosen class."""
    level, traces = measured.level, []
    recalls = _percent(RECALLS)
    names = [e.name for e in measured.evaluations]
    for number, (e, colour) in enumerate(zip(measured.evaluations, _colours(names), strict=True)):
        mean = _percent(precision_recall(e.ranked, level))
        label = f"{e.name}: {100 * e.mean[level]:.1f} %"
        traces.append(line(label, recalls, mean, colour, number, group=MEAN))
        for position, curve in enumerate(class_precision_recall(e.ranked, level)):
            if not np.isnan(curve).any():
                label = f"{e.name}: {100 * e.average_precision[position, level]:.1f} %"
                # Every second point suffices for a class, and halves the size of a page with 200 classes.
                group = e.labels[position]
                traces.append(line(label, recalls[::2], _percent(curve)[::2], colour, number, group=group))
    title = f"Precision and recall at tIoU {measured.evaluations[0].thresholds[level]:.3g} (AP)"
    drawn = layout(title, axis("recall", **_SHARE), axis("precision", **_SHARE))
    return {"data": traces, "layout": drawn, "choice": "class"}


def _level_chart(measured: EvaluatedFiles) -> Chart:
    """Curves of a chosen file at each threshold."""
    traces = []
    for e in measured.evaluations:
        shades = colormaps["viridis"](np.linspace(0.12, 0.88, len(e.thresholds)))
        for position, (threshold, mean, shade) in enumerate(zip(e.thresholds, e.mean, shades, strict=True)):
            curve = precision_recall(e.ranked, position)
            label = f"{threshold:.3g}: {100 * mean:.1f} %"
            traces.append(line(label, _percent(RECALLS), _percent(curve), to_hex(shade), 0, group=e.name))
    # There may be too many thresholds for a legend below the chart.
    beside = {"x": 1.01, "y": 1, "xanchor": "left", "yanchor": "top", "font": {"size": 11}}
    axes = axis("recall", **_SHARE), axis("precision", **_SHARE)
    drawn = layout("Precision and recall at each tIoU (mAP)", *axes, legend=beside)
    return {"data": traces, "layout": drawn, "choice": "file"}


def _calibration_chart(measured: EvaluatedFiles) -> dict[str, Chart]:
    """The calibration of the files whose scores are probabilities; no chart if there are none."""
    names = [e.name for e in measured.evaluations]
    traces: list[dict[str, Any]] = []
    for number, (name, colour, curve) in enumerate(zip(names, _colours(names), measured.calibrations, strict=True)):
        if not np.isnan(curve.error):
            hover = [counted(count, "detection") for count in curve.counts.tolist()]
            label = f"{name}: error {100 * curve.error:.1f} %"
            traces.append(_points(label, _percent(curve.score), _percent(curve.precision), colour, number, text=hover))
    if not traces:
        return {}
    diagonal = line("perfect calibration", [0, 100], [0, 100], "#8a9099", 2, hoverinfo="skip")
    title = f"Calibration at tIoU {measured.evaluations[0].thresholds[measured.level]:.3g}"
    drawn = layout(title, axis("score of the detections", ticksuffix=" %"), axis("precision", **_SHARE))
    return {"calibration": {"data": [diagonal, *traces], "layout": drawn}}


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
    across = axis("", type="category", automargin=True)
    return {"data": traces, "layout": layout(title, across, axis("AP", ticksuffix=" %"))}


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
    drawn = layout(
        "Detections of highest score, in groups of G (the number of instances)",
        axis("", type="category"),
        axis("", **_SHARE),
        barmode="stack",
    )
    return {"data": traces, "layout": drawn, "choice": "file"}


def _impact_chart(analyses: Sequence[ErrorAnalysis]) -> Chart:
    traces = [
        _bars(analysis.name, KINDS[1:], [round(100 * gain, 2) for gain in analysis.gains.tolist()], colour)
        for analysis, colour in zip(analyses, _colours(analyses), strict=True)
    ]
    drawn = layout(
        "Gain in average mAP_N without each kind of error", axis("", automargin=True), axis("mAP_N, percentage points")
    )
    return {"data": traces, "layout": drawn}


def _bucket_chart(analyses: Sequence[ErrorAnalysis], quantity: str, title: str, up: str) -> Chart:
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
        "layout": layout(title, axis("", type="multicategory"), axis(up, ticksuffix=" %")),
    }


def _bucket_note(row: Bucket) -> str:
    return plain(f"{row.span}; {counted(row.instances, 'instance')}")


def proposal_charts(results: Sequence[MethodResult], options: CompareOptions) -> dict[str, Chart]:
    """Average recall by number of proposals, recall by tIoU, and average recall of groups of instances."""
    at = proposals_text(results[0].number)
    average, names = axis("AR", **_SHARE), {"type": "category", "automargin": True}
    curve = layout("AR@AN (AUC)", axis("proposals per video"), average)
    recall = layout(f"Recall with {at}", axis("tIoU"), axis("recall", **_SHARE))
    lengths = layout(f"AR by length of instances, {at}", axis("", **names), average)
    numbers = layout(f"AR by number of instances in a video, {at}", axis("", **names), average)
    classes = layout(f"AR by class, {at}", axis("", **names), average)
    layouts = {"average-recall": curve, "recall": recall, "by-length": lengths, "by-number": numbers}
    charts: dict[str, Chart] = {key: {"data": [], "layout": each} for key, each in layouts.items()}
    charts["by-class"] = {"data": [], "layout": classes}
    order = np.argsort(results[0].by_class.recall, kind="stable")
    for position, (result, colour) in enumerate(zip(results, _method_colours(results), strict=True)):
        curve_numbers = [round(float(n), 4) for n in result.curve.numbers]
        area = f"{result.name} ({result.curve.auc:.1f} %)"
        average_recall = _percent(result.curve.average)
        charts["average-recall"]["data"].append(line(area, curve_numbers, average_recall, colour, position))
        recalls = _percent(result.recall)
        charts["recall"]["data"].append(_points(result.name, options.tious, recalls, colour, position))
        for key, groups in (("by-length", result.by_length), ("by-number", result.by_number)):
            shares = _percent(groups.recall)
            charts[key]["data"].append(_points(result.name, map(plain, groups.names), shares, colour, position))
        if result.reference != "oracle":  # whose bars would all be 100 %
            labels = [plain(result.by_class.names[row]) for row in order]
            shares = _percent(result.by_class.recall[order])
            charts["by-class"]["data"].append(_bars(result.name, labels, shares, colour))
    return charts


def _method_colours(results: Sequence[MethodResult]) -> list[str]:
    """A colour for each method; chance and the upper bound are grey."""
    colours = iter(_colours(results))
    return ["#8a9099" if result.reference else next(colours) for result in results]


__all__ = [
    "Chart",
    "axis",
    "detection_charts",
    "error_charts",
    "layout",
    "line",
    "map_chart",
    "plain",
    "proposal_charts",
]
