"""Plain Python loops from scores to average precision, one proposal or detection at a time: what times are compared
with, and a second opinion on the results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from bench.speed.plain import Box, nms, tiou

Row = tuple[str, int, Box, float]
"""Video, class, seconds, score."""


def postprocess(
    boxes: Sequence[Box],
    activity: Sequence[Sequence[float]],
    completeness: Sequence[Sequence[float]],
    regression: Sequence[Sequence[Sequence[float]]],
    duration: float,
    top_k: int,
    threshold: float,
) -> list[tuple[int, Box, float]]:
    """Class, seconds and score of the detections of a video: softmax over classes, the best pairs, NMS, regression."""
    pairs = []
    for proposal, (logits, complete) in enumerate(zip(activity, completeness, strict=True)):
        foreground = [math.exp(value - max(logits[1:])) for value in logits[1:]]
        total = sum(foreground)
        for label, (share, value) in enumerate(zip(foreground, complete, strict=True)):
            pairs.append((share / total * math.exp(value), proposal, label))
    pairs.sort(key=lambda pair: -pair[0])
    found = []
    for label in range(len(completeness[0])):
        own = [pair for pair in pairs[:top_k] if pair[2] == label]
        for kept in nms([boxes[pair[1]] for pair in own], [pair[0] for pair in own], threshold):
            score, proposal, _ = own[kept]
            found.append((label, _moved(boxes[proposal], regression[proposal][label], duration), score))
    return found


def _moved(box: Box, regression: Sequence[float], duration: float) -> Box:
    length = box[1] - box[0]
    centre = (box[0] + box[1]) / 2 + length * regression[0]
    half = length * math.exp(regression[1]) / 2
    return min(max(centre - half, 0.0), duration), min(max(centre + half, 0.0), duration)


def average_precision(
    detections: Sequence[Row], truths: Mapping[tuple[str, int], Sequence[Box]], classes: int, levels: Sequence[float]
) -> list[list[float]]:
    """AP of each class at each tIoU as the ActivityNet toolkit counts it: a detection takes its best free truth."""
    by_class: list[list[Row]] = [[] for _ in range(classes)]
    for row in detections:
        by_class[row[1]].append(row)
    total = [0] * classes
    for (_, label), own in truths.items():
        total[label] += len(own)
    return [
        [_area(hits, total[label]) for hits in _hits(rows, truths, levels)]
        for label, rows in enumerate(by_class)
        if total[label]
    ]


def _hits(
    rows: Sequence[Row], truths: Mapping[tuple[str, int], Sequence[Box]], levels: Sequence[float]
) -> list[list[bool]]:
    """Whether each detection of a class, best first, is counted for a truth, at each threshold."""
    taken: list[set[tuple[str, int]]] = [set() for _ in levels]
    hits: list[list[bool]] = [[] for _ in levels]
    for video, label, box, _ in sorted(rows, key=lambda row: -row[3]):
        overlaps = [(tiou(box, truth), number) for number, truth in enumerate(truths.get((video, label), ()))]
        overlaps.sort(reverse=True)
        for level, used, own in zip(levels, taken, hits, strict=True):
            hit = False
            for overlap, number in overlaps:
                if overlap < level:
                    break
                if (video, number) not in used:
                    used.add((video, number))
                    hit = True
                    break
            own.append(hit)
    return hits


def _area(hits: Sequence[bool], truths: int) -> float:
    """Area under the interpolated precision-recall curve."""
    precisions, right = [], 0
    for place, hit in enumerate(hits, start=1):
        right += hit
        precisions.append(right / place)
    area = best = 0.0
    for hit, precision in zip(reversed(hits), reversed(precisions), strict=True):
        best = max(best, precision)
        area += best * hit
    return area / truths


def score(
    snippets: Tensor, begin: Tensor, end: Tensor, course: Tensor, weights: Tensor, classes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Activity, completeness and regression of proposals from snippet scores, a mean for each part of each proposal.

    ``snippets`` ``(T, columns)``; ``begin``, ``end``, ``weights`` ``(N, parts)``; ``course`` ``(N, 2)``.
    """
    parts = begin.shape[1]
    activity, completeness, regression = snippets.split([classes + 1, parts * classes, 2 * parts * classes], dim=1)
    rows = []
    for proposal in range(len(begin)):
        first, last = course[proposal].tolist()
        columns = [activity[first:last].mean(dim=0)]
        for table, width in ((completeness, classes), (regression, 2 * classes)):
            total = torch.zeros(width)
            for part in range(parts):
                a, b = int(begin[proposal, part]), int(end[proposal, part])
                if b > a:
                    own = table[a:b, part * width : (part + 1) * width]
                    total += own.mean(dim=0) * weights[proposal, part]
            columns.append(total)
        rows.append(torch.cat(columns))
    scores = torch.stack(rows)
    activity, completeness, regression = scores.split([classes + 1, classes, 2 * classes], dim=1)
    return activity, completeness, regression.reshape(-1, classes, 2)


__all__ = ["Row", "average_precision", "postprocess", "score"]
