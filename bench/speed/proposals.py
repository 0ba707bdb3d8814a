"""Speed of proposals: what ``python -m bench.speed proposals`` does."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from bench.speed import plain
from bench.speed.timing import Measurement, print_measurements, timed, write_measurements
from ssn_feat.annotations import Dataset, Instance, Video
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_recall import TIOU_GRIDS, recall_at_tiou, recall_curve
from ssn_feat.proposals import (
    Method,
    Proposals,
    TagOptions,
    VideoData,
    action_probability,
    label_proposals,
    list_blocks,
    propose_each,
    read_ssn_list,
    write_ssn_list,
)
from ssn_feat.proposals.methods import grouped, sliding, uniform

# Seconds that the original code took, see ORIGINAL_MACHINE: an ordinary snippet of TAG (19,548 in 2.84 s),
# one of a noisy video of 12,000, a sliding window labelled (758,129 in 6.5 s) or searched for truth, a proposal in the
# toolkit's AR-AN (10,305 in 1.6 s), one read from a list (60,582 in 0.117 s at best).
_ORIGINAL = {
    "TAG": 2.84 / 19548,
    "TAG, stress": 10.8 / 12000,
    "labelling": 6.5 / 758129,
    "recall at 0.5": 2.6 / 758129,
    "AR-AN": 1.6 / 10305,
    "reading a list": 0.117 / 60582,
}
# Seconds to stay within on one core, by the option that sizes a part, at its default.
_BARS = {"videos": 0.06, "stress": 0.06, "many": 3.0}
# Snippets a second of the videos made here.
_RATE = 5.0


@dataclass(frozen=True)
class SpeedOptions:
    """Time proposals, their labels, recall and lists beside plain loops over proposals that do the same."""

    videos: int = 20
    """Videos of ordinary length whose actionness is grouped."""
    stress: int = 12000
    """Snippets of one long, noisy video; grouping is also timed at 2 and 4 times as many."""
    many: int = 213
    """Videos of ordinary length that are grouped in one process and in several."""
    windows: int = 1010
    """Videos whose sliding windows are labelled and searched for the truth."""
    listed: int = 1192
    """Videos of the list that is read, 50 proposals each."""
    jobs: int = 2
    """Processes, for many videos."""
    runs: int = 3
    """Ours is the least of so many runs; the plain loops run once."""
    seed: int = 0
    """Decides everything that is made up."""
    json: Path | None = None
    """File to write, with the machine's name."""

    def __post_init__(self) -> None:
        for name in ("videos", "stress", "many", "windows", "listed", "jobs", "runs"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")

    def bar(self, name: str) -> float | None:
        """Seconds to stay within for the videos of option ``name`` at its default, None at other sizes."""
        return _BARS[name] if getattr(self, name) == getattr(SpeedOptions, name) else None


# One process works here, one thread in it: its processor time is what an idle machine would need.
_timed = partial(timed, clock=time.process_time)


def measure_proposals(options: SpeedOptions) -> list[Measurement]:
    """Time proposals, their labels, recall and lists beside plain loops; print a table, write JSON where asked.

    Raises UserError where that cannot be written.
    """
    parts = [*_grouping(options), *_many(options), *_with_windows(options), _average_recall(options), _parsing(options)]
    print_measurements(parts)
    print("seconds are processor time, but for several processes, which is time that passes")
    if options.json is not None:
        write_measurements(parts, options.json)
    return parts


def make_actionness(generator: np.random.Generator, snippets: int, noise: float) -> VideoData:
    """A video of ``snippets`` fifths of a second, whose logits say where actions are, more or less.

    Actions last 2 to 16 seconds and are 4 to 24 apart; logits are +-2 with noise that is smooth over 3 snippets.
    """
    logit, at = np.full(snippets, -2.0), 0
    while at < snippets:
        at += int(generator.integers(20, 120))
        length = int(generator.integers(10, 80))
        logit[at : at + length] = 2.0
        at += length
    logit += noise * gaussian_filter1d(generator.normal(size=snippets), 1.0) * 1.9
    edges = np.arange(snippets + 1) / _RATE
    logits = np.stack([np.zeros(snippets), logit], axis=1).astype(np.float32)
    return VideoData("made up", snippets / _RATE, logits, np.stack([edges[:-1], edges[1:]], axis=1))


def _ordinary(options: SpeedOptions, count: int) -> list[VideoData]:
    """Videos of half a minute to quarter of an hour, most of them of a few minutes."""
    generator = np.random.default_rng(options.seed)
    lengths = np.clip(generator.lognormal(np.log(780), 0.7, count), 150, 4100).astype(int)
    return [make_actionness(generator, int(length), noise=1.0) for length in lengths]


def _grouped(videos: list[VideoData]) -> list[NDArray[np.float64]]:
    return [np.asarray(grouped(video)[0]) for video in videos]


def _plainly_grouped(videos: list[VideoData]) -> list[NDArray[np.float64]]:
    options, found = TagOptions(), []
    for video in videos:
        assert video.actionness is not None
        probability = action_probability(video.actionness)
        smooth = gaussian_filter1d(probability, options.smoothing * _RATE)
        boxes = plain.tag(
            smooth.tolist(),
            probability.tolist(),
            1 / _RATE,
            options.thresholds,
            options.tolerances,
            options.tag_nms,
        )
        found.append(np.array(boxes).reshape(-1, 2))
    return found


def _same_boxes(ours: list[NDArray[np.float64]], theirs: list[NDArray[np.float64]]) -> bool:
    """Whether nearly all boxes are in both: equal scores leave open which of two overlapping ones stays."""
    common = total = 0
    for a, b in zip(ours, theirs, strict=True):
        sets = [{tuple(row) for row in np.round(rows * _RATE).astype(int).tolist()} for rows in (a, b)]
        common, total = common + len(sets[0] & sets[1]), total + len(sets[0] | sets[1])
    return common >= 0.99 * total


def _grouping(options: SpeedOptions) -> Iterator[Measurement]:
    stress = [make_actionness(np.random.default_rng(options.seed), options.stress * n, noise=2.0) for n in (1, 2, 4)]
    ordinary = _ordinary(options, options.videos)
    for name, sized_by, videos in (("TAG", "videos", ordinary), ("TAG, stress", "stress", stress[:1])):
        ours, seconds = _timed(partial(_grouped, videos), options.runs)
        theirs, slow = _timed(partial(_plainly_grouped, videos))
        snippets = sum(len(video.spans) for video in videos if video.spans is not None)
        size = f"{len(videos)} videos, {snippets} snippets, {sum(map(len, ours))} proposals"
        agrees, original = _same_boxes(ours, theirs), _ORIGINAL[name] * snippets
        yield Measurement(name, size, seconds, slow, agrees, original, bar=options.bar(sized_by))
    for number, video in zip((2, 4), stress[1:], strict=True):
        ours, seconds = _timed(partial(_grouped, [video]), options.runs)
        yield Measurement("TAG, stress", f"{number * options.stress} snippets, {len(ours[0])} proposals", seconds)


def _many(options: SpeedOptions) -> Iterator[Measurement]:
    made = _ordinary(options, options.many)
    videos = [VideoData(str(n), v.duration, v.actionness, v.spans) for n, v in enumerate(made)]
    for jobs in sorted({1, options.jobs}):
        # The second run finds the processes started.
        run = partial(propose_each, partial(grouped, options=TagOptions()), videos, "tag", jobs=jobs)
        (found, _), seconds = timed(run, max(2, options.runs))
        size = f"{len(videos)} videos, {len(found)} proposals, {jobs} at once"
        yield Measurement("TAG, processes", size, seconds, bar=options.bar("many") if jobs == 1 else None)


def _truth(generator: np.random.Generator, count: int) -> Dataset:
    """Videos with some fifteen instances of a few seconds each in 20 classes."""
    videos = []
    for number in range(count):
        duration = float(np.clip(generator.lognormal(np.log(160), 0.8), 10, 1500))
        starts = np.sort(generator.uniform(0, duration - 5, max(1, int(duration / 14))))
        ends = np.minimum(starts + generator.gamma(2.0, 2.2, len(starts)) + 0.5, duration)
        names = [f"class {n:02d}" for n in generator.integers(0, 20, len(starts))]
        instances = tuple(map(Instance, names, starts.tolist(), ends.tolist()))
        videos.append(Video(f"v{number}", duration, "made up", instances))
    return Dataset.of("made up", videos)


_Plain = list[tuple[list[plain.Box], list[plain.Box], list[int]]]


def _as_lists(dataset: Dataset, proposals: Proposals) -> _Plain:
    """Proposals, truth and classes of every video, as a plain loop takes them."""
    return [
        (
            [(start, end) for start, end in proposals.intervals[video.id].tolist()],
            [(i.start, i.end) for i in video.instances],
            dataset.classes(video).tolist(),
        )
        for video in dataset.videos.values()
    ]


def _propose(method: Method, dataset: Dataset) -> Proposals:
    return propose_each(method, [VideoData(v.id, v.duration) for v in dataset.videos.values()], "made up")[0]


def _with_windows(options: SpeedOptions) -> Iterator[Measurement]:
    dataset = _truth(np.random.default_rng(options.seed), options.windows)
    windows, seconds = _timed(lambda: _propose(partial(sliding, seed=options.seed), dataset), options.runs)
    size = f"{len(dataset.videos)} videos, {len(windows)} windows"
    yield Measurement("sliding windows", size, seconds)
    lists = _as_lists(dataset, windows)

    def label() -> NDArray[np.float64]:
        videos = list(dataset.videos.values())
        boxes, truth = [windows.intervals[v.id] for v in videos], [v.intervals() for v in videos]
        of_box, of_truth = (np.repeat(np.arange(len(videos)), list(map(len, parts))) for parts in (boxes, truth))
        classes = np.concatenate([dataset.classes(v) for v in videos])
        found = label_proposals(np.concatenate(boxes), np.concatenate(truth), classes, (of_box, of_truth))
        return np.column_stack([found.label, found.tiou, found.overlap])

    def label_plainly() -> list[tuple[int, float, float]]:
        return [row for boxes, truth, classes in lists for row in plain.label(boxes, truth, classes)]

    yield _beside("labelling", size, len(windows), label, label_plainly, options.runs)
    ours = partial(recall_at_tiou, windows, dataset, [0.5])
    plainly = partial(plain.recall, [v[:2] for v in lists], 0.5)
    yield _beside("recall at 0.5", size, len(windows), ours, lambda: [plainly()], options.runs)


def _beside(
    part: str, size: str, items: int, ours: Callable[[], object], plainly: Callable[[], object], runs: int
) -> Measurement:
    result, seconds = _timed(ours, runs)
    other, slow = _timed(plainly)
    agrees = bool(np.allclose(np.asarray(result), np.asarray(other), atol=1e-9))
    return Measurement(part, size, seconds, slow, agrees, _ORIGINAL[part] * items)


def _average_recall(options: SpeedOptions) -> Measurement:
    """As many proposals as the ActivityNet toolkit's own example has, at 100 points and 10 thresholds."""
    dataset = _truth(np.random.default_rng(options.seed), 100)
    proposals = _propose(partial(uniform, number=103, seed=options.seed), dataset)
    videos = [(boxes, truth) for boxes, truth, _ in _as_lists(dataset, proposals)]
    thresholds = TIOU_GRIDS["activitynet"]
    return _beside(
        "AR-AN",
        f"{len(proposals)} proposals, 100 points, {len(thresholds)} thresholds",
        len(proposals),
        lambda: recall_curve(proposals, dataset, 100, thresholds, budget="fixed").average,
        lambda: plain.average_recall(videos, range(1, 101), thresholds),
        options.runs,
    )


def _parsing(options: SpeedOptions) -> Measurement:
    dataset = _truth(np.random.default_rng(options.seed), options.listed)
    proposals = _propose(partial(uniform, number=50, seed=options.seed), dataset)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.txt"
        write_ssn_list(list_blocks(proposals, dataset), path, normalised=True)
        blocks, seconds = _timed(partial(read_ssn_list, path), options.runs)
        other, slow = _timed(partial(plain.parse_list, path))
    agrees = all(
        block.path == name
        and block.truth.tolist() == list(map(list, truth))
        and block.proposals.tolist() == list(map(list, rows))
        for block, (name, truth, rows) in zip(blocks, other, strict=True)
    )
    size, original = f"{len(blocks)} videos, {len(proposals)} proposals", _ORIGINAL["reading a list"] * len(proposals)
    return Measurement("reading a list", size, seconds, slow, agrees, original)


__all__ = ["SpeedOptions", "make_actionness", "measure_proposals"]
