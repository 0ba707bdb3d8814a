"""mAP during training: the option ``--eval``."""

from __future__ import annotations

import sys
from pathlib import Path

from ssn_feat.annotations import Dataset, read_annotations
from ssn_feat.annotations.joining import check_times, times_of_dataset
from ssn_feat.annotations.matching import match_dataset
from ssn_feat.detection.postprocess import PostprocessOptions, postprocess
from ssn_feat.detection.scoring import score_store
from ssn_feat.detection.sequence_detection import SuppressionOptions, detect_sequences
from ssn_feat.errors import UserError
from ssn_feat.evaluation.measure import evaluate_detections
from ssn_feat.proposals import Proposals
from ssn_feat.runs.checkpoints import Run
from ssn_feat.sampling.feature_table import intersect_ids
from ssn_feat.store import FeatureStore, open_store
from ssn_feat.store.times import times_of_store
from ssn_feat.terminal import counted
from ssn_feat.training.fit_options import FitOptions, TrainingOptions
from ssn_feat.training.loop import Measure
from ssn_feat.training.sequence_options import SequenceOptions


def validation_measure(options: TrainingOptions) -> Measure:
    """A function that gives ``{"mAP": value}`` of a run on the videos of the subset ``options.eval``.

    Detections are made and measured with the defaults of ``train/detect.py store`` and ``bench/detections.py``; only
    videos with instances count. Every measurement reads the features of these videos again, to save memory. Raises
    UserError where the store or the proposals lack a video (unless ``options.missing`` is ``skip``), and where no video
    has an instance.
    """
    if isinstance(options, SequenceOptions):
        return _sequence_measure(options)
    assert isinstance(options, FitOptions)
    store = open_store(options.store)
    path = options.eval_proposals or options.proposals
    if path is None:
        raise UserError("--eval measures detections from proposals: add --proposals FILE (train/propose.py makes one)")
    dataset, proposals = _videos_to_measure(options, store, Proposals.load(path), path)
    assert proposals is not None
    intervals = {video: proposals.intervals[video] for video in dataset.videos}

    def measure(run: Run) -> dict[str, float]:
        detections = postprocess(score_store(store, intervals, [run])[0], PostprocessOptions())
        return {"mAP": evaluate_detections(detections, dataset, options.eval_tiou).average}

    return measure


def _sequence_measure(options: SequenceOptions) -> Measure:
    store = open_store(options.store)
    dataset, _ = _videos_to_measure(options, store)

    def measure(run: Run) -> dict[str, float]:
        detections = detect_sequences(store, dataset.videos, [run], SuppressionOptions())
        return {"mAP": evaluate_detections(detections, dataset, options.eval_tiou).average}

    return measure


def _videos_to_measure(
    options: TrainingOptions, store: FeatureStore, proposals: Proposals | None = None, path: Path | None = None
) -> tuple[Dataset, Proposals | None]:
    """The videos with instances of the subset to measure on, and the proposals under their ids.

    ``path``: file of the proposals. Raises UserError if the store or the proposals lack a video or do not fit.
    """
    annotations = read_annotations(options.annotations)
    annotations = match_dataset(annotations, store.ids, f"the store {store.path}", quiet=True)
    dataset = annotations.subset(options.eval or "")
    ids = tuple(video.id for video in dataset.videos.values() if video.instances)
    if not ids:
        raise UserError(
            f"none of the {counted(len(dataset.videos), f'{options.eval} video')} to measure on has an instance"
        )
    ids = intersect_ids(ids, store.ids, options.missing, f"the store {store.path}", options.eval, options.quiet)
    times = [times_of_dataset(dataset.only(ids), options.annotations)]
    if proposals is not None:
        proposals = proposals.matched(dataset.videos, "the annotations", options.quiet)
        what = f"the file of proposals {path}"
        ids = intersect_ids(ids, proposals.ids, options.missing, what, options.eval, options.quiet)
        times.append(proposals.times)
    trained = set(annotations.subset(options.subset).videos) & set(ids)
    if trained and not options.quiet:
        print(
            f"note: {len(trained)} of {len(ids)} videos to measure on are training videos of this run", file=sys.stderr
        )
    stored = times_of_store(store, ids)
    for each in times:
        check_times(each, stored, options, options.quiet)
    return dataset.only(ids), proposals


__all__ = ["validation_measure"]
