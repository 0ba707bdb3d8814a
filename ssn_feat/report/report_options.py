"""What ``bench/report.py`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ssn_feat.errors import UserError
from ssn_feat.evaluation.compare_options import CompareOptions
from ssn_feat.evaluation.error_buckets import BucketScheme
from ssn_feat.evaluation.evaluate_options import EvaluateOptions
from ssn_feat.evaluation.matching import Definition


@dataclass(frozen=True)
class ReportOptions:
    """One page of HTML of everything: numbers, curves, errors, training, and a timeline of each video."""

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Detections (.json), proposals (.npz, .txt, folders of csv files) and run folders (or folders of these), in any
    order."""
    annotations: str | None = None
    """The truth: a path, or DIALECT:PATH. Needed for all but run folders."""
    out: Path = Path("report.html")
    """The page."""
    protocol: str | None = None
    """What counts, by name (see bench/detections.py)."""
    subset: str | None = None
    """Only the videos of this subset of the annotations."""
    definition: Definition = "activitynet"
    """Whose average precision."""
    thresholds: tuple[float, ...] | None = None
    """tIoU thresholds; default: those of the protocol, or 0.3 to 0.7."""
    bootstrap: int = 1000
    """Draws of videos for 95 % intervals; 0: none."""
    unknown_videos: Literal["refuse", "drop", "count"] = "refuse"
    """Detections in videos that the annotations do not have (see bench/detections.py)."""
    buckets: BucketScheme = "activitynet"
    """How the error analysis groups instances: with the edges of DETAD for which data set."""
    store: Path | None = None
    """Feature store: with the actionness runs among the inputs it gives the actionness of the timelines. Without it
    they show the actionness that a file of proposals holds."""
    videos: Path | None = None
    """Folder of the video files: the page plays them from where they are."""
    title: str = "Temporal action detection"
    """Title of the page."""
    shown_proposals: int = 60
    """Proposals of a video that a timeline has, the best of each file; all count in the numbers."""
    shown_detections: int = 100
    """Detections of a video that a timeline has, the best of each file."""
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
        """How ``files`` of detections are measured."""
        return EvaluateOptions(
            files=files,
            annotations=self.truth,
            protocol=self.protocol,
            subset=self.subset,
            definition=self.definition,
            thresholds=self.thresholds,
            bootstrap=self.bootstrap,
            unknown_videos=self.unknown_videos,
            buckets=self.buckets,
            analysis=True,
            quiet=True,
        )

    def compared(self, files: tuple[Path, ...]) -> CompareOptions:
        """How ``files`` of proposals are measured."""
        return CompareOptions(
            files=files,
            annotations=self.truth,
            subset=None if self.protocol else self.subset,
            protocol=self.protocol,
            methods=("oracle", "random"),
        )

    @property
    def truth(self) -> str:
        """The annotations. Raises UserError without any."""
        if self.annotations is None:
            raise UserError("detections and proposals are shown against the truth: add --annotations")
        return self.annotations


__all__ = ["ReportOptions"]
