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
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_recall import Breakdown, RecallCurve
from ssn_feat.evaluation.compare_options import CompareOptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class MethodResult:
    """The results of one method.

    recall: at each of the ``tious`` of the options. by_length, by_number: average recall of groups of instances.
    compute: seconds of compute per video, None for a file. seconds: time of the evaluation.
    """

    name: str
    score: str
    per_video: float
    curve: RecallCurve
    recall: NDArray[np.float64]
    by_length: Breakdown
    by_number: Breakdown
    compute: float | None
    seconds: float


def _columns(options: CompareOptions) -> list[str]:
    return [*(f"AR@{n}" for n in options.numbers), "AUC", *(f"R@{t:g}" for t in options.tious)]


def _values(result: MethodResult, options: CompareOptions) -> list[float]:
    """Percentages, in the order of :func:`_columns`."""
    average = [100 * result.curve.at(n) for n in options.numbers]
    return [*average, result.curve.auc, *(100 * result.recall).tolist()]


def tables(results: Sequence[MethodResult], options: CompareOptions) -> dict[str, Rows]:
    """Tables by caption: all methods, and average recall of groups of instances."""
    best = f"AR, best {options.maximum} proposals"
    return {
        "method": _main_rows(results, options),
        f"{best}, by length of instances": _group_rows(results, "by_length"),
        f"{best}, by instances in a video": _group_rows(results, "by_number"),
    }


def _main_rows(results: Sequence[MethodResult], options: CompareOptions) -> Rows:
    rows = {}
    for result in results:
        numbers = [result.per_video, *_values(result, options)]
        cells = dict(zip(("per video", *_columns(options)), (f"{number:.1f}" for number in numbers), strict=True))
        rows[result.name] = {**cells, "ms per video": "" if result.compute is None else f"{1e3 * result.compute:.3g}"}
    return rows


def _groups(result: MethodResult, by: Literal["by_length", "by_number"]) -> Breakdown:
    return result.by_length if by == "by_length" else result.by_number


def _group_rows(results: Sequence[MethodResult], by: Literal["by_length", "by_number"]) -> Rows:
    sizes = _groups(results[0], by)
    rows = {"instances": {n: str(i) for n, i in zip(sizes.names, sizes.instances.tolist(), strict=True)}}
    for result in results:
        groups = _groups(result, by)
        shown = ["" if math.isnan(value) else f"{100 * value:.1f}" for value in groups.recall.tolist()]
        rows[result.name] = dict(zip(groups.names, shown, strict=True))
    return rows


def print_table(title: str, rows: Rows) -> None:
    """Print ``rows`` as a table whose first column is called ``title``."""
    headings = list(next(iter(rows.values())))
    table = Table(box=SIMPLE, padding=(0, 0, 0, 1))
    table.add_column(title, min_width=12, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, cells in rows.items():
        table.add_row(cell(name), *(cells[heading] for heading in headings))
    # Numbers must not be truncated in a narrow terminal or without one.
    Console(width=max(Console().width, 24 + 11 * len(headings))).print(table)


def write_results(results: Sequence[MethodResult], options: CompareOptions, notes: Sequence[str], folder: Path) -> None:
    """Write ``proposals.csv``, ``.json``, ``.html`` and the chart as PNG and SVG into ``folder``.

    Raises UserError if the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "proposals.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            named = [f"AR {name}" for name in results[0].by_length.names]
            named += [f"AR {name} in a video" for name in results[0].by_number.names]
            heads = ["method", "ranked by", "protocol", "per video", "seconds per video", *_columns(options), *named]
            writer.writerow(heads)
            for result in results:
                groups = [*result.by_length.recall.tolist(), *result.by_number.recall.tolist()]
                shown = ["" if math.isnan(value) else 100 * value for value in groups]
                start = [result.name, result.score, options.protocol or "", result.per_video, result.compute]
                writer.writerow([*start, *_values(result, options), *shown])
        content = {"said": list(notes), "methods": [_record(result, options) for result in results]}
        (folder / "proposals.json").write_text(json.dumps(content, indent=1) + "\n")
        figure = plot_recall(results, options.tious, options.protocol or "")
        for ending in ("png", "svg"):
            figure.savefig(folder / f"proposals.{ending}", dpi=120)
        picture = (folder / "proposals.svg").read_text(encoding="utf-8")
        page = section("Proposals", notes, tables(results, options), picture)
        (folder / "proposals.html").write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from None


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
        "percent": dict(zip(_columns(options), _values(result, options), strict=True)),
        "curve": {
            "budget": options.budget,
            "thresholds": result.curve.thresholds.tolist(),
            "numbers": result.curve.numbers.tolist(),
            "average_recall": result.curve.average.tolist(),
        },
        "by_length": _breakdown(result.by_length),
        "by_number": _breakdown(result.by_number),
        "protocol": options.protocol,
        "videos": result.curve.videos,
        "instances": result.curve.instances,
        "videos_without_proposals": result.curve.lacking,
        "seconds_per_video": result.compute,
        "evaluation_seconds": result.seconds,
    }


def plot_recall(results: Sequence[MethodResult], tious: Sequence[float], title: str = "") -> Figure:
    """Average recall against the number of proposals, recall against tIoU, and average recall of groups of instances.

    One line per method.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 8), layout="constrained")
    if title:
        figure.suptitle(title)
    (left, right), below = figure.subplots(2, 2)
    for result in results:
        left.plot(result.curve.numbers, 100 * result.curve.average, label=f"{result.name} ({result.curve.auc:.1f})")
        right.plot(tious, 100 * result.recall, marker="o", label=result.name)
        for axes, groups in zip(below, (result.by_length, result.by_number), strict=True):
            axes.plot(groups.names, 100 * groups.recall, marker="o", label=result.name)
    left.set(xlabel="proposals per video", ylabel="average recall, %", title="AR@AN (AUC)")
    right.set(xlabel="tIoU", ylabel="recall, %", title="recall at tIoU")
    below[0].set(xlabel="length of the instance", ylabel="average recall, %", title="by length")
    below[1].set(xlabel="instances in the video", ylabel="average recall, %", title="by number of instances")
    for axes in (left, right, *below):
        axes.set_ylim(0, 100)
        axes.grid(alpha=0.3)
    left.legend(fontsize="small")
    return figure


__all__ = ["MethodResult", "plot_recall", "print_table", "tables", "write_results"]
