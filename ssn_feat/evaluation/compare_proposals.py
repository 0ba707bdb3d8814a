"""Proposal methods side by side on one data set: what ``bench/proposals.py`` does."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator, Mapping, Sequence
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

from ssn_feat.annotations import Dataset, load
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_recall import TIOU_GRIDS, Budget, RecallCurve, recall_at_tiou, recall_curve
from ssn_feat.proposals import (
    Proposals,
    SlidingOptions,
    listed_proposals,
    oracle_proposals,
    random_proposals,
    read_ssn_list,
    sliding_proposals,
)
from ssn_feat.proposals.foreign import read_frame_list, read_proposal_json

BuiltIn = Literal["sliding", "sliding-ranked", "random", "oracle"]


@dataclass(frozen=True)
class CompareOptions:
    """Compare proposals with the truth: average recall, its area, recall at tIoU."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Files of proposals: .npz of train/propose.py, ActivityNet proposal .json, .txt: an SSN list, or with --fps
    lines of 'video start_frame end_frame'."""
    annotations: str
    """Annotations of the videos: a path, or DIALECT:PATH."""
    subset: str | None = None
    """Only the videos of this subset of the annotations."""
    methods: tuple[BuiltIn, ...] = ("sliding", "random", "oracle")
    """Compared with the files: sliding windows in random order; sliding-ranked: the same windows ranked by contrast in
    the actionness of the first file that holds any; uniform random intervals; oracle: the truth itself."""
    numbers: tuple[int, ...] = (50, 100)
    """Average recall is told at these numbers of proposals per video."""
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
    fps: Path | None = None
    """JSON file of frames per second by video id, for lists in frames."""
    out: Path | None = None
    """Folder for proposals.csv, .json, .png and .svg."""
    sliding: SlidingOptions = field(default_factory=SlidingOptions)
    """Lengths and overlap of sliding windows."""

    def __post_init__(self) -> None:
        if not self.files and not self.methods:
            raise UserError("nothing to compare: name files of proposals or --methods")
        if self.maximum < 1 or not all(0 < n <= self.maximum for n in self.numbers):
            raise UserError(f"numbers of proposals must be in 1 to --maximum {self.maximum}, not {self.numbers}")
        if any(n * 100 % self.maximum for n in self.numbers):
            raise UserError(
                f"a curve up to {self.maximum} has a point every {self.maximum / 100:g}: not at {self.numbers}"
            )
        if not all(0.0 < t <= 1.0 for t in self.tious):
            raise UserError(f"tIoU thresholds must be in (0, 1], not {self.tious}")
        if self.recall_number is not None and self.recall_number < 1:
            raise UserError(f"recall_number must be at least 1, not {self.recall_number}")


@dataclass(frozen=True)
class MethodResult:
    """What one method reaches. ``recall``: at each of the options' ``tious``; ``seconds``: time of the evaluation."""

    name: str
    score: str
    per_video: float
    curve: RecallCurve
    recall: NDArray[np.float64]
    seconds: float


def compare_proposals(options: CompareOptions) -> list[MethodResult]:
    """Evaluate every file and method, print a table, write what was asked for.

    Raises UserError on files, annotations or options at fault, and for proposals of none of the videos.
    """
    dataset = load(options.annotations)
    if options.subset:
        dataset = dataset.subset(options.subset)
    results = [_evaluate(name, proposals, dataset, options) for name, proposals in _methods(dataset, options)]
    first = results[0].curve
    best = "all" if options.recall_number is None else f"the best {options.recall_number}"
    print(
        f"{dataset.name}: {first.videos} of {len(dataset.videos)} videos have truth, {first.instances} instances\n"
        f"AR: tIoU of {options.grid}, {options.budget} number of proposals up to {options.maximum}; "
        f"R: {best} proposals of a video\n"
        f"ranked by: {', '.join(f'{result.name}: {result.score}' for result in results)}"
    )
    for result in results:
        if result.curve.lacking:
            print(f"{result.name}: no proposal in {result.curve.lacking} videos with truth; they count as missed")
    # Numbers must not be cut off where the terminal is narrow or there is none.
    Console(width=max(Console().width, 24 + 8 * len(_columns(options)))).print(_table(results, options))
    if options.out is not None:
        _write(results, options, options.out)
    return results


