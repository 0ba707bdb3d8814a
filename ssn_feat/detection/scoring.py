"""Raw scores of proposals from features: the head of each run is applied to snippets in one pass over a video."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ssn_feat.detection.scores import ProposalScores, VideoScores
from ssn_feat.errors import UserError
from ssn_feat.heads.dense import fold, score_dense
from ssn_feat.heads.ssn import SSNHead
from ssn_feat.heads.stages import inside, row_ranges, stages
from ssn_feat.results.ragged import Float
from ssn_feat.runs.checkpoints import Run
from ssn_feat.store import FeatureStore


class Scorer:
    """Scores the proposals of single videos with the head of one run.

    With ``original_scoring``, scores are those of the original code (see :func:`ssn_feat.heads.dense.fold`).
    Raises UserError if the run has no SSN head.
    """

    def __init__(self, run: Run, original_scoring: bool = False) -> None:
        _require_ssn(run)
        assert isinstance(run.head, SSNHead)
        assert run.reg_stats is not None
        self.run = run
        self._folded = fold(run.head, original_scoring)
        self._mean, self._deviation = run.reg_stats

    def __call__(
        self, features: Mapping[str, NDArray[Any]], spans: Float, duration: float, intervals: ArrayLike
    ) -> VideoScores:
        """Scores of ``intervals`` ``(N, 2)``, seconds, of a video of ``duration`` seconds.

        ``features``: rows ``(T, D)`` by stream; ``spans``: ``(T, 2)``, start and end of each row in seconds.
        Regression is denormalised by the statistics of the training targets of the run.
        Raises UserError if the features do not fit the run or a proposal has no length inside the video.
        """
        proposals = np.asarray(intervals, dtype=np.float64).reshape(-1, 2)
        placed = stages(proposals, duration, self.run.augmentation)
        rows = torch.from_numpy(row_ranges(spans, placed))
        with torch.inference_mode():
            parts = score_dense(self._folded, self.run.prepare(features), rows, torch.from_numpy(placed.scaling))
        activity, completeness, regression = (part.numpy() for part in parts)
        scaled = (regression * self._deviation + self._mean).astype(np.float32)
        return VideoScores(proposals, activity, completeness, scaled, duration)


def clip_to_video(intervals: Float, duration: float) -> Float:
    """Proposals clipped to the video; those without length inside it are left out.

    A video without any proposal gets one, the whole video, as in the original code.
    """
    kept = np.clip(intervals[inside(intervals, duration)], 0.0, duration)
    return kept if len(kept) else np.array([[0.0, duration]])


def require_runs(store: FeatureStore, runs: Sequence[Run]) -> None:
    """Raise UserError if a run was trained on other features than those of the store, on other classes than the first
    run, or has no SSN head.
    """
    for run in runs:
        _require_ssn(run)
        run.require_features(store.fingerprints, f"the store {store.path}")
        if run.labels != runs[0].labels:
            raise UserError(f"runs were trained on different classes: {runs[0].labels[:5]} and {run.labels[:5]}")


def _require_ssn(run: Run) -> None:
    if not isinstance(run.head, SSNHead) or run.reg_stats is None:
        raise UserError(f"detection needs runs of the ssn head (train/fit.py head ssn), this is {run.kind}")


def score_store(
    store: FeatureStore,
    intervals: Mapping[str, Float],
    runs: Sequence[Run],
    original_scoring: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> list[ProposalScores]:
    """Scores of the proposals of each video, one result per run; ``intervals``: ``(N, 2)``, seconds, by video.

    Each video is read once, with the streams that the runs need; ``advance`` is called after each video. Raises
    UserError as :func:`require_runs`, and if a video is not in the store.
    """
    require_runs(store, runs)
    scorers = [Scorer(run, original_scoring) for run in runs]
    streams = sorted({stream for run in runs for stream in run.streams})
    results: list[dict[str, VideoScores]] = [{} for _ in runs]
    for stored in store.read_all(intervals, streams):
        clipped = clip_to_video(intervals[stored.id], stored.duration)
        for scores, scorer in zip(results, scorers, strict=True):
            scores[stored.id] = scorer(stored.features, stored.spans, stored.duration, clipped)
        advance()
    return [ProposalScores.of(runs[0].labels, scores) for scores in results]
