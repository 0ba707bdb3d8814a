"""Buckets of instances for the error analysis.

- coverage: length of the instance / duration of the video (at most 1),
- length: seconds,
- instances: number of instances of its class in its video,
- context: time without other instances directly before and after it, in multiples of its length. In DETAD, people rated
  how much context an action needs; this quantity is computed from annotations and is not the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations.dataset import Dataset
from ssn_feat.evaluation.average_precision import truths_of
from ssn_feat.evaluation.matching import pairs

Float = NDArray[np.float64]

BucketScheme = Literal["quantiles", "activitynet", "thumos14"]
Edges = tuple[tuple[float, ...], tuple[str, ...]]
_FIVE, _FOUR = ("XS", "S", "M", "L", "XL"), ("XS", "S", "M", "L")
_CONTEXT = ((0.0, 1.0, 2.0, 4.0, 8.0, np.inf), _FIVE)
# Limits of buckets and their names, as in DETAD; a value equal to a limit is in the lower bucket.
BUCKETS: dict[str, dict[str, Edges]] = {
    "activitynet": {
        "coverage": ((0.0, 0.2, 0.4, 0.6, 0.8, 1.0), _FIVE),
        "length": ((0.0, 30.0, 60.0, 120.0, 180.0, np.inf), _FIVE),
        "instances": ((0.0, 1.0, 4.0, 8.0, np.inf), _FOUR),
        "context": _CONTEXT,
    },
    "thumos14": {
        "coverage": ((0.0, 0.02, 0.04, 0.06, 0.08, 1.0), _FIVE),
        "length": ((0.0, 3.0, 6.0, 12.0, 18.0, np.inf), _FIVE),
        "instances": ((0.0, 1.0, 40.0, 80.0, np.inf), _FOUR),
        "context": _CONTEXT,
    },
}


# What the limits of each scheme are, to print.
LIMITS = {
    "quantiles": "fifths of these instances",
    "activitynet": "those of DETAD for ActivityNet",
    "thumos14": "those of DETAD for THUMOS14",
}
_NAMES: dict[int, tuple[str, ...]] = {1: ("all",), 2: ("S", "L"), 3: ("S", "M", "L"), 4: _FOUR, 5: _FIVE}


def buckets_of(scheme: BucketScheme, values: Mapping[str, Float]) -> Mapping[str, Edges]:
    """Limits and names of the buckets of each characteristic in ``values`` ``(M,)``, M > 0.

    With ``quantiles``, each bucket has about a fifth of the instances; there are fewer buckets if many values are
    equal. Limits between buckets are rounded to three digits.
    """
    return {what: _quantiles(values[what]) for what in values} if scheme == "quantiles" else BUCKETS[scheme]


def _quantiles(values: Float) -> Edges:
    lowest, highest = float(values.min()), float(values.max())
    quantiles = np.quantile(values, [0.2, 0.4, 0.6, 0.8], method="inverted_cdf")
    inner = sorted({edge for edge in map(_rounded, quantiles.tolist()) if lowest <= edge < _rounded(highest)})
    edges = (lowest, *inner, highest)
    return edges, _NAMES[len(edges) - 1]


def _rounded(value: float) -> float:
    """The value with three digits."""
    return float(f"{value:.3g}")


@dataclass(frozen=True)
class Bucket:
    """Instances with similar values of one characteristic."""

    name: str
    """XS, S, M, L, XL."""
    low: float
    """Values are above this limit (in the first bucket: not below it)."""
    high: float
    """Values are at most this limit."""
    instances: int
    """Number of instances."""
    missed: float
    """Share of missed instances, mean over thresholds; NaN without instances."""
    average_map: float
    """Average mAP_N on these instances; NaN without instances."""

    @property
    def span(self) -> str:
        """The range of values, to print."""
        return f"> {self.low:.4g}" if np.isinf(self.high) else f"{self.low:.4g} – {self.high:.4g}"


def characteristics(dataset: Dataset) -> dict[str, Float]:
    """Coverage, length (seconds), number of instances and context of every instance, ``(M,)``, in the order of the data
    set; see the module. The context of an instance of length 0 is 0."""
    truths = truths_of(dataset)
    durations = np.array([video.duration for video in dataset.videos.values()])[truths.videos]
    starts, ends = truths.intervals.T
    length = ends - starts
    free_from, free_to = np.zeros_like(starts), durations.copy()
    same = np.zeros(len(length))
    for one, other in pairs(truths.videos, truths.videos):
        np.add.at(same, one[truths.classes[one] == truths.classes[other]], 1)
        before = starts[other] < starts[one]
        np.maximum.at(free_from, one[before], ends[other[before]])
        after = ends[other] > ends[one]
        np.minimum.at(free_to, one[after], starts[other[after]])
    free = np.maximum(starts - free_from, 0) + np.maximum(free_to - ends, 0)
    return {
        "coverage": np.minimum(np.divide(length, durations, out=np.ones_like(length), where=durations > 0), 1.0),
        "length": length,
        "instances": same,
        "context": np.divide(free, length, out=np.zeros_like(free), where=length > 0),
    }


__all__ = ["BUCKETS", "LIMITS", "Bucket", "BucketScheme", "buckets_of", "characteristics"]
