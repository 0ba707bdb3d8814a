"""Options of ``bench/operating_point.py``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ssn_feat.errors import UserError
from ssn_feat.evaluation.evaluate_options import EvaluateOptions
from ssn_feat.evaluation.score_thresholds import Criterion


@dataclass(frozen=True)
class OperatingPointOptions:
    """Choose a score threshold for the detections of each class, for the best F1, a precision or a number of false
    alarms, and measure it. Choose on videos that the heads were not trained on, and measure on others."""

    detections: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DETECTIONS")]
    """Detections (ActivityNet result JSON) of the videos to choose on, with all scores."""
    annotations: str
    """Annotations: a path, or DIALECT:PATH."""
    subset: str = "validation"
    """Subset of the annotations to choose thresholds on."""
    test_subset: str | None = None
    """Subset to measure the thresholds on; default: that of --subset, which gives figures that are too good."""
    test_detections: Path | None = None
    """Detections of the videos to measure on; default: DETECTIONS."""
    precision: float | None = None
    """Choose the threshold of highest recall with at least this precision, instead of the best F1."""
    false_alarms: float | None = None
    """Choose the threshold of highest recall with at most this many false alarms of a class per hour, instead of the
    best F1."""
    tiou: float = 0.5
    """Smallest tIoU with an instance at which a detection is correct."""
    minimum_instances: int = 10
    """Classes with fewer instances in the subset get the threshold of all classes together."""
    out: Path | None = None
    """Write the thresholds as JSON, for --operating-point of train/detect.py store and bench/detections.py."""
    model: Path | None = None
    """Write the thresholds into this model folder; train/detect.py video then drops detections below them."""
    json: Path | None = None
    """Write all numbers as JSON."""
    bootstrap: int = 1000
    """Number of draws of videos for 95 % intervals; 0: no intervals."""
    seed: int = 0
    """Seed of these draws."""
    quiet: bool = False
    """Print nothing."""

    def __post_init__(self) -> None:
        Criterion(self.precision, self.false_alarms)  # raises UserError
        if not 0 < self.tiou <= 1:
            raise UserError(f"tiou must be above 0 and at most 1, not {self.tiou}")
        if self.minimum_instances < 1:
            raise UserError(f"minimum_instances must be at least 1, not {self.minimum_instances}")
        if self.bootstrap < 0:
            raise UserError(f"bootstrap must be at least 0, not {self.bootstrap}")
        if self.out is not None and self.out.is_dir():
            raise UserError(f"--out is a JSON file, and {self.out} is a folder: --model writes into a model folder")

    @property
    def criterion(self) -> Criterion:
        """What the thresholds are chosen for."""
        return Criterion(self.precision, self.false_alarms)

    def evaluated(self, test: bool) -> EvaluateOptions:
        """Options of the evaluation of the videos to choose on, or of those to measure on."""
        return EvaluateOptions(
            files=((self.test_detections if test else None) or self.detections,),
            annotations=self.annotations,
            subset=(self.test_subset if test else None) or self.subset,
            thresholds=(self.tiou,),
            multiples=(),
            bootstrap=self.bootstrap if test else 0,
            seed=self.seed,
            quiet=True,
        )


__all__ = ["OperatingPointOptions"]