def _methods(dataset: Dataset, options: CompareOptions) -> Iterator[tuple[str, Proposals]]:
    files = [(path.stem, load_proposals(path, dataset, options.fps)) for path in options.files]
    yield from files
    durations = {video.id: video.duration for video in dataset.videos.values()}
    for method in options.methods:
        if method == "random":
            yield method, random_proposals(durations, max(options.maximum, 1000), options.seed)
        elif method == "oracle":
            yield method, oracle_proposals(dataset)
        elif method == "sliding":
            yield method, sliding_proposals(durations, options.sliding, options.seed)
        else:
            source = next((p for _, p in files if p.actionness is not None), None)
            if source is None:
                raise UserError("sliding-ranked needs a file of proposals that holds actionness (train/propose.py)")
            known = {id: duration for id, duration in durations.items() if id in (source.actionness or {})}
            yield method, sliding_proposals(known, options.sliding, options.seed).rescored(source)


def load_proposals(path: Path, dataset: Dataset, fps: Path | None = None) -> Proposals:
    """Proposals of any known format, by the ending of the file name; seconds by the durations of ``dataset``, or fps.

    Raises UserError where the file is at fault or holds no proposal.
    """
    if path.suffix == ".npz":
        proposals = Proposals.load(path)
    elif path.suffix == ".json":
        proposals = read_proposal_json(path)
    elif path.suffix == ".txt" and fps is not None:
        proposals = read_frame_list(path, _read_fps(fps))
    elif path.suffix == ".txt":
        durations = {video.id: video.duration for video in dataset.videos.values()}
        proposals = listed_proposals(read_ssn_list(path), durations=durations)
    else:
        raise UserError(f"cannot tell the format of {path}: known are .npz, .json and .txt (an SSN list)")
    if not len(proposals):
        raise UserError(f"{path} holds no proposal")
    return proposals


def _read_fps(path: Path) -> Mapping[str, float]:
    try:
        rates = json.loads(path.read_bytes())
        return {str(id): float(rate) for id, rate in rates.items()}
    except OSError as error:
        raise UserError(f"cannot read frames per second from {path}: {error.strerror}") from None
    except (ValueError, AttributeError, TypeError):
        raise UserError(f"{path} must be a JSON object of frames per second by video id") from None


def _evaluate(name: str, proposals: Proposals, dataset: Dataset, options: CompareOptions) -> MethodResult:
    started = time.perf_counter()
    try:
        curve = recall_curve(proposals, dataset, options.maximum, TIOU_GRIDS[options.grid], options.budget)
        recall = recall_at_tiou(proposals, dataset, options.tious, options.recall_number)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    own = proposals.only(dataset.videos)
    seconds = time.perf_counter() - started
    return MethodResult(name, proposals.score, len(own) / len(dataset.videos), curve, recall, seconds)


def _columns(options: CompareOptions) -> list[str]:
    return [*(f"AR@{n}" for n in options.numbers), "AUC", *(f"R@{t:g}" for t in options.tious)]


def _values(result: MethodResult, options: CompareOptions) -> list[float]:
    """Percentages, in the order of :func:`_columns`."""
    average = [100 * result.curve.at(n) for n in options.numbers]
    return [*average, result.curve.auc, *(100 * result.recall).tolist()]


def _table(results: Sequence[MethodResult], options: CompareOptions) -> Table:
    table = Table(box=SIMPLE, padding=(0, 0, 0, 1))
    table.add_column("method", min_width=12, overflow="fold")
    for heading in ("a video", *_columns(options)):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        table.add_row(result.name, *(f"{value:.1f}" for value in (result.per_video, *_values(result, options))))
    return table


def _write(results: Sequence[MethodResult], options: CompareOptions, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "proposals.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["method", "ranked by", "a video", *_columns(options)])
            for result in results:
                writer.writerow([result.name, result.score, result.per_video, *_values(result, options)])
        records = [_record(result, options) for result in results]
        (folder / "proposals.json").write_text(json.dumps(records, indent=1) + "\n")
        figure = plot_recall(results, options.tious)
        for ending in ("png", "svg"):
            figure.savefig(folder / f"proposals.{ending}", dpi=120)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from None


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
        "videos": result.curve.videos,
        "instances": result.curve.instances,
        "videos_without_proposals": result.curve.lacking,
        "evaluation_seconds": result.seconds,
    }


def plot_recall(results: Sequence[MethodResult], tious: Sequence[float]) -> Figure:
    """Average recall against the number of proposals, and recall against tIoU, one line per method."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for result in results:
        left.plot(result.curve.numbers, 100 * result.curve.average, label=f"{result.name} ({result.curve.auc:.1f})")
        right.plot(tious, 100 * result.recall, marker="o", label=result.name)
    left.set(xlabel="proposals per video", ylabel="average recall, %", title="AR@AN (AUC)")
    right.set(xlabel="tIoU", ylabel="recall, %", title="recall at tIoU")
    for axes in (left, right):
        axes.set_ylim(0, 100)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    return figure


__all__ = ["CompareOptions", "MethodResult", "compare_proposals", "load_proposals", "plot_recall"]
