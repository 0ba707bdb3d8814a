"""Checks during training that detection can use the scores of a head; those of unscaled features may overflow."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from ssn_feat.detection.postprocess import combined_scores
from ssn_feat.detection.scoring import score_store
from ssn_feat.errors import UserError
from ssn_feat.runs.checkpoints import Run
from ssn_feat.store import open_store
from ssn_feat.training.fit_options import TrainingOptions

_VIDEOS = 4
_WINDOWS = (1, 2, 4, 8, 16)
# Proposals that were not tried may have larger scores.
_MARGIN = 2.0


def usable_scores(options: TrainingOptions) -> Callable[[Run], None]:
    """A function that raises UserError for a head whose scores exceed half of what detection can use.

    It scores windows of a few training videos.
    """
    store = open_store(options.store)

    def check(run: Run) -> None:
        videos = list(store.read_all(sorted(run.training_videos)[:_VIDEOS], run.streams))
        windows = {
            video.id: np.array([w for n in _WINDOWS for w in pairwise(np.linspace(0.0, video.duration, n + 1))])
            for video in videos
        }
        (scores,) = score_store(store, windows, [run])
        try:
            combined_scores(scores.activity, _MARGIN * scores.completeness, "foreground")
        except UserError:
            largest = max(float(np.abs(rows).max()) for video in videos for rows in video.features.values())
            mend = "lower --lr" if options.standardise else "add --standardise, or scale the features to about 1"
            raise UserError(
                f"the head gives scores up to {scores.completeness.max():g} after epoch {run.epoch}, too large for "
                f"detection; the features have values up to {largest:g}: {mend}"
            ) from None

    return check


__all__ = ["usable_scores"]
