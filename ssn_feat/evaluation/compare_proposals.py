"""Proposal methods side by side on one data set: what ``bench/proposals.py`` does."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from ssn_feat.annotations import Dataset, read_annotations
from ssn_feat.annotations.protocols import coverage, protocol
from ssn_feat.drawing.html import Rows, section
from ssn_feat.drawing.tables import cell
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_recall import (
    TIOU_GRIDS,
    Breakdown,
    Budget,
    RecallCurve,
    recall_at_tiou,
    recall_by,
    recall_curve,
)
from ssn_feat.evaluation.compared_methods import ComparedMethod, compared_methods, load_proposals
from ssn_feat.proposals import AnchorOptions, SlidingOptions, TagOptions
from ssn_feat.store import open_store
from ssn_feat.terminal import printable_lines


@dataclass(frozen=True)
class CompareOptions:
    """Compare proposals with the truth: average recall, its area, recall at tIoU."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Files of proposals: .npz of train/propose.py, ActivityNet proposal .json, .txt: an SSN list, or with --fps
    lines of 'video start_frame end_frame'; a folder: a csv file per video, as BSN and BMN write them."""
    annotations: str
    """Annotations of the videos: a path, or DIALECT:PATH."""
    subset: str | None = None
    """Only the videos of this subset of the annotations."""
    protocol: str | None = None
    """Which videos and instances count, by name: thumos14, thumos14-211, thumos14-ssn-210, activitynet1.2,
    activitynet1.3, or a subset; /all after it counts videos without truth too. In place of --subset."""
    methods: tuple[str, ...] = ("sliding", "random", "oracle")
    """Compared with the files: sliding windows and dense anchors in random order; sliding-ranked, anchors-ranked: the
    same, ranked by contrast in actionness; tag: each source of actionness grouped; uniform random intervals; oracle:
    the truth itself; package.module:function: one of your own."""
    store: Path | None = None
    """Feature store: for coverage, for --actionness, and for the features that your own method is given."""
    actionness: tuple[Path, ...] = ()
    """Run folders of actionness heads, each a source for tag, and all of them fused; without any, the actionness that
    the files hold."""
    numbers: tuple[int, ...] = (50, 100)
    """Average recall is told at these numbers of proposals per video, up to --maximum."""
    maximum: int = 100
    """Number of proposals per video at which the curve and its area end; the curve has 100 points."""
    budget: Budget = "average"
    """average: the same share of every video's proposals, so many on average, as the ActivityNet toolkit counts;
    fixed: so many of every video."""
    grid: Literal["activitynet", "thumos14"] = "activitynet"
    """tIoU thresholds of average recall: 0.5:0.05:0.95 or 0.5:0.05:1.0."""
    tious: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)
    """Recall is told at these tIoU thresholds."""
    recall_number: int | None = None
    """Recall at tIoU is that of the best so many proposals of every video; all of them by default."""
    seed: int = 0
    """Decides random orders and random intervals."""
    lengths: tuple[float, ...] = (3.0, 6.0, 12.0, 18.0)
    """Average recall is told apart by the length of instances, at these seconds."""
    instances: tuple[int, ...] = (1, 4, 8, 40)
    """And by the number of instances in their video, at these numbers."""
    fps: Path | None = None
    """JSON file of frames per second by video id, for lists in frames."""
    out: Path | None = None
    """Folder for proposals.csv, .json, .png, .svg and .html."""
    sliding: SlidingOptions = field(default_factory=SlidingOptions)
    """Lengths and overlap of sliding windows."""
    anchors: AnchorOptions = field(default_factory=AnchorOptions)
    """Lengths and distances of anchors."""
    tag: TagOptions = field(default_factory=TagOptions)
    """How the method tag groups actionness."""

    def __post_init__(self) -> None:
        if not self.files and not self.methods:
            raise UserError("nothing to compare: name files of proposals or --methods")
        if len(set(self.methods)) < len(self.methods):
            raise UserError(f"a method is named twice: {' '.join(self.methods)}")
        if self.maximum < 1 or not all(0 < n <= self.maximum for n in self.numbers):
            raise UserError(f"numbers of proposals must be in 1 to --maximum {self.maximum}, not {self.numbers}")
        for edges in (self.lengths, self.instances):
            if list(edges) != sorted(set(edges)) or any(edge <= 0 for edge in edges):
                raise UserError(f"where groups of instances part must be ascending and above 0, not {edges}")
        if self.protocol and self.subset:
            raise UserError("a protocol names its subset: leave out --subset")
        if self.actionness and not self.store:
            raise UserError("runs score the features of a store: add --store")
        if len({path.name for path in self.actionness}) < len(self.actionness):
            raise UserError("two runs of --actionness have the same name, by which they are told apart")
        if not all(0.0 < t <= 1.0 for t in self.tious):
            raise UserError(f"tIoU thresholds must be in (0, 1], not {self.tious}")
        if self.recall_number is not None and self.recall_number < 1:
            raise UserError(f"recall_number must be at least 1, not {self.recall_number}")
        if self.seed < 0:
            raise UserError(f"seed must be at least 0, not {self.seed}")


@dataclass(frozen=True)
class MethodResult:
    """What one method reaches.

    recall: at each of the options' ``tious``. by_length, by_number: average recall of groups of instances.
    compute: seconds that the method took per video, None for a file. seconds: time of the evaluation.
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


