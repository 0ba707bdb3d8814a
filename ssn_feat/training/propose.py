"""Proposals from a feature store: what ``train/propose.py`` does."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations import Dataset, load
from ssn_feat.cli import to_dict
from ssn_feat.errors import UserError
from ssn_feat.progress import progress_bar
from ssn_feat.proposals import (
    Proposals,
    SlidingOptions,
    TagOptions,
    action_probability,
    fuse_actionness,
    list_blocks,
    score_by_actionness,
    sliding_proposals,
    tag,
    write_ssn_list,
)
from ssn_feat.proposals.actionness import FusionName
from ssn_feat.store import FeatureStore
from ssn_feat.training.checkpoints import Run, actionness_scores, load_run


@dataclass(frozen=True)
class ProposeOptions:
    """Propose where actions may be in the videos of a feature store."""

    store: Path
    """Feature store that extract/run.py made."""
    out: Path
    """File of proposals to write (.npz)."""
    method: Literal["tag", "sliding"] = "tag"
    """Grouping of actionness, or sliding windows."""
    actionness: tuple[Path, ...] = ()
    """Run folders of actionness heads (train/fit.py --head actionness); the logits of several are fused."""
    weights: tuple[float, ...] = ()
    """Weight of each of these runs; none means equal."""
    fusion: FusionName = "mean"
    """How several runs are fused: weighted mean or sum of logits by time, or as the original does it, by position."""
    annotations: str | None = None
    """Annotations of the videos: a path, or DIALECT:PATH. Only needed for --subset and --ssn-list."""
    subset: str | None = None
    """Only the videos of this subset of the annotations."""
    number: int | None = None
    """Keep at most this many proposals of a video, the best."""
    ssn_list: Path | None = None
    """Also write a normalised SSN proposal list: truth and labelled proposals of the annotated videos."""
    sliding_score: Literal["random", "contrast", "mean", "sum"] = "random"
    """How sliding windows are ranked: in random order, or by actionness as groups are."""
    seed: int = 0
    """Decides the random order."""
    quiet: bool = False
    """Print nothing."""
    tag: TagOptions = field(default_factory=TagOptions)
    """How actionness is grouped."""
    sliding: SlidingOptions = field(default_factory=SlidingOptions)
    """Lengths and overlap of sliding windows."""

    def __post_init__(self) -> None:
        if self.method == "tag" and not self.actionness:
            raise UserError("TAG groups actionness: name a run with --actionness (train/fit.py --head actionness)")
        if self.sliding_score != "random" and not self.actionness:
            raise UserError(f"ranking windows by {self.sliding_score} needs actionness: name a run with --actionness")
        if self.weights and len(self.weights) != len(self.actionness):
            raise UserError(f"{len(self.actionness)} runs need as many weights, not {len(self.weights)}")
        if (self.subset or self.ssn_list) and not self.annotations:
            raise UserError("--subset and --ssn-list need --annotations")
        if self.number is not None and self.number < 1:
            raise UserError(f"number must be at least 1, not {self.number}")
        if self.seed < 0:
            raise UserError(f"seed must be at least 0, not {self.seed}")


def propose(options: ProposeOptions) -> Proposals:
    """Propose where actions may be; write the proposals, and an SSN list where asked.

    Raises UserError where the store, a run or the annotations are missing or do not fit together, where none of the
    videos is in the store, and where there is not a single proposal.
    """
    started = time.perf_counter()
    store = FeatureStore.open(options.store)
    dataset = load(options.annotations) if options.annotations else None
    if dataset is not None and options.subset:
        dataset = dataset.subset(options.subset)
    ids = _present(store, dataset, options)
    proposals = _propose(store, ids, options)
    if options.number is not None:
        proposals = proposals.top(options.number)
    if not len(proposals):
        raise UserError(f"no proposal in any of {len(ids)} videos: lower --thresholds or --minimum-length")
    proposals.save(options.out)
    if options.ssn_list is not None and dataset is not None:
        write_ssn_list(list_blocks(proposals, dataset), options.ssn_list, normalised=True)
    if not options.quiet:
        print(
            f"{options.out}: {len(proposals)} proposals in {len(ids)} videos, {len(proposals) / len(ids):.1f} a video, "
            f"ranked by {proposals.score}; {time.perf_counter() - started:.1f} s"
        )
    return proposals


def _present(store: FeatureStore, dataset: Dataset | None, options: ProposeOptions) -> list[str]:
    """Ids of the videos to propose for: those of the data set that the store has, or all that it has."""
    held = store.ids
    wanted = list(held) if dataset is None else list(dataset.videos)
    ids = sorted(set(wanted) & set(held))
    if not ids:
        raise UserError(f"the store {options.store} has none of the {len(wanted)} videos of {options.annotations}")
    if len(ids) < len(wanted) and not options.quiet:
        print(f"coverage: the store has {len(ids)} of {len(wanted)} videos; the others get no proposals")
    return ids


@dataclass(frozen=True)
class _Videos:
    """What is known of each video, by id; ``logits`` is empty where no run was named."""

    durations: dict[str, float]
    spans: dict[str, NDArray[np.float64]]
    logits: dict[str, NDArray[np.float32]]


def _propose(store: FeatureStore, ids: list[str], options: ProposeOptions) -> Proposals:
    videos = _read(store, ids, [_actionness_run(path, store) for path in options.actionness], options)
    proposals = _sliding(videos, options) if options.method == "sliding" else _tag(videos, options)
    parameters = {**proposals.parameters, "store": str(options.store), "fingerprint": store.fingerprint}
    if not videos.logits:
        return replace(proposals, parameters=parameters)
    runs = {"runs": [str(path) for path in options.actionness], "weights": list(options.weights)}
    return replace(
        proposals,
        parameters={**parameters, **runs, "fusion": options.fusion},
        actionness={id: action_probability(values) for id, values in videos.logits.items()},
        spans=videos.spans,
    )


def _tag(videos: _Videos, options: ProposeOptions) -> Proposals:
    found = {id: tag(logits, videos.spans[id], options.tag) for id, logits in videos.logits.items()}
    return Proposals(
        {id: intervals for id, (intervals, _) in found.items()},
        {id: scores for id, (_, scores) in found.items()},
        "tag",
        to_dict(options.tag),
        score="sum" if options.tag.original_grouping else options.tag.tag_score,
    )


def _sliding(videos: _Videos, options: ProposeOptions) -> Proposals:
    windows = sliding_proposals(videos.durations, options.sliding, options.seed)
    score = options.sliding_score
    if score == "random":
        return windows
    ranked = {
        id: score_by_actionness(rows, videos.logits[id], videos.spans[id], score)
        for id, rows in windows.intervals.items()
    }
    return replace(windows, scores=ranked, score=score)


def _actionness_run(path: Path, store: FeatureStore) -> Run:
    run = load_run(path)
    run.require_store(store.fingerprint, f"the store {store.path}")
    return run


def _read(store: FeatureStore, ids: list[str], runs: list[Run], options: ProposeOptions) -> _Videos:
    streams = sorted({stream for run in runs for stream in run.streams})
    videos = _Videos({}, {}, {})
    with nullcontext(None) if options.quiet else progress_bar("proposing", len(ids)) as advance:
        for id in ids:
            video = store.read(id, streams)
            videos.durations[id], videos.spans[id] = video.duration, video.spans
            if runs:
                sources = [(actionness_scores(run, video.features), video.spans) for run in runs]
                videos.logits[id], videos.spans[id] = fuse_actionness(sources, options.weights, options.fusion)
            if advance is not None:
                advance()
    return videos


__all__ = ["ProposeOptions", "propose"]
