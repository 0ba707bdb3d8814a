"""An operating point: the lowest score at which detections of each class are shown to a user."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssn_feat.cli import from_record
from ssn_feat.errors import UserError
from ssn_feat.files import replacing
from ssn_feat.hashes import HashedFolder, read_checked
from ssn_feat.results.detections import Detections

# Name of the file in a model folder.
FILE_NAME = "operating-point.json"


@dataclass(frozen=True)
class OperatingPoint:
    """Score thresholds of the classes, and how they were chosen."""

    thresholds: dict[str, float | None]
    """Lowest score of each class that is kept; None: no detection of the class is kept."""
    criterion: str
    """What the thresholds were chosen for, such as ``best F1``."""
    tiou: float
    """Smallest tIoU at which a detection is correct."""
    chosen_on: str
    """The videos that the thresholds were chosen on."""
    pooled: tuple[str, ...] = ()
    """Classes with too few instances, which have the threshold of all classes together."""

    def __post_init__(self) -> None:
        for label, threshold in self.thresholds.items():
            if threshold is not None and not np.isfinite(threshold):
                raise UserError(f"the threshold of {label!r} must be a finite number, not {threshold}")

    def __str__(self) -> str:
        return f"{self.criterion} at tIoU {self.tiou:.3g}, chosen on {self.chosen_on}"

    def of(self, labels: tuple[str, ...]) -> NDArray[np.float64]:
        """The thresholds of ``labels``, float64 ``(K,)``; NaN for classes of which nothing is kept.

        Raises UserError if a class has no threshold.
        """
        missing = [label for label in labels if label not in self.thresholds]
        if missing:
            raise UserError(
                f"the operating point has no threshold for {len(missing)} classes such as {missing[0]!r}: choose it "
                "again with bench/operating_point.py"
            )
        return np.array([np.nan if (t := self.thresholds[label]) is None else t for label in labels], dtype=np.float64)

    def keep(self, detections: Detections) -> Detections:
        """The detections whose score is at least the threshold of their class, of the same videos."""
        return detections.where(detections.scores >= self.of(detections.labels)[detections.classes])

    def save(self, path: Path) -> None:
        """Write a JSON file, or that of a model folder. Raises UserError if it cannot be written."""
        content = (json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n").encode()
        if path.is_dir():
            HashedFolder(path).write(FILE_NAME, content)
            return
        with replacing(path) as part:
            part.write_bytes(content)

    @classmethod
    def load(cls, path: Path) -> OperatingPoint:
        """Read a JSON file, or that of a model folder.

        Raises UserError if it cannot be read or is not an operating point, or if the model has none.
        """
        file = path / FILE_NAME if path.is_dir() else path
        try:
            values = json.loads(read_checked(file))
        except FileNotFoundError:
            hint = "; bench/operating_point.py --model writes one" if path.is_dir() else ""
            raise UserError(f"there is no operating point {file}{hint}") from None
        except OSError as error:
            raise UserError(f"cannot read the operating point {file}: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file} is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise UserError(f"{file} is not an operating point: expected a JSON object with thresholds")
        return from_record(cls, values, str(file))


__all__ = ["FILE_NAME", "OperatingPoint"]
