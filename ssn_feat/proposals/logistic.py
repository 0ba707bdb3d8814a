"""Baseline of actionness that trains in seconds: logistic regression of scikit-learn on single snippets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations import Dataset, Video
from ssn_feat.errors import UserError
from ssn_feat.store import FeatureStore

# Iterations of the solver: enough for standardised features.
_ITERATIONS = 200
# At most this many snippets, drawn at random from all training videos, are learned from.
_ROWS = 20000
# Inverse strength of the L2 penalty on standardised features.
_C = 0.001


@dataclass(frozen=True)
class LogisticActionness:
    """A trained baseline: ``streams`` whose features are concatenated; ``weights``, float64 ``(D,)``; ``bias``."""

    streams: tuple[str, ...]
    weights: NDArray[np.float64]
    bias: float

    def logits(self, features: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Logits of background (always 0) and action, float32 ``(T, 2)``, from features ``(T, D)`` by stream."""
        values = _beside(features, self.streams) @ self.weights + self.bias
        return np.stack([np.zeros(len(values)), values], axis=1).astype(np.float32)


def fit_logistic(store: FeatureStore, dataset: Dataset) -> LogisticActionness:
    """Learn actionness from the training videos of ``dataset`` that the store has, on the features of all its streams.

    Action and background have equal weight, whatever their numbers of snippets. Raises UserError if the store has none
    of the training videos, or if these hold only action or only background.
    """
    # The import takes a second and is needed only here.
    from sklearn.linear_model import LogisticRegression

    streams = tuple(store.streams)
    held = set(store.ids)
    videos = [v for v in dataset.subset("training").videos.values() if v.id in held]
    if not videos:
        raise UserError(f"the store {store.path} has no training video of {dataset.name!r} to learn from")
    rows, action = _snippets(store, videos, streams)
    if action.all() or not action.any():
        only = "action" if action.all() else "background"
        raise UserError(f"the {len(videos)} training videos hold only {only}, so actionness cannot be learned")
    mean, spread = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-6)
    model = LogisticRegression(C=_C, class_weight="balanced", max_iter=_ITERATIONS)
    model.fit((rows - mean) / spread, action)
    weights = model.coef_[0].astype(np.float64) / spread
    return LogisticActionness(streams, weights, float(model.intercept_[0]) - float(mean @ weights))


def _snippets(
    store: FeatureStore, videos: list[Video], streams: tuple[str, ...]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Features of drawn snippets and whether the centre of each is inside an instance; the same share of each video."""
    generator = np.random.default_rng(0)
    spans = [store.read(video.id, ()).spans for video in videos]
    share = min(1.0, _ROWS / sum(map(len, spans)))
    rows, action = [], []
    for video, video_spans in zip(videos, spans, strict=True):
        drawn = np.flatnonzero(generator.random(len(video_spans)) < share)
        centre, truth = video_spans[drawn].mean(axis=1)[:, None], video.intervals()
        rows.append(_beside(store.read(video.id, streams).features, streams)[drawn])
        action.append(((centre >= truth[:, 0]) & (centre < truth[:, 1])).any(axis=1))
    return np.concatenate(rows), np.concatenate(action)


def _beside(features: Mapping[str, NDArray[Any]], streams: tuple[str, ...]) -> NDArray[np.float64]:
    return np.concatenate([np.asarray(features[stream], dtype=np.float64) for stream in streams], axis=1)


__all__ = ["LogisticActionness", "fit_logistic"]
