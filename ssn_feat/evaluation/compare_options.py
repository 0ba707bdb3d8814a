"""Options of ``bench/proposals.py``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from ssn_feat.annotations.joining import JoinOptions
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_recall import Budget
from ssn_feat.proposals import AnchorOptions, SlidingOptions, TagOptions


@dataclass(frozen=True)
class CompareOptions(JoinOptions):
    """Compare proposals with annotations: average recall, its area, recall at tIoU."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Files of proposals: .npz of train/propose.py, ActivityNet proposal .json, SSN lists (.txt), with --fps also lists
    of 'video start_frame end_frame' (.txt), folders with one csv file per video as BSN and BMN write them."""
    annotations: str
    """Annotations of the videos: a path, or DIALECT:PATH."""
    subset: str | None = None
    """Only the videos of this subset of the annotations."""
    protocol: str | None = None
    """Videos and instances that count: thumos14, thumos14-211, thumos14-ssn-210, activitynet1.2, activitynet1.3 or a
    subset; with the suffix /all also videos without instances. Replaces --subset."""
    methods: tuple[str, ...] = ("sliding", "random", "oracle")
    """Methods to compare with the files: sliding, anchors (in random order); sliding-ranked, anchors-ranked (ranked by
    contrast in actionness); tag (each source of actionness grouped); random (uniform intervals); oracle (the annotated
    instances); package.module:function (your own)."""
    store: Path | None = None
    """Feature store, for coverage, for --actionness, and for the features that your own method gets."""
    actionness: tuple[Path, ...] = ()
    """Run folders of actionness heads: tag groups each of them, and all fused. By default the actionness in the files
    is used."""
    numbers: tuple[int, ...] = (50, 100)
    """Numbers of proposals per video, up to --maximum, at which average recall is printed."""
    maximum: int = 100
    """Number of proposals per video at which the curve and its area end; the curve has 100 points."""
    budget: Budget = "average"
    """How proposals are counted: the same share of the proposals of each video (average, as the ActivityNet toolkit),
    or the same number of each video (fixed)."""
    grid: Literal["activitynet", "thumos14"] = "activitynet"
    """tIoU thresholds of average recall: 0.5:0.05:0.95 or 0.5:0.05:1.0."""
    tious: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)
    """tIoU thresholds at which recall is printed."""
    recall_number: int | Literal["equal", "all"] = "equal"
    """Number of proposals per video, best first, that count for recall at tIoU and of groups of instances: a number,
    all of them, or the same number for all methods (equal): the number of the method that has the fewest, at most
    --maximum; the oracle does not count."""
    ambiguous: str = "Ambiguous"
    """A label that is not a class: its instances do not count."""
    per_class: bool = False
    """Also print average recall of the instances of each class."""
    seed: int = 0
    """Seed of random orders and random intervals."""
    lengths: tuple[float, ...] = (3.0, 6.0, 12.0, 18.0)
    """Limits in seconds between the groups of instances by length."""
    instances: tuple[int, ...] = (1, 4, 8, 40)
    """Limits between the groups of instances by their number in the video."""
    fps: Path | None = None
    """JSON file of frames per second by video id, for lists in frames."""
    out: Path | None = None
    """Folder for proposals.csv, .json, .png, .svg and .html."""
    sliding: SlidingOptions = field(default_factory=SlidingOptions)
    """Lengths and overlap of sliding windows."""
    anchors: AnchorOptions = field(default_factory=AnchorOptions)
    """Lengths and distances of anchors."""
    tag: TagOptions = field(default_factory=TagOptions)
    """How the method tag groups actionness."""

    def __post_init__(self) -> None:
        if not self.files and not self.methods:
            raise UserError("nothing to compare: name files of proposals or --methods")
        if len(set(self.methods)) < len(self.methods):
            raise UserError(f"a method is named twice: {' '.join(self.methods)}")
        if self.maximum < 1 or not all(0 < n <= self.maximum for n in self.numbers):
            raise UserError(f"numbers of proposals must be in 1 to --maximum {self.maximum}, not {self.numbers}")
        for edges in (self.lengths, self.instances):
            if list(edges) != sorted(set(edges)) or any(edge <= 0 for edge in edges):
                raise UserError(f"limits between groups of instances must be ascending and above 0, not {edges}")
        if self.protocol and self.subset:
            raise UserError("a protocol defines the subset: leave out --subset")
        if self.actionness and not self.store:
            raise UserError("runs score the features of a store: add --store")
        if len({path.name for path in self.actionness}) < len(self.actionness):
            raise UserError("the runs of --actionness must have different names")
        if not all(0.0 < t <= 1.0 for t in self.tious):
            raise UserError(f"tIoU thresholds must be in (0, 1], not {self.tious}")
        if isinstance(self.recall_number, int) and self.recall_number < 1:
            raise UserError(f"recall_number must be at least 1, not {self.recall_number}")
        if self.seed < 0:
            raise UserError(f"seed must be at least 0, not {self.seed}")


__all__ = ["CompareOptions"]
