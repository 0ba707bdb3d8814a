"""Actionness of snippets: as a probability, fused from several sources, and as the score of an interval."""

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

# How far the flanks of an interval reach, in lengths of the interval, on either side.
_FLANK = 0.5


def action_probability(actionness: ArrayLike) -> NDArray[np.float32]:
    """Softmax over [background, action]: ``(T, 2)`` logits to float32 ``(T,)``; probabilities ``(T,)`` stay.

    Raises UserError on another shape, no snippet at all, or values that are not finite or no probabilities.
    """
    given = np.asarray(actionness, dtype=np.float32)
    if given.ndim == 1 and len(given):
        good = (given >= 0) & (given <= 1)
        if not good.all():
            row = int(np.argmin(good))
            raise UserError(f"actionness of snippet {row} is {given[row]:g}, which is no probability")
        return given
    values = _logits(given)
    small = np.exp(-np.abs(values[:, 1] - values[:, 0]))  # at most 1, whatever the logits
    return np.where(values[:, 1] > values[:, 0], 1 / (1 + small), small / (1 + small))


def smear_as_original(actionness: ArrayLike, crops: int = 10, batch: int = 4) -> NDArray[np.float32]:
    """Blend every four snippets as the original's ``binary_test.py`` does; logits or probabilities, shape kept.

    It scores 10 crops of 4 frames at a time, laid out crop after crop, reads them as if frame after frame, and takes
    the mean of what it believes to be a frame's crops. Where the crops agree, each of the four snippets becomes a
    mixture of them all, with weights .3, .3, .2, .2 or .2, .2, .3, .3. The snippets left over at the end form a smaller
    batch.
    """
    values = np.asarray(actionness, dtype=np.float32)
    result = np.empty_like(values)
    for first in range(0, len(values), batch):
        own = values[first : first + batch]
        read = np.arange(len(own) * crops).reshape(len(own), crops) % len(own)
        result[first : first + batch] = own[read].mean(axis=1)
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
    """How much action an interval holds, by one of three measures; float64 ``(N,)``.

    intervals: ``(N, 2)``, seconds. actionness: logits ``(T, 2)``, or probabilities ``(T,)``, of which there is no sum.
    spans: ``(T, 2)``, seconds of each snippet, contiguous.

    - ``mean``: mean probability of action inside;
    - ``contrast``: that, less the mean probability in the flanks, half the interval's length on either side; outside
      the video there is no action. Intervals that cover a part of an action, or more than it, lose by that;
    - ``sum``: sum of the action logits inside, the original's. It grows with length (where logits are positive), which
      makes it poor for ranking: its author gives it for suppression only.

    Intervals are taken to the fraction of a snippet; one without length scores 0. Raises UserError on malformed input.
    """
    boxes, seconds = as_intervals(intervals), as_intervals(spans, "spans of snippets")
    values = np.asarray(actionness)
    if values.ndim == 1 and score == "sum":
        raise UserError("the score 'sum' adds up logits; where only probabilities are known, use contrast or mean")
    if len(seconds) != len(values) or not len(values):
        raise UserError(f"{len(values)} snippets of actionness need as many spans, at least one, not {len(seconds)}")
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
    """Mass inside each interval, where each cell between two ``edges`` holds its ``mass`` spread evenly."""
    total = np.concatenate([[0.0], np.cumsum(mass, dtype=np.float64)])
    inside: Floats = np.interp(boxes[:, 1], edges, total) - np.interp(boxes[:, 0], edges, total)
    return inside


def fuse_actionness(
    sources: Sequence[tuple[ArrayLike, ArrayLike]], weights: Sequence[float] = (), fusion: FusionName = "mean"
) -> tuple[NDArray[np.float32], Floats]:
    """One actionness of a video from several, which may have other numbers of snippets.

    sources: pairs of logits ``(T_i, 2)`` and spans ``(T_i, 2)``, seconds. weights: one per source; none means equal.
    Returns logits, float32 ``(T, 2)``, and spans, float64 ``(T, 2)``.

    - ``mean``: weighted mean of the logits at the middle of each snippet of the first source, between the snippets of
      another source by linear interpolation;
    - ``sum``: the same, but weighted sum: two sources that agree are twice as sure, which matters to thresholds;
    - ``original``: weighted sum by position: a source that is longer than what was fused before it is thinned out by
      index, a shorter one cuts the rest.

    Raises UserError on no source, malformed logits or spans, or weights of another number or that are not positive.
    """
    checked = [(_logits(logits), as_intervals(spans, "spans of snippets")) for logits, spans in sources]
    weights = list(weights) or [1.0] * len(checked)
    if not checked or len(weights) != len(checked) or not all(w > 0 for w in weights):
        raise UserError(f"{len(checked)} sources of actionness need as many positive weights, not {list(weights)}")
    for logits, spans in checked:
        if len(logits) != len(spans):
            raise UserError(f"{len(logits)} snippets of actionness need as many spans, not {len(spans)}")
    if fusion == "original":
        return _fuse_by_position(checked, weights)
    spans = checked[0][1]
    total = np.zeros((len(spans), 2))
    for (logits, own), weight in zip(checked, weights, strict=True):
        for column in range(2):
            total[:, column] += weight * np.interp(spans.mean(axis=1), own.mean(axis=1), logits[:, column])
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
    if len(total) < len(spans):  # the original spreads what is left over the whole video
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
