"""A baseline of actionness that learns in seconds: logistic regression of scikit-learn on single snippets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations import Dataset, Video
from ssn_feat.errors import UserError
from ssn_feat.store import FeatureStore

# Iterations of the solver: enough for standardised features, and few seconds.
_ITERATIONS = 200


@dataclass(frozen=True)
class LogisticOptions:
    """A logistic regression from the features of a snippet to whether an action goes on in its middle."""

    logistic_subset: str = "training"
    """Subset of the annotations to learn from."""
    logistic_rows: int = 20000
    """At most so many snippets are learned from, drawn at random from all videos."""
    logistic_c: float = 0.001
    """Inverse strength of the L2 penalty on standardised features."""
    logistic_seed: int = 0
    """Decides which snippets are drawn."""

    def __post_init__(self) -> None:
        if self.logistic_rows < 2:
            raise UserError(f"logistic_rows must be at least 2, not {self.logistic_rows}")
        if not self.logistic_c > 0:
            raise UserError(f"logistic_c must be above 0, not {self.logistic_c}")


@dataclass(frozen=True)
class LogisticActionness:
    """What was learned. streams: whose features, side by side; weights: float64 ``(D,)`` on raw features; bias."""

    streams: tuple[str, ...]
    weights: NDArray[np.float64]
    bias: float

    def logits(self, features: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Logits of background (0) and action of every snippet: features ``(T, D)`` by stream to float32 ``(T, 2)``."""
        values = _beside(features, self.streams) @ self.weights + self.bias
        return np.stack([np.zeros(len(values)), values], axis=1).astype(np.float32)


def fit_logistic(store: FeatureStore, dataset: Dataset, options: LogisticOptions | None = None) -> LogisticActionness:
    """Learn actionness from the training videos of ``dataset`` that the store has, with all its streams.

    Action and background weigh the same, however many snippets there are of each. Raises UserError where the store
    has none of the videos, or these have only action or only background.
    """
    # It takes a second, and nothing else here needs it.
    from sklearn.linear_model import LogisticRegression

    options = options or LogisticOptions()
    streams = tuple(store.streams)
    held = set(store.ids)
    videos = [v for v in dataset.subset(options.logistic_subset).videos.values() if v.id in held]
    if not videos:
        raise UserError(f"the store {store.path} has no video of subset {options.logistic_subset!r} to learn from")
    rows, action = _snippets(store, videos, streams, options)
    if action.all() or not action.any():
        only = "action" if action.all() else "background"
        raise UserError(f"the {len(videos)} videos to learn actionness from hold nothing but {only}")
    mean, spread = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-6)
    model = LogisticRegression(C=options.logistic_c, class_weight="balanced", max_iter=_ITERATIONS)
    model.fit((rows - mean) / spread, action)
    weights = model.coef_[0].astype(np.float64) / spread
    return LogisticActionness(streams, weights, float(model.intercept_[0]) - float(mean @ weights))


def _snippets(
    store: FeatureStore, videos: list[Video], streams: tuple[str, ...], options: LogisticOptions
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Features of drawn snippets, and whether the middle of each lies inside an instance; the same share per video."""
    generator = np.random.default_rng(options.logistic_seed)
    spans = [store.read(video.id, ()).spans for video in videos]
    share = min(1.0, options.logistic_rows / sum(map(len, spans)))
    rows, action = [], []
    for video, own in zip(videos, spans, strict=True):
        drawn = np.flatnonzero(generator.random(len(own)) < share)
        middle, truth = own[drawn].mean(axis=1)[:, None], video.intervals()
        rows.append(_beside(store.read(video.id, streams).features, streams)[drawn])
        action.append(((middle >= truth[:, 0]) & (middle < truth[:, 1])).any(axis=1))
    return np.concatenate(rows), np.concatenate(action)


def _beside(features: Mapping[str, NDArray[Any]], streams: tuple[str, ...]) -> NDArray[np.float64]:
    return np.concatenate([np.asarray(features[stream], dtype=np.float64) for stream in streams], axis=1)


__all__ = ["LogisticActionness", "LogisticOptions", "fit_logistic"]
