"""The videos and instances that detections are measured against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssn_feat.annotations import Dataset, read_annotations
from ssn_feat.annotations.joining import check_own_times
from ssn_feat.annotations.protocols import protocol, separate_ambiguous
from ssn_feat.errors import UserError
from ssn_feat.evaluation.evaluate_options import EvaluateOptions
from ssn_feat.evaluation.matching import Truths
from ssn_feat.terminal import counted


@dataclass(frozen=True)
class EvaluationSet:
    """The annotations that detections are measured against."""

    known: Dataset
    """All annotated videos."""
    dataset: Dataset
    """The evaluated videos."""
    empty: int
    """Number of videos of the subset without instances, evaluated or not."""
    empty_count: bool
    """Whether these videos are evaluated, so that all detections in them are false alarms."""
    line: str | None
    """A line that describes the protocol; None without one."""

    @property
    def ambiguous(self) -> Truths:
        """Ambiguous intervals in the evaluated videos; videos are numbered in their order."""
        videos = list(self.dataset.videos.values())
        rows = [(number, i.start, i.end) for number, video in enumerate(videos) for i in video.ambiguous]
        columns = np.array(rows, dtype=np.float64).reshape(-1, 3)
        numbers = columns[:, 0].astype(np.int64)
        return Truths(numbers, np.zeros_like(numbers), columns[:, 1:])


def read_evaluation_set(options: EvaluateOptions, dataset: Dataset | None = None) -> EvaluationSet:
    """The evaluation set that ``options`` describe, of ``dataset`` or else of the annotations that they name.

    Raises UserError if the annotations are missing, have no instance in the evaluated videos, or have instances outside
    too many of these videos (:func:`ssn_feat.annotations.joining.check_own_times`).
    """
    known = separate_ambiguous(dataset or read_annotations(options.annotations), options.ambiguous)
    line = None
    if options.protocol is not None:
        chosen_by = protocol(options.protocol)
        subset, chosen, line = known.subset(chosen_by.subset), chosen_by.apply(known), chosen_by.line(known)
    else:
        subset = chosen = known.subset(options.subset) if options.subset else known
    with_truth = [video.id for video in chosen.videos.values() if video.instances]
    if not with_truth:
        number = counted(len(chosen.videos), "video")
        raise UserError(f"none of the {number} to evaluate has an instance ({options.annotations})")
    check_own_times(chosen, options, options.quiet, options.annotations)
    if options.empty_videos == "ignore":
        chosen = chosen.only(with_truth)
    empty = sum(not video.instances for video in subset.videos.values())
    return EvaluationSet(known, chosen, empty, len(chosen.videos) > len(with_truth), line)


__all__ = ["EvaluationSet", "read_evaluation_set"]
