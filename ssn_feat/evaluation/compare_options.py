"""Options of ``bench/proposals.py``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_recall import Budget
from ssn_feat.proposals import AnchorOptions, SlidingOptions, TagOptions


@dataclass(frozen=True)
class CompareOptions:
    """Compare proposals with the truth: average recall, its area, recall at tIoU."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Files of proposals: .npz of train/propose.py, ActivityNet proposal .json, .txt: an SSN list, or with --fps
    lines of 'video start_frame end_frame'; a folder: a csv file per video, as BSN and BMN write them."""
    annotations: str
    """Annotations of the videos: a path, or DIALECT:PATH."""
    subset: str | None = None
    """Only the videos of this subset of the annotations."""
    protocol: str | None = None
    """Which videos and instances count, by name: thumos14, thumos14-211, thumos14-ssn-210, activitynet1.2,
    activitynet1.3, or a subset; /all after it counts videos without truth too. In place of --subset."""
    methods: tuple[str, ...] = ("sliding", "random", "oracle")
    """Compared with the files: sliding windows and dense anchors in random order; sliding-ranked, anchors-ranked: the
    same, ranked by contrast in actionness; tag: each source of actionness grouped; uniform random intervals; oracle:
    the truth itself; package.module:function: one of your own."""
    store: Path | None = None
    """Feature store: for coverage, for --actionness, and for the features that your own method is given."""
    actionness: tuple[Path, ...] = ()
    """Run folders of actionness heads, each a source for tag, and all of them fused; without any, the actionness that
    the files hold."""
    numbers: tuple[int, ...] = (50, 100)
    """Average recall is told at these numbers of proposals per video, up to --maximum."""
    maximum: int = 100
    """Number of proposals per video at which the curve and its area end; the curve has 100 points."""
    budget: Budget = "average"
    """average: the same share of every video's proposals, so many on average, as the ActivityNet toolkit counts;
    fixed: so many of every video."""
    grid: Literal["activitynet", "thumos14"] = "activitynet"
    """tIoU thresholds of average recall: 0.5:0.05:0.95 or 0.5:0.05:1.0."""
    tious: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)
    """Recall is told at these tIoU thresholds."""
    recall_number: int | None = None
    """Recall at tIoU is that of the best so many proposals of every video; all of them by default."""
    seed: int = 0
    """Decides random orders and random intervals."""
    lengths: tuple[float, ...] = (3.0, 6.0, 12.0, 18.0)
    """Average recall is told apart by the length of instances, at these seconds."""
    instances: tuple[int, ...] = (1, 4, 8, 40)
    """And by the number of instances in their video, at these numbers."""
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
                raise UserError(f"where groups of instances part must be ascending and above 0, not {edges}")
        if self.protocol and self.subset:
            raise UserError("a protocol names its subset: leave out --subset")
        if self.actionness and not self.store:
            raise UserError("runs score the features of a store: add --store")
        if len({path.name for path in self.actionness}) < len(self.actionness):
            raise UserError("two runs of --actionness have the same name, by which they are told apart")
        if not all(0.0 < t <= 1.0 for t in self.tious):
            raise UserError(f"tIoU thresholds must be in (0, 1], not {self.tious}")
        if self.recall_number is not None and self.recall_number < 1:
            raise UserError(f"recall_number must be at least 1, not {self.recall_number}")
        if self.seed < 0:
            raise UserError(f"seed must be at least 0, not {self.seed}")


__all__ = ["CompareOptions"]
