"""Actionness of snippets: conversion to probabilities, fusion of several sources, and scores of intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_feat.errors import UserError
from ssn_feat.intervals import as_intervals

Floats = NDArray[np.float64]

ScoreName = Literal["contrast", "mean", "sum"]
FusionName = Literal["mean", "sum", "original"]

# Length of the flank on either side of an interval, as a share of the length of the interval.
_FLANK = 0.5


def action_probability(actionness: ArrayLike) -> NDArray[np.float32]:
    """Probability of action, float32 ``(T,)``: softmax over logits ``(T, 2)`` of background and action.

    Probabilities ``(T,)`` are returned unchanged. Raises UserError on another shape, on no snippet at all, and on
    values that are not finite or not probabilities.
    """
    values = np.asarray(actionness, dtype=np.float32)
    if values.ndim == 1 and len(values):
        valid = (values >= 0) & (values <= 1)
        if not valid.all():
            row = int(np.argmin(valid))
            raise UserError(f"actionness of snippet {row} is {values[row]:g}, which is not a probability")
        return values
    values = _logits(values)
    small = np.exp(-np.abs(values[:, 1] - values[:, 0]))  # at most 1, so that nothing overflows
    probability: NDArray[np.float32] = np.where(values[:, 1] > values[:, 0], 1 / (1 + small), small / (1 + small))
    return probability


def smear_as_original(actionness: ArrayLike, crops: int = 10, batch: int = 4) -> NDArray[np.float32]:
    """Mix every four snippets as ``binary_test.py`` of the original code does; logits or probabilities, same shape.

    That program scores 10 crops of 4 frames at a time, ordered by crop, but averages them as if they were ordered by
    frame. If all crops of a frame score alike, each of the four snippets becomes a mixture of all four, with weights
    .3, .3, .2, .2 or .2, .2, .3, .3. The snippets left over at the end form a smaller batch.
    """
    values = np.asarray(actionness, dtype=np.float32)
    result = np.empty_like(values)
    for first in range(0, len(values), batch):
        frames = values[first : first + batch]
        misread = np.arange(len(frames) * crops).reshape(len(frames), crops) % len(frames)
        result[first : first + batch] = frames[misread].mean(axis=1)
    return result


def _logits(logits: ArrayLike) -> NDArray[np.float32]:
    values = np.asarray(logits, dtype=np.float32)
    if values.ndim != 2 or values.shape[1] != 2 or not len(values):
        raise UserError(f"actionness must be logits (snippets, 2) of background and action, not {values.shape}")
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise UserError(f"actionness of snippet {int(np.argmin(finite))} is not finite")
    return values


def score_by_actionness(intervals: ArrayLike, actionness: ArrayLike, spans: ArrayLike, score: ScoreName) -> Floats:
    """Score of each interval by the actionness inside it, float64 ``(N,)``.

    intervals: ``(N, 2)``, seconds. actionness: logits ``(T, 2)``, or probabilities ``(T,)``, which exclude ``sum``.
    spans: ``(T, 2)``, start and end of each snippet in seconds, contiguous.

    - ``mean``: mean probability of action inside the interval;
    - ``contrast``: the mean inside, minus the mean in the two flanks of half the interval's length; outside the video
      the probability is 0. It penalises intervals that cover only a part of an action, or more than the action;
    - ``sum``: sum of the action logits inside, as in the original code. It grows with length where logits are positive,
      so it ranks poorly: the original author uses it for suppression only.

    Snippets that an interval covers in part count in proportion; an interval of length 0 scores 0.
    Raises UserError on malformed input.
    """
    boxes, seconds = as_intervals(intervals), as_intervals(spans, "spans of snippets")
    values = np.asarray(actionness)
    if values.ndim == 1 and score == "sum":
        raise UserError("the score 'sum' needs logits, but only probabilities are given: use contrast or mean")
    if len(seconds) != len(values) or not len(values):
        raise UserError(f"actionness has {len(values)} snippets and {len(seconds)} spans: give one span per snippet")
    edges = np.append(seconds[:, 0], seconds[-1, 1])
    if score == "sum":
        return _between(boxes, edges, _logits(values)[:, 1])
    mass = (values if values.ndim == 1 else action_probability(values)) * np.diff(edges)
    length = boxes[:, 1] - boxes[:, 0]
    inside = _between(boxes, edges, mass)
    if score == "contrast":
        wide = boxes + _FLANK * length[:, None] * [-1, 1]
        inside -= (_between(wide, edges, mass) - inside) / (2 * _FLANK)
    return np.divide(inside, length, out=np.zeros_like(length), where=length > 0)


def _between(boxes: Floats, edges: Floats, mass: ArrayLike) -> Floats:
    """Mass inside each interval, where ``mass[i]`` is spread evenly between ``edges[i]`` and ``edges[i + 1]``."""
    total = np.concatenate([[0.0], np.cumsum(mass, dtype=np.float64)])
    inside: Floats = np.interp(boxes[:, 1], edges, total) - np.interp(boxes[:, 0], edges, total)
    return inside


def fuse_actionness(
    sources: Sequence[tuple[ArrayLike, ArrayLike]], weights: Sequence[float] = (), fusion: FusionName = "mean"
) -> tuple[NDArray[np.float32], Floats]:
    """Fuse the actionness of one video from several sources, whose numbers of snippets may differ.

    sources: pairs of logits ``(T_i, 2)`` and spans ``(T_i, 2)``, seconds. weights: one per source; none means equal.
    Returns logits, float32 ``(T, 2)``, and spans, float64 ``(T, 2)``.

    - ``mean``: weighted mean of the logits at the centre of each snippet of the first source; the other sources are
      interpolated linearly;
    - ``sum``: the same with a weighted sum. Two sources that agree then give twice the logits, which changes how
      thresholds act;
    - ``original``: weighted sum by index, as in the original code. A source that is longer than the result so far is
      subsampled by index; a shorter one truncates the result.

    Raises UserError without a source, on malformed logits or spans, and unless each source has one positive weight.
    """
    checked = [(_logits(logits), as_intervals(spans, "spans of snippets")) for logits, spans in sources]
    weights = list(weights) or [1.0] * len(checked)
    if not checked or len(weights) != len(checked) or not all(w > 0 for w in weights):
        raise UserError(f"{len(checked)} sources of actionness need one positive weight each, not {list(weights)}")
    for logits, spans in checked:
        if len(logits) != len(spans):
            raise UserError(f"actionness has {len(logits)} snippets, but {len(spans)} spans")
    if fusion == "original":
        return _fuse_by_position(checked, weights)
    spans = checked[0][1]
    total = np.zeros((len(spans), 2))
    for (logits, source_spans), weight in zip(checked, weights, strict=True):
        for column in range(2):
            total[:, column] += weight * np.interp(spans.mean(axis=1), source_spans.mean(axis=1), logits[:, column])
    return (total / (sum(weights) if fusion == "mean" else 1.0)).astype(np.float32), spans


def _fuse_by_position(
    sources: Sequence[tuple[NDArray[np.float32], Floats]], weights: Sequence[float]
) -> tuple[NDArray[np.float32], Floats]:
    total, spans = sources[0][0] * np.float32(weights[0]), sources[0][1]
    for (logits, _), weight in zip(sources[1:], weights[1:], strict=True):
        if len(logits) > len(total):
            tick = len(logits) / float(len(total))
            logits = logits[(np.arange(len(total)) * tick).astype(np.int64)]
        total = total[: len(logits)] + logits * np.float32(weight)
    if len(total) < len(spans):  # the original code spreads the remaining snippets over the whole video
        edges = np.linspace(spans[0, 0], spans[-1, 1], len(total) + 1)
        spans = np.stack([edges[:-1], edges[1:]], axis=1)
    return total, spans


__all__ = [
    "FusionName",
    "ScoreName",
    "action_probability",
    "fuse_actionness",
    "score_by_actionness",
    "smear_as_original",
]