def compare_proposals(options: CompareOptions) -> list[MethodResult]:
    """Evaluate every file and method, print tables, write what was asked for.

    Raises UserError on files, annotations or options at fault, and for proposals of none of the videos.
    """
    results, said = compare(options)
    print(printable_lines("\n".join(said)))
    for title, rows in tables(results, options).items():
        _print(title, rows)
    if options.out is not None:
        _write(results, options, said, options.out)
    return results


def compare(options: CompareOptions) -> tuple[list[MethodResult], list[str]]:
    """What every file and method reaches, and lines that say what was counted; nothing is printed or written.

    Raises UserError as :func:`compare_proposals`.
    """
    dataset, said = _truth(options)
    results = []
    for compared in compared_methods(dataset, options):
        results.append(_evaluate(compared, dataset, options))
        lacking = coverage(dataset, compared.proposals.ids)
        if lacking.unreachable:
            said.append(f"{compared.name}: proposals of {lacking}".replace(" are there", ""))
    first = results[0].curve
    best = "all" if options.recall_number is None else f"the best {options.recall_number}"
    said += [
        f"{dataset.name}: {first.videos} of {len(dataset.videos)} videos have truth, {first.instances} instances",
        f"AR: tIoU of {options.grid}, {options.budget} number of proposals up to {options.maximum}; "
        f"R: {best} proposals of a video",
        f"ranked by: {', '.join(f'{result.name}: {result.score}' for result in results)}",
    ]
    return results, said


def _truth(options: CompareOptions) -> tuple[Dataset, list[str]]:
    """What counts, and the lines that say so."""
    dataset, said = read_annotations(options.annotations), []
    if options.protocol is not None:
        chosen = protocol(options.protocol)
        said.append(f"protocol {chosen.line(dataset)}")
        dataset = chosen.apply(dataset)
    elif options.subset:
        dataset = dataset.subset(options.subset)
    if options.store is not None:
        said.append(f"store: {coverage(dataset, open_store(options.store).ids)}")
    return dataset, said


def _evaluate(compared: ComparedMethod, dataset: Dataset, options: CompareOptions) -> MethodResult:
    started, proposals, grid = time.perf_counter(), compared.proposals, TIOU_GRIDS[options.grid]
    try:
        curve = recall_curve(proposals, dataset, options.maximum, grid, options.budget, numbers=options.numbers)
    except UserError as error:
        raise UserError(f"{compared.name}: {error}") from None
    recall = recall_at_tiou(proposals, dataset, options.tious, options.recall_number)
    by_length = recall_by(proposals, dataset, "length", options.lengths, grid, options.maximum)
    by_number = recall_by(proposals, dataset, "number", options.instances, grid, options.maximum)
    per_video = len(proposals.only(dataset.videos)) / len(dataset.videos)
    seconds = time.perf_counter() - started
    return MethodResult(
        compared.name,
        proposals.score,
        per_video,
        curve,
        recall,
        by_length,
        by_number,
        compared.seconds,
        seconds,
    )


