"""mAP while a head is trained: what ``--eval`` of ``train/fit.py`` does.

Training knows nothing of detections; it is given a function that measures a run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ssn_feat.annotations import read_annotations
from ssn_feat.detection.postprocess import PostprocessOptions, postprocess
from ssn_feat.detection.scoring import score_store
from ssn_feat.errors import UserError
from ssn_feat.evaluation.measure import evaluate_detections
from ssn_feat.proposals import Proposals
from ssn_feat.runs.checkpoints import Run
from ssn_feat.sampling.feature_table import intersect_ids
from ssn_feat.store import open_store
from ssn_feat.training.fit import fit
from ssn_feat.training.fit_options import FitOptions
from ssn_feat.training.sweep import SweepOptions, sweep


def fit_and_validate(options: FitOptions) -> dict[str, Any]:
    """Learn an SSN head or an actionness head from a feature store; the run folder OUT then holds everything of it.
    Other ways to learn have a --help of their own: --head clips, --end-to-end, and sweep as the first argument.

    As :func:`ssn_feat.training.fit.fit`, with the option ``eval``.
    """
    return fit(options, validation)


def sweep_and_validate(options: SweepOptions) -> None:
    """Learn a head with each combination of the values of --vary; one table at the end, all numbers in OUT/sweep.json.

    As :func:`ssn_feat.training.sweep.sweep`, with the option ``eval``.
    """
    sweep(options, fit_and_validate)


def validation(options: FitOptions) -> Callable[[Run], dict[str, float]]:
    """A function that gives ``{"mAP": value}`` of a run on the videos of ``options.eval``.

    Detections are made and measured as ``train/detect.py`` and ``bench/detections.py`` do by default; only videos with
    instances count. Every measurement reads the features of these videos again, which keeps them out of memory.
    Raises UserError where the store or the proposals lack a video (unless ``options.missing`` is ``skip``), or no
    video has an instance.
    """
    store = open_store(options.store)
    path = options.eval_proposals or options.proposals
    if path is None:
        raise UserError("--eval measures detections of proposals: add --proposals FILE (train/propose.py makes one)")
    proposals = Proposals.load(path)
    dataset = read_annotations(options.annotations).subset(options.eval or "")
    ids = tuple(video.id for video in dataset.videos.values() if video.instances)
    if not ids:
        raise UserError(f"none of the {len(dataset.videos)} {options.eval} videos to measure on has an instance")
    ids = intersect_ids(ids, store.ids, options.missing, f"the store {store.path}", options.eval, options.quiet)
    ids = intersect_ids(
        ids, proposals.ids, options.missing, f"the file of proposals {path}", options.eval, options.quiet
    )
    dataset, chosen = dataset.only(ids), {video: proposals.intervals[video] for video in ids}

    def measure(run: Run) -> dict[str, float]:
        detections = postprocess(score_store(store, chosen, [run])[0], PostprocessOptions())
        return {"mAP": evaluate_detections(detections, dataset, options.eval_tiou).average}

    return measure


__all__ = ["fit_and_validate", "sweep_and_validate", "validation"]
