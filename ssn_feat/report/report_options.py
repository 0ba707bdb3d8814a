"""Options of ``bench/report.py``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ssn_feat.annotations.joining import JoinOptions
from ssn_feat.errors import UserError
from ssn_feat.evaluation.compare_options import CompareOptions
from ssn_feat.evaluation.error_buckets import BucketScheme
from ssn_feat.evaluation.evaluate_options import EvaluateOptions
from ssn_feat.evaluation.matching import Definition
from ssn_feat.results.detections import Reversed
from ssn_feat.video.find_videos import IdFrom


@dataclass(frozen=True)
class ReportOptions(JoinOptions):
    """Write an HTML page of all results: numbers, curves, errors, training, and a timeline of each video."""

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Detections (.json), proposals (.npz, .txt, folders of csv files) and run folders (or folders of run folders)."""
    annotations: str | None = None
    """Annotations: a path, or DIALECT:PATH. Needed for all inputs except run folders."""
    out: Path = Path("report.html")
    """The page to write."""
    protocol: str | None = None
    """Videos and instances that count (see bench/detections.py)."""
    subset: str | None = None
    """Only the videos of this subset of the annotations."""
    definition: Definition = "activitynet"
    """Definition of average precision (see bench/detections.py)."""
    thresholds: tuple[float, ...] | None = None
    """tIoU thresholds; default: those of the protocol, or 0.3 to 0.7."""
    bootstrap: int = 1000
    """Number of draws of videos for 95 % intervals; 0: no intervals."""
    unknown_videos: Literal["refuse", "drop", "count"] = "refuse"
    """Treatment of detections in unknown videos (see bench/detections.py)."""
    reversed: Reversed = "refuse"
    """Treatment of segments that end before they start (see bench/detections.py)."""
    buckets: BucketScheme | None = None
    """Limits of the groups of instances in the error analysis (see bench/detections.py)."""
    store: Path | None = None
    """Feature store from which the actionness runs among the inputs compute the actionness of the timelines. By default
    timelines show the actionness in the files of proposals."""
    videos: Path | None = None
    """Folder of the video files, which the page plays from there."""
    ids: IdFrom = "stem"
    """Ids of these files, as for extract/run.py."""
    title: str = "Temporal action detection"
    """Title of the page."""
    shown_proposals: int = 60
    """Number of proposals of each file in a timeline, best first."""
    shown_detections: int = 100
    """Number of detections of each file in a timeline, best first."""
    figures: Path | None = None
    """Also write the page's charts as PNG and SVG, into this folder."""
    quiet: bool = False
    """Print nothing."""

    def __post_init__(self) -> None:
        for name in ("shown_proposals", "shown_detections"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.out.suffix not in (".html", ".htm"):
            raise UserError(f"the page is written as .html, not {self.out.name!r}")

    def evaluated(self, files: tuple[Path, ...]) -> EvaluateOptions:
        """Options of the evaluation of ``files`` of detections."""
        return EvaluateOptions(
            files=files,
            annotations=self.truth,
            protocol=self.protocol,
            subset=self.subset,
            definition=self.definition,
            thresholds=self.thresholds,
            bootstrap=self.bootstrap,
            unknown_videos=self.unknown_videos,
            reversed=self.reversed,
            buckets=self.buckets,
            allow_duration_mismatch=self.allow_duration_mismatch,
            analysis=True,
            quiet=self.quiet,
        )

    def compared(self, files: tuple[Path, ...], ranked: bool) -> CompareOptions:
        """Options of the comparison of ``files`` of proposals with sliding windows, chance and the upper bound.

        ``ranked``: a file contains actionness, by which windows can be ranked, too.
        """
        return CompareOptions(
            files=files,
            annotations=self.truth,
            subset=None if self.protocol else self.subset,
            protocol=self.protocol,
            methods=("sliding", *(("sliding-ranked",) if ranked else ()), "random", "oracle"),
            allow_duration_mismatch=self.allow_duration_mismatch,
        )

    @property
    def truth(self) -> str:
        """The annotations. Raises UserError if none are named."""
        if self.annotations is None:
            raise UserError("detections and proposals are compared with annotations: add --annotations")
        return self.annotations


__all__ = ["ReportOptions"]
