"""Compared proposal methods as tables, files and a figure."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from ssn_feat.drawing.html import Rows, section
from ssn_feat.drawing.tables import cell
from ssn_feat.evaluation.average_recall import RecallCurve
from ssn_feat.evaluation.compare_options import CompareOptions
from ssn_feat.evaluation.compared_methods import Reference
from ssn_feat.evaluation.recall_groups import Breakdown
from ssn_feat.files import replacing, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Chance and the upper bound are not methods.
_STYLES: dict[str | None, dict[str, Any]] = {
    "random": {"color": "#8a9099", "linestyle": ":"},
    "oracle": {"color": "#8a9099", "linestyle": "--"},
}


@dataclass(frozen=True)
class MethodResult:
    """The results of one method."""

    name: str
    """Name of the file or method."""
    score: str
    """Name of the score that ranks its proposals."""
    reference: Reference | None
    """Whether it is a bound or chance rather than a method."""
    per_video: float
    """Number of proposals per evaluated video."""
    curve: RecallCurve
    """AR@AN."""
    number: float | None
    """Number of proposals per video that count for the values below; None: all."""
    average: float
    """Average recall."""
    recall: NDArray[np.float64]
    """Recall at each of the ``tious`` of the options."""
    by_length: Breakdown
    """Average recall by length of instances."""
    by_number: Breakdown
    """Average recall by number of instances in the video."""
    by_class: Breakdown
    """Average recall by class of instances."""
    compute: float | None
    """Seconds of compute per video, None for a file."""


def number_text(number: float) -> str:
    """A number of proposals per video with at most one decimal."""
    return f"{number:.1f}".removesuffix(".0")


def proposals_text(number: float | None) -> str:
    """How many proposals per video count, for headings."""
    return "all proposals" if number is None else f"{number_text(number)} proposals per video"


def _number(result: MethodResult) -> str:
    return "all" if result.number is None else number_text(result.number)


def _columns(result: MethodResult, options: CompareOptions) -> list[str]:
    numbers = [f"AR@{n}" for n in options.numbers]
    counted = f"AR@{_number(result)}"
    return [*([] if counted in numbers else [counted]), *numbers, "AUC", *(f"R@{t:g}" for t in options.tious)]


def _values(result: MethodResult, options: CompareOptions) -> dict[str, float]:
    """Percentages, in the order of :func:`_columns`."""
    values = {f"AR@{_number(result)}": 100 * result.average, "AUC": result.curve.auc}
    values |= {f"AR@{n}": 100 * result.curve.at(n) for n in options.numbers}
    values |= {f"R@{t:g}": value for t, value in zip(options.tious, (100 * result.recall).tolist(), strict=True)}
    return {name: values[name] for name in _columns(result, options)}


def tables(results: Sequence[MethodResult], options: CompareOptions) -> dict[str, Rows]:
    """Tables by caption: all methods, and average recall of groups of instances; all values are percentages."""
    at = proposals_text(results[0].number)
    group = f"AR in % with {at}"
    return {
        f"recall in %; R@tIoU with {at}": _main_rows(results, options),
        f"{group}, by length of instances": _group_rows(results, "by_length"),
        f"{group}, by number of instances in a video": _group_rows(results, "by_number"),
        f"{group}, by class": _class_rows(results),
    }


def _main_rows(results: Sequence[MethodResult], options: CompareOptions) -> Rows:
    rows = {}
    for result in results:
        cells = {"per video": f"{result.per_video:.1f}"}
        cells |= {name: f"{number:.1f}" for name, number in _values(result, options).items()}
        rows[result.name] = {**cells, "ms per video": "" if result.compute is None else f"{1e3 * result.compute:.3g}"}
    return rows


def _shown(recall: NDArray[np.float64]) -> list[str]:
    return ["" if math.isnan(value) else f"{100 * value:.1f}" for value in recall.tolist()]


def _group_rows(results: Sequence[MethodResult], by: Literal["by_length", "by_number"]) -> Rows:
    sizes: Breakdown = getattr(results[0], by)
    rows = {"instances": {n: str(i) for n, i in zip(sizes.names, sizes.instances.tolist(), strict=True)}}
    for result in results:
        rows[result.name] = dict(zip(sizes.names, _shown(getattr(result, by).recall), strict=True))
    return rows


def _class_rows(results: Sequence[MethodResult]) -> Rows:
    """One row for each class, since there may be too many for columns."""
    sizes = results[0].by_class
    rows = {n: {"instances": str(i)} for n, i in zip(sizes.names, sizes.instances.tolist(), strict=True)}
    for result in results:
        for name, value in zip(sizes.names, _shown(result.by_class.recall), strict=True):
            rows[name][result.name] = value
    return rows


def print_results(results: Sequence[MethodResult], options: CompareOptions) -> None:
    """Print the tables; that of classes only if it was requested."""
    for caption, rows in tables(results, options).items():
        if options.per_class or not caption.endswith("by class"):
            print_table(caption, rows)


def print_table(caption: str, rows: Rows) -> None:
    """Print ``rows`` as a table below its caption."""
    headings = list(next(iter(rows.values())))
    print(f"\n{caption}")
    table = Table(box=SIMPLE, padding=(0, 0, 0, 1))
    table.add_column("", min_width=12, overflow="fold")
    for heading in headings:
        table.add_column(cell(heading), justify="right", no_wrap=True)
    for name, cells in rows.items():
        table.add_row(cell(name), *(cells[heading] for heading in headings))
    # Numbers must not be truncated in a narrow terminal or without one.
    Console(width=max(Console().width, 24 + 11 * len(headings))).print(table)


def write_results(results: Sequence[MethodResult], options: CompareOptions, notes: Sequence[str], folder: Path) -> None:
    """Write ``proposals.csv``, ``.json``, ``.html`` and the chart as PNG and SVG into ``folder``.

    Raises UserError if the folder cannot be written to.
    """
    from ssn_feat.drawing.pictures import save  # imports matplotlib, which printing does not need

    _write_csv(results, options, folder / "proposals.csv")
    content = {"said": list(notes), "methods": [_record(result, options) for result in results]}
    write_text(folder / "proposals.json", json.dumps(content, indent=1) + "\n")
    figure = plot_recall(results, options.tious, options.protocol or "")
    figure.set_dpi(120)
    for ending in ("png", "svg"):
        save(figure, folder / f"proposals.{ending}")
    picture = (folder / "proposals.svg").read_text(encoding="utf-8")
    write_text(folder / "proposals.html", section("Proposals", notes, tables(results, options), picture))


def _write_csv(results: Sequence[MethodResult], options: CompareOptions, path: Path) -> None:
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        named = [f"AR {name}" for name in results[0].by_length.names]
        named += [f"AR {name} in a video" for name in results[0].by_number.names]
        named += [f"AR of class {name}" for name in results[0].by_class.names]
        columns = _columns(results[0], options)
        writer.writerow(["method", "ranked by", "protocol", "per video", "seconds per video", *columns, *named])
        for result in results:
            parts = [result.by_length, result.by_number, result.by_class]
            groups = np.concatenate([part.recall for part in parts]).tolist()
            shown = ["" if math.isnan(value) else 100 * value for value in groups]
            start = [result.name, result.score, options.protocol or "", result.per_video, result.compute]
            writer.writerow([*start, *_values(result, options).values(), *shown])


def _breakdown(groups: Breakdown) -> list[dict[str, Any]]:
    """A breakdown as JSON, which has no NaN: the recall of an empty group is null."""
    return [
        {"group": name, "instances": count, "average_recall": None if math.isnan(recall) else recall}
        for name, count, recall in zip(groups.names, groups.instances.tolist(), groups.recall.tolist(), strict=True)
    ]


def _record(result: MethodResult, options: CompareOptions) -> dict[str, Any]:
    return {
        "method": result.name,
        "score": result.score,
        "proposals_per_video": result.per_video,
        "counted_proposals_per_video": result.number,
        "percent": _values(result, options),
        "curve": {
            "budget": options.budget,
            "thresholds": result.curve.thresholds.tolist(),
            "numbers": result.curve.numbers.tolist(),
            "average_recall": result.curve.average.tolist(),
        },
        "by_length": _breakdown(result.by_length),
        "by_number": _breakdown(result.by_number),
        "by_class": _breakdown(result.by_class),
        "protocol": options.protocol,
        "videos": result.curve.videos,
        "instances": result.curve.instances,
        "videos_without_proposals": result.curve.lacking,
        "seconds_per_video": result.compute,
    }


def plot_recall(results: Sequence[MethodResult], tious: Sequence[float], title: str = "") -> Figure:
    """Average recall against the number of proposals, recall against tIoU, and average recall of groups of instances.

    One line per method; chance and the upper bound are grey.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 8), dpi=120, layout="constrained")
    if title:
        figure.suptitle(title)
    (left, right), below = figure.subplots(2, 2)
    for result in results:
        style = _STYLES.get(result.reference, {})
        area = f"{result.name} ({result.curve.auc:.1f})"
        left.plot(result.curve.numbers, 100 * result.curve.average, label=area, **style)
        right.plot(tious, 100 * result.recall, marker="o", label=result.name, **style)
        for axes, groups in zip(below, (result.by_length, result.by_number), strict=True):
            axes.plot(groups.names, 100 * groups.recall, marker="o", label=result.name, **style)
    at = proposals_text(results[0].number)
    left.set(xlabel="proposals per video", ylabel="average recall, %", title="AR@AN (AUC)")
    right.set(xlabel="tIoU", ylabel="recall, %", title=f"recall at tIoU, {at}")
    below[0].set(xlabel="length of the instance", ylabel="average recall, %", title=f"by length, {at}")
    below[1].set(xlabel="instances in the video", ylabel="average recall, %", title=f"by number of instances, {at}")
    for axes in (left, right, *below):
        axes.set_ylim(0, 100)
        axes.grid(alpha=0.3)
    left.legend(fontsize="small")
    return figure


__all__ = [
    "MethodResult",
    "number_text",
    "plot_recall",
    "print_results",
    "print_table",
    "proposals_text",
    "tables",
    "write_results",
]
