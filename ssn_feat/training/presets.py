"""Options for known data sets by name. Store, annotations, proposals and run folder are always given by the user."""

from __future__ import annotations

from typing import Any

import tyro

from ssn_feat.sampling.pools import PoolOptions
from ssn_feat.training.fit_options import ActionnessOptions, FitOptions, OptimisationOptions


def _preset(**values: Any) -> FitOptions:
    return FitOptions(store=tyro.MISSING, annotations=tyro.MISSING, out=tyro.MISSING, **values)


_ACTIVITYNET = _preset(
    pools=PoolOptions(incomplete_overlap=0.7),
    optimisation=OptimisationOptions(epochs=7, lr_steps=(3, 6)),
)

# For data sets of tens of videos. There are few steps, so the learning rate is adaptive. Many random windows serve as
# background, since actionness that was trained on the same videos proposes hardly any background there. Longer training
# or standardisation fits the training proposals better, but lowers mAP on other videos.
_SMALL = _preset(
    background_videos=True,
    random_windows=100,
    actionness=ActionnessOptions(action_rows=6, background_rows=6),
    optimisation=OptimisationOptions(
        epochs=30, optimiser="adamw", lr=0.001, schedule="cosine", warmup_steps=50, weight_decay=0.01, bias_lr=1.0
    ),
)

PRESETS: dict[str, FitOptions] = {
    "thumos14": _preset(subset="validation"),
    "activitynet1.2": _ACTIVITYNET,
    "activitynet1.3": _ACTIVITYNET,
    "small": _SMALL,
}

__all__ = ["PRESETS"]
