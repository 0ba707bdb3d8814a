"""The options of a training of a head that reads whole videos."""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass
from typing import Any

import tyro

from ssn_feat.errors import UserError
from ssn_feat.heads.kinds import sequence_head
from ssn_feat.heads.one_stage import OneStageOptions
from ssn_feat.heads.point_options import PointNetworkOptions
from ssn_feat.training.fit_options import OptimisationOptions, TrainingOptions


@dataclass(frozen=True)
class SequenceOptions(TrainingOptions):
    """Learn a head that reads whole videos from a feature store."""

    head: str = "one-stage"
    """one-stage, or package.module:Class."""
    longest: int = 2304
    """Maximum number of rows of a video that training reads. From a longer video it reads a window with an instance."""
    crop: tuple[float, float] = (0.9, 1.0)
    """Smallest and largest share of the rows of a shorter video that training reads; it is drawn between them."""
    kept_share: float = 0.5
    """An instance counts if at least this share of it is inside the rows that are read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.longest < 1:
            raise UserError(f"longest must be at least 1, not {self.longest}")
        if not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise UserError(f"crop must be two shares above 0 and at most 1, ascending, not {self.crop}")
        if not 0 < self.kept_share <= 1:
            raise UserError(f"kept_share must be above 0 and at most 1, not {self.kept_share}")

    @property
    def of_head(self) -> Any:
        """The options of the head itself, a field of the subclass for that head."""
        return vars(self)["head_options"]


@dataclass(frozen=True)
class OneStageFitOptions(SequenceOptions):
    """Learn a one-stage detector from a feature store."""

    head_options: OneStageOptions = field(default_factory=OneStageOptions)
    """The detector."""


def _preset(optimisation: OptimisationOptions, head: OneStageOptions, **values: Any) -> OneStageFitOptions:
    return OneStageFitOptions(
        store=tyro.MISSING,
        annotations=tyro.MISSING,
        out=tyro.MISSING,
        optimisation=optimisation,
        head_options=head,
        **values,
    )


def _schedule(epochs: int, lr: float, batch: int, steps: int, ema: float) -> OptimisationOptions:
    return OptimisationOptions(
        epochs=epochs,
        epoch_multiplier=1,
        batch_videos=batch,
        ema=ema,
        optimiser="adamw",
        lr=lr,
        schedule="cosine-after-warmup",
        warmup_steps=steps,
        clip_norm=1.0,
        weight_decay=0.05,
        bias_lr=1.0,
    )


# thumos14-i3d: the published settings of ActionFormer; 5 epochs of 100 steps of warm-up. activitynet1.3-tsp: those for
# proposals. small: for data sets of tens of videos.
ONE_STAGE_PRESETS = {
    "thumos14-i3d": _preset(_schedule(35, 1e-4, 2, 500, 0.999), OneStageOptions(), subset="validation"),
    "activitynet1.3-tsp": _preset(
        _schedule(15, 1e-3, 16, 3130, 0.999),
        OneStageOptions(network=PointNetworkOptions(width=256, window=7, class_agnostic=True)),
        longest=768,
    ),
    "small": _preset(
        _schedule(35, 1e-4, 2, 100, 0.99),
        OneStageOptions(network=PointNetworkOptions(width=256, window=9)),
        longest=256,
    ),
}


def options_of(kind: str) -> type[SequenceOptions]:
    """The options of a training of the head ``package.module:Class``, with those of the class itself.

    Raises UserError if there is no such head.
    """
    own = sequence_head(kind).Options
    fields = [("head_options", own, field(default_factory=own))]
    made: type[SequenceOptions] = make_dataclass(
        f"{own.__name__}OfRun", fields, bases=(SequenceOptions,), frozen=True, namespace={"__doc__": own.__doc__}
    )
    return made


__all__ = ["ONE_STAGE_PRESETS", "OneStageFitOptions", "SequenceOptions", "options_of"]
