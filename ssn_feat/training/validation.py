"""mAP during training: the option ``--eval``."""

from __future__ import annotations

import sys

from ssn_feat.annotations import read_annotations
from ssn_feat.annotations.joining import check_times, times_of_dataset
from ssn_feat.annotations.matching import match_dataset
from ssn_feat.detection.postprocess import PostprocessOptions, postprocess
from ssn_feat.detection.scoring import score_store
from ssn_feat.errors import UserError
from ssn_feat.evaluation.measure import evaluate_detections
from ssn_feat.proposals import Proposals
from ssn_feat.runs.checkpoints import Run
from ssn_feat.sampling.feature_table import intersect_ids
from ssn_feat.store import open_store
from ssn_feat.store.times import times_of_store
from ssn_feat.training.fit_options import FitOptions
from ssn_feat.training.loop import Measure


def validation_measure(options: FitOptions) -> Measure:
    """A function that gives ``{"mAP": value}`` of a run on the videos of the subset ``options.eval``.

    Detections are made and measured with the defaults of ``train/detect.py store`` and ``bench/detections.py``; only
    videos with instances count. Every measurement reads the features of these videos again, to save memory. Raises
    UserError where the store or the proposals lack a video (unless ``options.missing`` is ``skip``), and where no video
    has an instance.
    """
    store = open_store(options.store)
    path = options.eval_proposals or options.proposals
    if path is None:
        raise UserError("--eval measures detections from proposals: add --proposals FILE (train/propose.py makes one)")
    proposals = Proposals.load(path)
    annotations = read_annotations(options.annotations)
    annotations = match_dataset(annotations, store.ids, f"the store {store.path}", quiet=True)
    dataset = annotations.subset(options.eval or "")
    ids = tuple(video.id for video in dataset.videos.values() if video.instances)
    if not ids:
        raise UserError(f"none of the {len(dataset.videos)} {options.eval} videos to measure on has an instance")
    proposals = proposals.matched(dataset.videos, "the annotations", options.quiet)
    for present, what in ((store.ids, f"the store {store.path}"), (proposals.ids, f"the file of proposals {path}")):
        ids = intersect_ids(ids, present, options.missing, what, options.eval, options.quiet)
    trained = set(annotations.subset(options.subset).videos) & set(ids)
    if trained and not options.quiet:
        print(
            f"note: {len(trained)} of {len(ids)} videos to measure on are training videos of this run", file=sys.stderr
        )
    dataset, stored = dataset.only(ids), times_of_store(store, ids)
    for times in (times_of_dataset(dataset, options.annotations), proposals.times):
        check_times(times, stored, options, options.quiet)
    intervals = {video: proposals.intervals[video] for video in ids}

    def measure(run: Run) -> dict[str, float]:
        detections = postprocess(score_store(store, intervals, [run])[0], PostprocessOptions())
        return {"mAP": evaluate_detections(detections, dataset, options.eval_tiou).average}

    return measure


__all__ = ["validation_measure"]
