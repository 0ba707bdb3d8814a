"""Average recall of groups of instances: by length, by number of instances in the video, and by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_feat.annotations.dataset import Dataset, Video
from ssn_feat.evaluation.average_recall import share_found

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

Overlaps = Sequence[tuple[Video, Floats]]
"""Videos and the highest tIoU of their instances: see :func:`ssn_feat.evaluation.average_recall.best_overlaps`."""


@dataclass(frozen=True)
class Breakdown:
    """Average recall of groups of instances: their names, instances ``(G,)`` and recall ``(G,)``, NaN if empty."""

    names: tuple[str, ...]
    instances: Indices
    recall: Floats


def recall_by_length(overlaps: Overlaps, edges: Sequence[float], thresholds: ArrayLike) -> Breakdown:
    """Mean recall over the thresholds, by the length of instances in seconds.

    ``edges``: ascending; a group includes its upper edge, and the last group has no upper edge.
    """
    values = np.concatenate([np.diff(video.intervals(), axis=1)[:, 0] for video, _ in overlaps])
    return _recall_of(overlaps, _group(values, edges), _lengths(edges), thresholds)


def recall_by_number(overlaps: Overlaps, edges: Sequence[float], thresholds: ArrayLike) -> Breakdown:
    """Mean recall over the thresholds, by the number of instances in the video; ``edges`` as for lengths."""
    sizes = [len(best) for _, best in overlaps]
    return _recall_of(overlaps, _group(np.repeat(sizes, sizes), edges), _numbers(edges), thresholds)


def recall_by_class(overlaps: Overlaps, dataset: Dataset, thresholds: ArrayLike) -> Breakdown:
    """Mean recall over the thresholds, by the class of instances, for all classes that have instances.

    Any proposal finds an instance, since proposals have no class.
    """
    classes = np.concatenate([dataset.classes(video) for video, _ in overlaps])
    present, group = np.unique(classes, return_inverse=True)
    return _recall_of(overlaps, group, tuple(dataset.labels[each] for each in present), thresholds)


def _recall_of(overlaps: Overlaps, group: Indices, names: tuple[str, ...], thresholds: ArrayLike) -> Breakdown:
    share = share_found(np.concatenate([best for _, best in overlaps]), thresholds).mean(axis=1)
    instances = np.bincount(group, minlength=len(names))
    mean = np.full(len(instances), np.nan)
    np.divide(np.bincount(group, weights=share, minlength=len(instances)), instances, out=mean, where=instances > 0)
    return Breakdown(names, instances, mean)


def _group(values: ArrayLike, edges: Sequence[float]) -> Indices:
    return np.searchsorted(np.asarray(edges, dtype=np.float64), np.asarray(values), side="left")


def _lengths(edges: Sequence[float]) -> tuple[str, ...]:
    if not edges:
        return ("all",)
    between = (f"{low:g}-{high:g} s" for low, high in pairwise(edges))
    return f"<={edges[0]:g} s", *between, f">{edges[-1]:g} s"


def _numbers(edges: Sequence[float]) -> tuple[str, ...]:
    if not edges:
        return ("all",)
    firsts = [1, *(int(edge) + 1 for edge in edges[:-1])]
    spans = (f"{first}-{last:g}" if first < last else f"{first}" for first, last in zip(firsts, edges, strict=True))
    return *spans, f">{edges[-1]:g}"


__all__ = ["Breakdown", "Overlaps", "recall_by_class", "recall_by_length", "recall_by_number"]
