"""Options of ``bench/detections.py``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from ssn_feat.annotations.dataset import subset_name
from ssn_feat.annotations.joining import JoinOptions
from ssn_feat.annotations.protocols import protocol
from ssn_feat.drawing.pictures import check_picture
from ssn_feat.drawing.timeline import TimelineOptions
from ssn_feat.errors import UserError
from ssn_feat.evaluation.error_buckets import BucketScheme
from ssn_feat.evaluation.matching import Definition
from ssn_feat.results.detections import Reversed

# Computed as in the toolkit, so that a tIoU that equals a threshold up to rounding is treated alike.
_ACTIVITYNET = tuple(np.linspace(0.5, 0.95, 10).tolist())
_THUMOS = (0.3, 0.4, 0.5, 0.6, 0.7)
_SSN_THUMOS = tuple(np.arange(0.1, 1.0, 0.1).tolist())


@dataclass(frozen=True)
class EvaluateOptions(JoinOptions):
    """Measure detections: mAP at several tIoU thresholds, of any number of files side by side."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DETECTIONS")]
    """Files of detections (ActivityNet result JSON)."""
    annotations: str
    """Annotations: a path, or DIALECT:PATH."""
    protocol: str | None = None
    """Videos and instances that count: thumos14, thumos14-211, thumos14-ssn-210, activitynet1.2, activitynet1.3 or a
    subset; with the suffix /all also videos without instances."""
    subset: str | None = None
    """Only the videos of this subset of the annotations; default: that of the protocol, or all."""
    definition: Definition = "activitynet"
    """Average precision as defined by the ActivityNet toolkit, which papers report, or by the THUMOS 2014 challenge."""
    thresholds: tuple[float, ...] | None = None
    """tIoU thresholds; default: those of the protocol, or 0.3 to 0.7."""
    bootstrap: int = 1000
    """Number of draws of videos for 95 % intervals of mAP and of its differences to the first file; 0: no intervals."""
    seed: int = 0
    """Seed of these draws."""
    empty_videos: Literal["count", "ignore"] = "count"
    """Detections in videos without instances are false alarms (count), or are left out with their videos (ignore)."""
    unknown_videos: Literal["refuse", "drop", "count"] = "refuse"
    """Detections in videos that are not in the annotations are an error, dropped, or false alarms (count). With count,
    as in the ActivityNet toolkit, those in videos of other subsets are false alarms too; otherwise they are dropped."""
    reversed: Reversed = "refuse"
    """Segments that end before they start are an error, get their ends swapped as in the official THUMOS evaluation, or
    are dropped."""
    ambiguous: str = "Ambiguous"
    """A label that is not a class: the definition thumos14 ignores false alarms that overlap its instances."""
    per_class: bool = False
    """Also print the average precision of each class."""
    json: Path | None = None
    """Write all numbers as JSON."""
    csv: Path | None = None
    """Write all numbers as CSV, one line per file, class and threshold."""
    multiples: tuple[int, ...] = (1, 5)
    """Print recall@kx for these k: recall of the k x best detections of a class in a video with x instances of it."""
    curves: Path | None = None
    """Draw precision against recall, and against score (.png, .svg, .pdf)."""
    analysis: bool = False
    """Also analyse errors as DETAD does: kinds of false positives and their impact, missed instances, sensitivity."""
    analysis_csv: Path | None = None
    """Write the analysis as CSV, one line per number. --json contains it too."""
    analysis_picture: Path | None = None
    """Draw the analysis (.png, .svg, .pdf), with several files one numbered picture each."""
    buckets: BucketScheme | None = None
    """Limits of the groups of instances by coverage, length, number and context: fifths of the instances (quantiles),
    or those of DETAD for ActivityNet or THUMOS14; default: those of DETAD with a protocol or preset of one of these
    data sets, otherwise quantiles."""
    picture: Path | None = None
    """Draw timelines (.png, .svg, .pdf) of the videos named by --videos, with the detections of the first file."""
    videos: tuple[str, ...] = ()
    """Ids of the videos to draw."""
    proposals: Path | None = None
    """Proposals of these videos (train/propose.py), to tell which instances have none, and to draw with actionness."""
    operating_point: Path | None = None
    """Explain errors at these score thresholds (bench/operating_point.py: a JSON file, or a model folder that has
    them); default: those of the best F1 of each class on the same videos."""
    quiet: bool = False
    """Print nothing."""
    timeline: TimelineOptions = field(default_factory=TimelineOptions)
    """How much timelines show."""

    def __post_init__(self) -> None:
        for picture in (self.picture, self.curves, self.analysis_picture):
            check_picture(picture)
        if self.thresholds is not None and (not self.thresholds or len(set(self.thresholds)) < len(self.thresholds)):
            raise UserError(f"thresholds must be one or more different tIoUs, not {list(self.thresholds)}")
        if any(k < 1 for k in self.multiples):
            raise UserError(f"multiples of recall@kx must be at least 1, not {min(self.multiples)}")
        if self.bootstrap < 0:
            raise UserError(f"bootstrap must be at least 0, not {self.bootstrap}")
        if self.protocol is not None:
            chosen = protocol(self.protocol)
            if self.subset is not None and subset_name(self.subset) != chosen.subset:
                raise UserError(f"protocol {chosen.name} uses the subset {chosen.subset}, not {self.subset}")
        if bool(self.picture) != bool(self.videos):
            raise UserError("--picture FILE needs --videos ID ..., and vice versa")
        if self.unknown_videos == "count" and self.empty_videos == "ignore":
            raise UserError(
                "--unknown-videos count contradicts --empty-videos ignore: the first counts what the second leaves out"
            )

    @property
    def analysed(self) -> bool:
        """Whether to analyse errors."""
        return self.analysis or self.analysis_csv is not None or self.analysis_picture is not None

    @property
    def bucket_scheme(self) -> BucketScheme:
        """The limits of the buckets of the error analysis."""
        if self.buckets is not None:
            return self.buckets
        named = self.protocol or ""
        if named.startswith("thumos14") or self.annotations.startswith("thumos14:"):
            return "thumos14"
        return "activitynet" if named.startswith("activitynet") else "quantiles"

    @property
    def tious(self) -> tuple[float, ...]:
        """The tIoU thresholds of the evaluation."""
        if self.thresholds is not None:
            return self.thresholds
        return _THUMOS if self.protocol is None else protocol(self.protocol).thresholds


def _preset(**values: Any) -> EvaluateOptions:
    return EvaluateOptions(files=tyro.MISSING, annotations=tyro.MISSING, **values)


PRESETS = {
    "activitynet": _preset(thresholds=_ACTIVITYNET, subset="validation", buckets="activitynet"),
    "thumos14": _preset(thresholds=_THUMOS, subset="testing", buckets="thumos14"),
    "thumos14-challenge": _preset(thresholds=_THUMOS, subset="testing", buckets="thumos14", definition="thumos14"),
    "thumos14-ssn": _preset(thresholds=_SSN_THUMOS, subset="testing", buckets="thumos14", empty_videos="ignore"),
}
