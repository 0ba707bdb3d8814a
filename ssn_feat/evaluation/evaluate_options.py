"""What ``bench/detections.py`` can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from ssn_feat.annotations.dataset import subset_name
from ssn_feat.annotations.protocols import protocol
from ssn_feat.drawing.pictures import check_picture
from ssn_feat.drawing.timeline import TimelineOptions
from ssn_feat.errors import UserError
from ssn_feat.evaluation.error_buckets import BucketScheme
from ssn_feat.evaluation.matching import Definition

# As the toolkit computes them: a tIoU that equals a threshold up to rounding is on the side that it is on there.
_ACTIVITYNET = tuple(np.linspace(0.5, 0.95, 10).tolist())
_THUMOS = (0.3, 0.4, 0.5, 0.6, 0.7)
_SSN_THUMOS = tuple(np.arange(0.1, 1.0, 0.1).tolist())


@dataclass(frozen=True)
class EvaluateOptions:
    """Measure detections: mAP at several tIoU thresholds, of any number of files side by side."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DETECTIONS")]
    """Detections to measure (ActivityNet result JSON)."""
    annotations: str
    """The truth: a path, or DIALECT:PATH."""
    protocol: str | None = None
    """What counts, by name: thumos14, thumos14-211, thumos14-ssn-210, activitynet1.2, activitynet1.3, a subset; /all
    after it counts videos without truth too. It is printed beside the numbers."""
    subset: str | None = None
    """Only the videos of this subset of the annotations; default: the protocol's, or all."""
    definition: Definition = "activitynet"
    """Whose average precision: of the ActivityNet toolkit, which papers report, or of the THUMOS 2014 challenge."""
    thresholds: tuple[float, ...] | None = None
    """tIoU thresholds; default: those of the protocol, or 0.3 to 0.7."""
    bootstrap: int = 1000
    """How often videos are drawn anew for 95 % intervals of mAP and of its differences to the first file; 0: not."""
    seed: int = 0
    """Of these draws: the same seed draws the same videos."""
    empty_videos: Literal["count", "ignore"] = "count"
    """Detections in videos without any instance: false alarms (count), or left out with their videos (ignore)."""
    unknown_videos: Literal["refuse", "drop", "count"] = "refuse"
    """Detections in videos that the annotations do not have: an error, dropped, or false alarms. With count so are
    those in videos of other subsets, as in the ActivityNet toolkit; else these are dropped. What is dropped is said."""
    ambiguous: str = "Ambiguous"
    """A label that is no class: its instances are no truth; the thumos14 definition ignores false alarms there."""
    per_class: bool = False
    """Also print the average precision of each class."""
    json: Path | None = None
    """Write all numbers as JSON."""
    csv: Path | None = None
    """Write all numbers as CSV, one line for each file, class and threshold."""
    multiples: tuple[int, ...] = (1, 5)
    """Recall@kx is said for these k: recall of the k x best detections of a class in a video with x instances of it."""
    curves: Path | None = None
    """Draw precision against recall, and against score (.png, .svg, .pdf)."""
    analysis: bool = False
    """Also say why detections are wrong (as DETAD): types of false positives and their impact; what is missed."""
    analysis_csv: Path | None = None
    """Write this analysis as CSV, one line for each number. It is in --json too."""
    analysis_picture: Path | None = None
    """Draw this analysis (.png, .svg, .pdf); of several files one picture each, numbered."""
    buckets: BucketScheme = "activitynet"
    """How the analysis groups instances by coverage, length and number: with the edges of DETAD for which data set."""
    picture: Path | None = None
    """Draw timelines (.png, .svg, .pdf) of the videos named by --videos, with the detections of the first file."""
    videos: tuple[str, ...] = ()
    """Ids of the videos to draw."""
    proposals: Path | None = None
    """Proposals to draw with their actionness (train/propose.py)."""
    quiet: bool = False
    """Print nothing."""
    timeline: TimelineOptions = field(default_factory=TimelineOptions)
    """What timelines show."""

    def __post_init__(self) -> None:
        for picture in (self.picture, self.curves, self.analysis_picture):
            check_picture(picture)
        if self.thresholds is not None and (not self.thresholds or len(set(self.thresholds)) < len(self.thresholds)):
            raise UserError(f"thresholds must name at least one tIoU, and each once, not {list(self.thresholds)}")
        if any(k < 1 for k in self.multiples):
            raise UserError(f"multiples of recall@kx are at least 1, not {min(self.multiples)}")
        if self.bootstrap < 0:
            raise UserError(f"bootstrap is a number of draws, or 0, not {self.bootstrap}")
        if self.protocol is not None:
            chosen = protocol(self.protocol)
            if self.subset is not None and subset_name(self.subset) != chosen.subset:
                raise UserError(f"protocol {chosen.name} is of the {chosen.subset} subset, not {self.subset}")
        if bool(self.picture) != bool(self.videos):
            raise UserError("--picture FILE and --videos ID ... go together")
        if self.unknown_videos == "count" and self.empty_videos == "ignore":
            raise UserError("--unknown-videos count makes false alarms of what --empty-videos ignore leaves out")

    @property
    def analysed(self) -> bool:
        """Whether errors are analysed."""
        return self.analysis or self.analysis_csv is not None or self.analysis_picture is not None

    @property
    def tious(self) -> tuple[float, ...]:
        """The tIoU thresholds that count."""
        if self.thresholds is not None:
            return self.thresholds
        return _THUMOS if self.protocol is None else protocol(self.protocol).thresholds


def _preset(**values: Any) -> EvaluateOptions:
    return EvaluateOptions(files=tyro.MISSING, annotations=tyro.MISSING, **values)


PRESETS = {
    "activitynet": _preset(thresholds=_ACTIVITYNET, subset="validation"),
    "thumos14": _preset(thresholds=_THUMOS, subset="testing", buckets="thumos14"),
    "thumos14-challenge": _preset(thresholds=_THUMOS, subset="testing", buckets="thumos14", definition="thumos14"),
    "thumos14-ssn": _preset(thresholds=_SSN_THUMOS, subset="testing", buckets="thumos14", empty_videos="ignore"),
}