def _columns(options: CompareOptions) -> list[str]:
    return [*(f"AR@{n}" for n in options.numbers), "AUC", *(f"R@{t:g}" for t in options.tious)]


def _values(result: MethodResult, options: CompareOptions) -> list[float]:
    """Percentages, in the order of :func:`_columns`."""
    average = [100 * result.curve.at(n) for n in options.numbers]
    return [*average, result.curve.auc, *(100 * result.recall).tolist()]


def tables(results: Sequence[MethodResult], options: CompareOptions) -> dict[str, Rows]:
    """What is printed and shown, by caption: all methods, and average recall of groups of instances."""
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
        cells = dict(zip(("a video", *_columns(options)), (f"{number:.1f}" for number in numbers), strict=True))
        rows[result.name] = {**cells, "ms a video": "" if result.compute is None else f"{1e3 * result.compute:.3g}"}
    return rows


def _groups(result: MethodResult, by: Literal["by_length", "by_number"]) -> Breakdown:
    return result.by_length if by == "by_length" else result.by_number


def _group_rows(results: Sequence[MethodResult], by: Literal["by_length", "by_number"]) -> Rows:
    sizes = _groups(results[0], by)
    rows = {"instances": {n: str(i) for n, i in zip(sizes.names, sizes.instances.tolist(), strict=True)}}
    for result in results:
        own = _groups(result, by)
        shown = ["" if math.isnan(value) else f"{100 * value:.1f}" for value in own.recall.tolist()]
        rows[result.name] = dict(zip(own.names, shown, strict=True))
    return rows


def _print(title: str, rows: Rows) -> None:
    headings = list(next(iter(rows.values())))
    table = Table(box=SIMPLE, padding=(0, 0, 0, 1))
    table.add_column(title, min_width=12, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, cells in rows.items():
        table.add_row(cell(name), *(cells[heading] for heading in headings))
    # Numbers must not be cut off where the terminal is narrow or there is none.
    Console(width=max(Console().width, 24 + 11 * len(headings))).print(table)


def _write(results: Sequence[MethodResult], options: CompareOptions, said: Sequence[str], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "proposals.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            named = [f"AR {name}" for name in results[0].by_length.names]
            named += [f"AR {name} in a video" for name in results[0].by_number.names]
            heads = ["method", "ranked by", "protocol", "a video", "seconds a video", *_columns(options), *named]
            writer.writerow(heads)
            for result in results:
                groups = [*result.by_length.recall.tolist(), *result.by_number.recall.tolist()]
                told = ["" if math.isnan(value) else 100 * value for value in groups]
                start = [result.name, result.score, options.protocol or "", result.per_video, result.compute]
                writer.writerow([*start, *_values(result, options), *told])
        content = {"said": list(said), "methods": [_record(result, options) for result in results]}
        (folder / "proposals.json").write_text(json.dumps(content, indent=1) + "\n")
        figure = plot_recall(results, options.tious, options.protocol or "")
        for ending in ("png", "svg"):
            figure.savefig(folder / f"proposals.{ending}", dpi=120)
        picture = (folder / "proposals.svg").read_text(encoding="utf-8")
        page = section("Proposals", said, tables(results, options), picture)
        (folder / "proposals.html").write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from None


def _breakdown(groups: Breakdown) -> list[dict[str, Any]]:
    """JSON knows no NaN: the recall of no instance is null."""
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


__all__ = ["CompareOptions", "MethodResult", "compare", "compare_proposals", "load_proposals", "plot_recall", "tables"]
