"""Speed of detection and its evaluation: what ``python -m bench.speed detect`` does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench.speed import plain_detect
from bench.speed.plain import Box
from bench.speed.timing import Measurement, print_measurements, timed, write_measurements
from ssn_feat.annotations import Dataset, Instance, Video
from ssn_feat.detection.postprocess import PostprocessOptions, postprocess
from ssn_feat.detection.scores import ProposalScores, VideoScores
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_precision import average_precision_of, truths_of
from ssn_feat.evaluation.bootstrap import draw_videos, resampled_map
from ssn_feat.evaluation.error_analysis import analyse
from ssn_feat.evaluation.matching import rank
from ssn_feat.evaluation.measure import scored_of
from ssn_feat.heads.dense import FoldedHead, fold, score_dense
from ssn_feat.heads.ssn import SSNHead, SSNOptions
from ssn_feat.heads.stages import row_ranges, stages
from ssn_feat.heads.stpp import course_rows
from ssn_feat.results.detections import Detections
from ssn_feat.threads import torch_threads

# Seconds to stay within at the size of THUMOS14, which is the default.
_SCORING_BAR, _POSTPROCESSING_BAR, _EVALUATION_BAR = 5.0, 2.0, 2.0
# Snippets a second of the videos made here.
_RATE = 5.0
_LEVELS = tuple(np.arange(0.1, 1.0, 0.1).tolist())

Scores = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class DetectSpeedOptions:
    """Time scoring, post-processing and evaluation at the size of THUMOS14 beside plain loops that do the same."""

    videos: int = 213
    """Videos, of 200 seconds on the mean, with 16 instances each on the mean."""
    classes: int = 20
    """Classes."""
    proposals: int = 700
    """Proposals of a video."""
    detections: int = 2000
    """Detections of a video that are evaluated, and (proposal, class) pairs before NMS."""
    width: int = 1024
    """Values of a snippet's feature."""
    compared: int = 10
    """Videos on which dense scoring is compared: the plain loop takes half a second for each."""
    draws: int = 1000
    """Draws of videos for intervals."""
    runs: int = 3
    """Ours is the least of so many runs; the plain loops run once."""
    threads: int = 1
    """Threads of torch, for both."""
    seed: int = 0
    """Decides everything that is made up."""
    json: Path | None = None
    """File to write, with the machine's name."""

    def __post_init__(self) -> None:
        for name in ("videos", "classes", "proposals", "detections", "width", "compared", "draws", "runs", "threads"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")

    def bar(self, seconds: float) -> float | None:
        """``seconds`` at the default size, for which bars are meant; None at others."""
        sizes = ("videos", "classes", "proposals", "detections", "width", "threads")
        return seconds if all(getattr(self, name) == getattr(DetectSpeedOptions, name) for name in sizes) else None


def measure_detect(options: DetectSpeedOptions) -> list[Measurement]:
    """Time everything, print a table, write JSON where asked. Raises UserError where that cannot be written."""
    generator = np.random.default_rng(options.seed)
    dataset = _truth(generator, options)
    scores = _scores(generator, dataset, options)
    with torch_threads(options.threads):
        parts = [*_scoring(generator, dataset, options), _postprocessing(scores, options)]
        parts += _evaluation(scores, dataset, options)
    print_measurements(parts)
    if options.json is not None:
        write_measurements(parts, options.json)
    return parts


def _truth(generator: np.random.Generator, options: DetectSpeedOptions) -> Dataset:
    """Videos with instances of a few seconds, of one or two classes each."""
    videos = []
    for number in range(options.videos):
        duration = float(np.clip(generator.lognormal(np.log(160), 0.7), 20, 1500))
        count = 1 + int(generator.poisson(duration / 13))
        starts = np.sort(generator.uniform(0, duration - 5, count))
        ends = np.minimum(starts + generator.gamma(2.0, 2.2, count) + 0.5, duration)
        own = generator.integers(0, options.classes, 2)
        names = [_label(c) for c in own[(generator.random(count) < 0.2).astype(int)]]
        instances = tuple(map(Instance, names, starts.tolist(), ends.tolist()))
        videos.append(Video(f"v{number}", duration, "made up", instances))
    return Dataset.of("made up", videos, [_label(c) for c in range(options.classes)])


def _label(number: int) -> str:
    return f"class {number:03d}"


def _boxes(generator: np.random.Generator, video: Video, count: int) -> NDArray[np.float64]:
    """Proposals around the instances and anywhere, half and half, all with some length inside the video."""
    length = generator.gamma(2.0, 3.0, count) + 0.2
    centre = generator.uniform(0, video.duration, count)
    near = generator.random(count) < 0.5
    own = video.intervals()[generator.integers(0, len(video.instances), count)]
    length[near] = ((own[:, 1] - own[:, 0]) * generator.lognormal(0, 0.4, count))[near] + 0.2
    centre[near] = (own.mean(axis=1) + generator.normal(0, 1.0, count))[near]
    start = np.clip(centre - length / 2, 0, video.duration - 0.2)
    return np.stack([start, np.clip(centre + length / 2, start + 0.2, video.duration)], axis=1)


def _scores(generator: np.random.Generator, dataset: Dataset, options: DetectSpeedOptions) -> ProposalScores:
    """Raw scores that favour the classes of the video."""
    count, classes = options.proposals, options.classes
    videos = {}
    for video in dataset.videos.values():
        activity = generator.normal(0, 1.5, (count, classes + 1))
        activity[:, 1 + np.unique(dataset.classes(video))] += 2.5
        videos[video.id] = VideoScores(
            _boxes(generator, video, count),
            activity.astype(np.float32),
            generator.normal(0, 1, (count, classes)).astype(np.float32),
            generator.normal(0, 0.1, (count, classes, 2)).astype(np.float32),
            video.duration,
        )
    return ProposalScores.of(dataset.labels, videos)


def _postprocessing(scores: ProposalScores, options: DetectSpeedOptions) -> Measurement:
    settings = PostprocessOptions(top_k=options.detections, nms_threshold=0.2)
    lists = [_as_lists(scores[video]) for video in scores]

    def plainly() -> list[list[tuple[int, Box, float]]]:
        return [plain_detect.postprocess(*video, options.detections, 0.2) for video in lists]

    ours, seconds = timed(partial(postprocess, scores, settings), options.runs)
    theirs, slow = timed(plainly)
    size = f"{len(scores)} videos of {options.proposals} x {options.classes} scores, {len(ours.scores)} detections"
    bar = options.bar(_POSTPROCESSING_BAR)
    return Measurement("filter, NMS, regression", size, seconds, slow, _same_detections(ours, theirs), bar=bar)


def _as_lists(
    scores: VideoScores,
) -> tuple[list[Box], list[list[float]], list[list[float]], list[list[list[float]]], float]:
    assert scores.regression is not None
    boxes = [(start, end) for start, end in scores.intervals.tolist()]
    parts = (scores.activity.tolist(), scores.completeness.tolist(), scores.regression.tolist())
    return boxes, *parts, scores.duration


def _same_detections(ours: Detections, theirs: list[list[tuple[int, Box, float]]]) -> bool:
    """Whether nearly all are in both: float32 scores that are equal up to rounding may change places."""
    common = total = 0
    for video, rows in zip(ours, theirs, strict=True):
        found = ours[video]
        own = {(int(c), round(s, 4), round(e, 4)) for c, (s, e) in zip(found.classes, found.intervals, strict=True)}
        other = {(label, round(start, 4), round(end, 4)) for label, (start, end), _ in rows}
        common, total = common + len(own & other), total + len(own | other)
    return common >= 0.995 * total


def _evaluation(scores: ProposalScores, dataset: Dataset, options: DetectSpeedOptions) -> Iterator[Measurement]:
    found = postprocess(scores, PostprocessOptions(top_k=options.detections, nms="none"))
    scored, truths, classes = scored_of(found, dataset), truths_of(dataset), options.classes
    size = f"{len(found)} videos, {len(found.scores)} detections, {len(truths.videos)} truths, {len(_LEVELS)} tIoU"
    ours, seconds = timed(lambda: average_precision_of(rank(scored, truths, classes, _LEVELS)), options.runs)
    columns = (scored.videos.tolist(), scored.classes.tolist(), scored.intervals.tolist(), scored.scores.tolist())
    rows = [(found.ids[v], c, (s, e), score) for v, c, (s, e), score in zip(*columns, strict=True)]
    own: dict[tuple[str, int], list[Box]] = {}
    for video in dataset.videos.values():
        for instance in video.instances:
            own.setdefault((video.id, dataset.label_index[instance.label]), []).append((instance.start, instance.end))
    theirs, slow = timed(partial(plain_detect.average_precision, rows, own, classes, _LEVELS))
    known = ours[~np.isnan(ours).any(axis=1)]
    agrees = bool(np.allclose(known, theirs, atol=1e-9))
    yield Measurement("mAP", size, seconds, slow, agrees, bar=options.bar(_EVALUATION_BAR))
    ranked = rank(scored, truths, classes, _LEVELS)
    draws = draw_videos(len(dataset.videos), options.draws, options.seed)
    _, seconds = timed(partial(resampled_map, ranked, truths, draws))
    yield Measurement("intervals of mAP", f"the same, {options.draws} draws of videos", seconds)
    _, seconds = timed(partial(analyse, scored, dataset, _LEVELS, "thumos14"))
    yield Measurement("error analysis", "the same", seconds)


def _scoring(generator: np.random.Generator, dataset: Dataset, options: DetectSpeedOptions) -> Iterator[Measurement]:
    """Features in memory to scores of proposals."""
    head = SSNHead(options.width, options.classes, SSNOptions(), torch.Generator().manual_seed(options.seed))
    folded = fold(head)
    inputs = []
    for video in dataset.videos.values():
        edges = np.append(np.arange(0, video.duration, 1 / _RATE), video.duration)
        features = generator.random((len(edges) - 1, options.width), dtype=np.float32).astype(np.float16)
        placed = stages(_boxes(generator, video, options.proposals), video.duration)
        rows = row_ranges(np.stack([edges[:-1], edges[1:]], axis=1), placed)
        inputs.append((torch.from_numpy(features), torch.from_numpy(rows), torch.from_numpy(placed.scaling)))

    def ours(videos: list[Scores]) -> list[Scores]:
        with torch.inference_mode():
            return [score_dense(folded, *video) for video in videos]

    def size(count: int) -> str:
        snippets = sum(len(features) for features, _, _ in inputs[:count])
        columns = f"{len(folded.weight)} columns"
        return f"{count} videos, {snippets} snippets, {count * options.proposals} proposals, {columns}"

    few = min(options.compared, len(inputs))
    found, seconds = timed(partial(ours, inputs[:few]), options.runs)
    with torch.inference_mode():
        theirs, slow = timed(lambda: [_plainly_scored(folded, *video) for video in inputs[:few]])
    agrees = all(
        torch.allclose(a, b, atol=1e-4)
        for one, other in zip(found, theirs, strict=True)
        for a, b in zip(one, other, strict=True)
    )
    yield Measurement("dense scoring", size(few), seconds, slow, agrees)
    _, seconds = timed(partial(ours, inputs), options.runs)
    yield Measurement("dense scoring", size(len(inputs)), seconds, bar=options.bar(_SCORING_BAR))


def _plainly_scored(folded: FoldedHead, features: torch.Tensor, rows: torch.Tensor, scaling: torch.Tensor) -> Scores:
    snippets = torch.addmm(folded.snippet_bias, features.float(), folded.weight.T)
    begin, end = folded.pyramid.part_rows(rows)
    weights = (folded.pyramid.part_scaling(scaling) * folded.part_shares).float()
    course = torch.stack(course_rows(rows, len(features)), dim=1)
    end = end.clamp(max=len(features))
    found = plain_detect.score(snippets, begin, end, course, weights, folded.classes)
    bias = folded.proposal_bias
    k = folded.classes
    return found[0] + bias[: k + 1], found[1] + bias[k + 1 : 2 * k + 1], found[2] + bias[2 * k + 1 :].view(k, 2)


__all__ = ["DetectSpeedOptions", "measure_detect"]
