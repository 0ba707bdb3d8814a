"""Plain Python loops over proposals, one at a time, that do what the package does with arrays.

They are what times are compared with, and a second opinion on the results.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

Box = tuple[float, float]


def tiou(a: Box, b: Box) -> float:
    inter = min(a[1], b[1]) - max(a[0], b[0])
    if inter <= 0:
        return 0.0
    return inter / ((a[1] - a[0]) + (b[1] - b[0]) - inter)


def nms(boxes: Sequence[Box], scores: Sequence[float], threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if not any(tiou(boxes[i], boxes[j]) > threshold for j in kept):
            kept.append(i)
    return kept


def tag(
    smooth: Sequence[float],
    probability: Sequence[float],
    step: float,
    thresholds: Iterable[float],
    tolerances: Sequence[float],
    threshold: float,
) -> list[Box]:
    """Groups of basins of snippets of ``step`` seconds, ranked by contrast, after suppression; best first."""
    groups: set[tuple[int, int]] = set()
    for level in thresholds:
        below, basins = _basins(smooth, level)
        for tolerance in tolerances:
            groups.update(_absorbed(below, basins, tolerance))
    ordered = sorted(groups)
    scores = [_contrast(probability, start, stop) for start, stop in ordered]
    boxes = [(start * step, stop * step) for start, stop in ordered]
    return [boxes[i] for i in nms(boxes, scores, threshold)]


def _basins(smooth: Sequence[float], level: float) -> tuple[list[int], list[tuple[int, int]]]:
    """Snippets below the level up to each one, and the runs above it."""
    below, basins, start, count = [], [], None, 0
    for at, value in enumerate(smooth):
        if value > level:
            start = at if start is None else start
        else:
            count += 1
            if start is not None:
                basins.append((start, at))
            start = None
        below.append(count)
    if start is not None:
        basins.append((start, len(smooth)))
    return below, basins


def _absorbed(below: list[int], basins: list[tuple[int, int]], tolerance: float) -> Iterator[tuple[int, int]]:
    """From every basin forward and backward as far as the tolerance allows."""
    last = len(below) - 1
    rising = [below[up] - tolerance * up for up, _ in basins]
    falling = []
    for _, down in basins:
        inside = min(down, last)
        falling.append((below[inside] - tolerance * inside) - (tolerance if down > inside else 0.0))
    for i, (up, down) in enumerate(basins):
        stop = i + 1
        while stop < len(basins) and rising[stop] <= rising[i]:
            stop += 1
        yield up, basins[stop - 1][1]
        first = i - 1
        while first >= 0 and falling[first] >= falling[i]:
            first -= 1
        yield basins[first + 1][0], down


def _contrast(probability: Sequence[float], start: int, stop: int) -> float:
    """Mean inside less mean of the flanks, each half as long."""
    length = stop - start
    half, odd = divmod(length, 2)
    inside = sum(probability[start:stop])
    flanks = sum(probability[max(start - half, 0) : start]) + sum(probability[stop : stop + half])
    if odd:
        flanks += 0.5 * (probability[start - half - 1] if start > half else 0.0)
        flanks += 0.5 * (probability[stop + half] if stop + half < len(probability) else 0.0)
    return (inside - flanks) / length


def label(boxes: Iterable[Box], truth: Sequence[Box], classes: Sequence[int]) -> list[tuple[int, float, float]]:
    """Class + 1 (0: none), tIoU and own share of the instance that overlaps each proposal most."""
    rows = []
    for box in boxes:
        best, found = -1, 0.0
        for number, instance in enumerate(truth):
            overlap = tiou(box, instance)
            if overlap > found:
                best, found = number, overlap
        share = 0.0
        if best >= 0:
            share = (min(box[1], truth[best][1]) - max(box[0], truth[best][0])) / (box[1] - box[0])
        rows.append((classes[best] + 1 if best >= 0 else 0, found, share))
    return rows


def recall(videos: Iterable[tuple[Sequence[Box], Sequence[Box]]], threshold: float) -> float:
    """Share of instances that any proposal of their video finds: videos are (proposals, truth)."""
    found = total = 0
    for boxes, truth in videos:
        for instance in truth:
            total += 1
            best = 0.0
            for box in boxes:
                best = max(best, tiou(box, instance))
            found += best >= threshold
    return found / total


def average_recall(
    videos: Sequence[tuple[Sequence[Box], Sequence[Box]]], numbers: Sequence[int], thresholds: Sequence[float]
) -> list[float]:
    """Mean recall over the thresholds of the first so many proposals of every video, for each number."""
    hits = [0] * len(numbers)
    total = 0
    for boxes, truth in videos:
        for instance in truth:
            total += 1
            overlaps = [tiou(box, instance) for box in boxes]
            for point, number in enumerate(numbers):
                best = max(overlaps[:number], default=0.0)
                hits[point] += bisect_right(thresholds, best)
    return [count / (total * len(thresholds)) for count in hits]


def parse_list(path: Path) -> list[tuple[str, list[tuple[float, ...]], list[tuple[float, ...]]]]:
    """Path, instances and proposals of every block of an SSN list, without any check."""
    lines = iter(path.read_text().splitlines())
    blocks = []
    for _ in lines:
        name = next(lines)
        for _ in range(2):
            next(lines)
        truth = [tuple(float(x) for x in next(lines).split()) for _ in range(int(next(lines)))]
        rows = [tuple(float(x) for x in next(lines).split()) for _ in range(int(next(lines)))]
        blocks.append((name, truth, rows))
    return blocks


__all__ = ["average_recall", "label", "nms", "parse_list", "recall", "tag", "tiou"]
