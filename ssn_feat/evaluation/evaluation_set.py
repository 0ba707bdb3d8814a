"""What detections are measured against: the videos and instances that count."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ssn_feat.annotations import Dataset, read_annotations
from ssn_feat.annotations.protocols import protocol
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_precision import truths_of
from ssn_feat.evaluation.evaluate_options import EvaluateOptions
from ssn_feat.evaluation.matching import Truths


@dataclass(frozen=True)
class EvaluationSet:
    """What detections are measured against."""

    known: Dataset
    """All annotated videos."""
    dataset: Dataset
    """The videos that are evaluated."""
    ambiguous: Truths
    """Ambiguous intervals in these; videos numbered in their order."""
    empty: int
    """Videos of the subset without any instance, evaluated or not."""
    empty_count: bool
    """Whether these are evaluated: detections in them are false alarms."""
    line: str | None
    """What the protocol counts, in a line to print beside numbers; None without one."""


def read_evaluation_set(options: EvaluateOptions, dataset: Dataset | None = None) -> EvaluationSet:
    """The annotations that ``options`` name, or ``dataset``, as ``options`` say.

    Raises UserError if they are missing or hold no truth.
    """
    everything = dataset or read_annotations(options.annotations)
    known = _without(everything, options.ambiguous)
    line = None
    if options.protocol is not None:
        chosen_by = protocol(options.protocol)
        subset, chosen, line = known.subset(chosen_by.subset), chosen_by.apply(known), chosen_by.line(known)
    else:
        subset = chosen = known.subset(options.subset) if options.subset else known
    with_truth = [video.id for video in chosen.videos.values() if video.instances]
    if not with_truth:
        raise UserError(f"none of the {len(chosen.videos)} videos to evaluate has an instance ({options.annotations})")
    if options.empty_videos == "ignore":
        chosen = chosen.only(with_truth)
    empty = sum(not video.instances for video in subset.videos.values())
    counted = len(chosen.videos) > len(with_truth)
    return EvaluationSet(known, chosen, _marks(everything.only(chosen.videos), options.ambiguous), empty, counted, line)


def _without(dataset: Dataset, label: str) -> Dataset:
    """The data set without the class ``label`` and its instances."""
    videos = (
        replace(video, instances=tuple(i for i in video.instances if i.label != label))
        for video in dataset.videos.values()
    )
    return Dataset.of(dataset.name, videos, [name for name in dataset.labels if name != label])


def _marks(dataset: Dataset, label: str) -> Truths:
    truths = truths_of(dataset)
    rows = np.flatnonzero(truths.classes == dataset.label_index.get(label, -1))
    return Truths(truths.videos[rows], truths.classes[rows], truths.intervals[rows])
