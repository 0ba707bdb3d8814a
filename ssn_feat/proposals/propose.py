"""Proposals from a feature store: what ``train/propose.py`` does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations import Dataset, read_annotations
from ssn_feat.annotations.joining import JoinOptions, check_times, times_of_dataset
from ssn_feat.annotations.matching import match_dataset
from ssn_feat.annotations.similar import similar_name
from ssn_feat.cli import to_dict
from ssn_feat.errors import UserError
from ssn_feat.progress import progress_bar
from ssn_feat.proposals import (
    AnchorOptions,
    Method,
    Proposals,
    SlidingOptions,
    TagOptions,
    VideoData,
    action_probability,
    fuse_actionness,
    list_blocks,
    propose_each,
    write_ssn_list,
)
from ssn_feat.proposals.actionness import FusionName
from ssn_feat.proposals.logistic import LogisticActionness, fit_logistic
from ssn_feat.proposals.methods import dense, grouped, ranked, sliding
from ssn_feat.store import FeatureStore, open_store
from ssn_feat.store.times import times_of_store
from ssn_feat.terminal import counted

if TYPE_CHECKING:
    from ssn_feat.runs.checkpoints import Run
    from ssn_feat.store.stored_video import StoredVideo


@dataclass(frozen=True)
class ProposeOptions(JoinOptions):
    """Propose intervals that may hold an action, for the videos of a feature store."""

    store: Path
    """Feature store written by extract/run.py."""
    out: Path
    """File of proposals to write (.npz)."""
    method: Literal["tag", "sliding", "anchors"] = "tag"
    """Grouping of actionness (TAG), sliding windows, or dense anchors."""
    actionness: tuple[Path, ...] = ()
    """Run folders of actionness heads (train/fit.py head actionness); the logits of several are fused."""
    weights: tuple[float, ...] = ()
    """Weight of each of these runs; by default equal."""
    actionness_baseline: Literal["none", "logistic"] = "none"
    """logistic: instead of runs, use a logistic regression trained within seconds on the training videos of the
    annotations."""
    fusion: FusionName = "mean"
    """How several runs are fused: mean or sum of the logits aligned by time, or aligned by index as in the original."""
    annotations: str | None = None
    """Annotations of the videos: a path, or DIALECT:PATH. Needed only for --subset, --ssn-list and
    --actionness-baseline."""
    subset: str | None = None
    """Only the videos of this subset of the annotations."""
    number: int | None = None
    """Keep at most this many proposals per video, the best ones."""
    ssn_list: Path | None = None
    """Also write a normalised SSN proposal list: instances and labelled proposals of the annotated videos."""
    sliding_score: Literal["random", "contrast", "mean", "sum"] = "random"
    """How sliding windows and anchors are ranked: at random, or by actionness like groups (see --tag-score)."""
    jobs: int = 1
    """Number of processes. A video takes milliseconds, so several processes help only with thousands of videos."""
    seed: int = 0
    """Seed of the random order."""
    quiet: bool = False
    """Print nothing."""
    tag: TagOptions = field(default_factory=TagOptions)
    """How actionness is grouped."""
    sliding: SlidingOptions = field(default_factory=SlidingOptions)
    """Lengths and overlap of sliding windows."""
    anchors: AnchorOptions = field(default_factory=AnchorOptions)
    """Lengths and distances of anchors."""

    def __post_init__(self) -> None:
        logistic = self.actionness_baseline == "logistic"
        if logistic and self.actionness:
            raise UserError("--actionness-baseline replaces runs: give either it or --actionness")
        if logistic and not self.annotations:
            raise UserError("--actionness-baseline is trained on annotations: add --annotations")
        if self.method == "tag" and not self.actionness and not logistic:
            raise UserError("TAG groups actionness: name a run with --actionness (train/fit.py head actionness)")
        if self.sliding_score != "random" and not self.actionness and not logistic:
            raise UserError(f"ranking windows by {self.sliding_score} needs actionness: name a run with --actionness")
        if self.weights and len(self.weights) != len(self.actionness):
            raise UserError(f"{len(self.actionness)} runs need one weight each, but there are {len(self.weights)}")
        if (self.subset or self.ssn_list) and not self.annotations:
            raise UserError("--subset and --ssn-list need --annotations")
        if self.out.suffix != ".npz":
            raise UserError(f"--out must end in .npz, not {self.out}: files of proposals are recognised by it")
        if self.number is not None and self.number < 1:
            raise UserError(f"number must be at least 1, not {self.number}")
        if self.jobs == 0:
            raise UserError("jobs must be a number of processes, or -1 for one per core; it is 0")
        if self.seed < 0:
            raise UserError(f"seed must be at least 0, not {self.seed}")


def propose(options: ProposeOptions) -> Proposals:
    """Propose intervals that may hold an action and write them to a file, on request also as an SSN list.

    Raises UserError if the store, a run or the annotations are missing or inconsistent, if no video is in the store,
    and if there is no proposal at all.
    """
    started = time.perf_counter()
    store = open_store(options.store)
    dataset = read_annotations(options.annotations) if options.annotations else None
    if dataset is not None:
        dataset = match_dataset(dataset, store.ids, f"the store {store.path}", options.quiet)
    training_set = dataset
    if dataset is not None and options.subset:
        dataset = dataset.subset(options.subset)
    ids = _ids_to_propose(store, dataset, options)
    if training_set is not None:
        joined = ids if options.actionness_baseline == "none" else list(training_set.videos)
        annotated = times_of_dataset(training_set.only(joined), options.annotations or "")
        check_times(annotated, times_of_store(store, joined), options, options.quiet)
    proposals = _propose(store, ids, training_set, options)
    if options.number is not None:
        proposals = proposals.top(options.number)
    if not len(proposals):
        raise UserError(
            f"there is no proposal in any of the {counted(len(ids), 'video')}: lower --thresholds or --minimum-length"
        )
    proposals.save(options.out)
    blocks = [] if options.ssn_list is None or dataset is None else list_blocks(proposals, dataset)
    if options.ssn_list is not None:
        write_ssn_list(blocks, options.ssn_list, normalised=True)
    if not options.quiet:
        print(
            f"{options.out}: {len(proposals)} proposals in {len(ids)} videos, {len(proposals) / len(ids):.1f} per "
            f"video, ranked by {proposals.score}; {time.perf_counter() - started:.1f} s"
        )
        if options.ssn_list is not None:
            print(f"{options.ssn_list}: as an SSN list, with {sum(len(b.truth) for b in blocks)} instances")
    return proposals


def _ids_to_propose(store: FeatureStore, dataset: Dataset | None, options: ProposeOptions) -> list[str]:
    """Ids of the videos of the data set that are in the store; without a data set, all ids of the store."""
    stored = store.ids
    wanted = list(stored) if dataset is None else list(dataset.videos)
    ids = sorted(set(wanted) & set(stored))
    if not ids:
        hint = similar_name(wanted, stored, "the store")
        raise UserError(
            f"the store {options.store} has none of the {counted(len(wanted), 'video')} of {options.annotations}{hint}"
        )
    if len(ids) < len(wanted) and not options.quiet:
        hint = similar_name(sorted(set(wanted) - set(ids)), stored, "the store")
        print(f"coverage: {len(ids)} of {len(wanted)} videos are in the store; the others get no proposals{hint}")
    return ids


def _propose(store: FeatureStore, ids: list[str], training_set: Dataset | None, options: ProposeOptions) -> Proposals:
    sources: list[Run | LogisticActionness] = [actionness_run(path, store) for path in options.actionness]
    if options.actionness_baseline == "logistic" and training_set is not None:
        sources.append(fit_logistic(store, training_set))
    with nullcontext(None) if options.quiet else progress_bar("proposing", len(ids)) as advance:
        videos = list(read_videos(store, ids, sources, options.weights, options.fusion, advance))
    provenance = _provenance(options)
    method, score, parameters = method_of(options)
    proposals, _ = propose_each(method, videos, options.method, {**parameters, **provenance}, score, options.jobs)
    proposals = replace(proposals, parameters={**proposals.parameters, "fingerprint": store.fingerprint})
    if not sources:
        return proposals
    probability = {v.id: action_probability(v.actionness) for v in videos if v.actionness is not None}
    return replace(proposals, actionness=probability, spans={v.id: v.spans for v in videos if v.spans is not None})


def _provenance(options: ProposeOptions) -> dict[str, Any]:
    """Parameters of a file of proposals beside the options of its method."""
    provenance: dict[str, Any] = {"store": str(options.store), "number": options.number}
    if options.actionness:
        runs = [str(path) for path in options.actionness]
        provenance |= {"runs": runs, "weights": list(options.weights), "fusion": options.fusion}
    if options.actionness_baseline != "none":
        provenance["actionness_baseline"] = options.actionness_baseline
    return provenance


def method_of(options: ProposeOptions) -> tuple[Method, str, dict[str, Any]]:
    """The chosen method, the name of its score, and its parameters."""
    if options.method == "tag":
        return partial(grouped, options=options.tag), options.tag.ranked_by, to_dict(options.tag)
    method: Method
    if options.method == "sliding":
        method, parameters = partial(sliding, options=options.sliding, seed=options.seed), to_dict(options.sliding)
    else:
        method, parameters = partial(dense, options=options.anchors, seed=options.seed), to_dict(options.anchors)
    parameters["seed"] = options.seed
    if options.sliding_score == "random":
        return method, "random", parameters
    return partial(ranked, method=method, score=options.sliding_score), options.sliding_score, parameters


def actionness_run(path: Path, store: FeatureStore) -> Run:
    """Load a run of an actionness head.

    Raises UserError if the run has another head or was trained on other features than those of the store.
    """
    from ssn_feat.runs.checkpoints import load_run  # imports PyTorch, which windows and --help do not need

    run = load_run(path)
    if run.kind != "actionness":
        raise UserError(f"{path} is a run of the {run.kind} head; actionness comes from train/fit.py head actionness")
    try:
        run.require_features(store.fingerprints, f"the store {store.path}")
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return run


def read_videos(
    store: FeatureStore,
    ids: Iterable[str],
    sources: Sequence[Run | LogisticActionness],
    weights: Sequence[float] = (),
    fusion: FusionName = "mean",
    advance: Callable[..., None] | None = None,
) -> Iterator[VideoData]:
    """The data of each video of the store; with ``sources``, also their fused actionness."""
    for video, logits in read_logits(store, ids, sources):
        actionness, spans = None, video.spans
        if sources:
            actionness, spans = fuse_actionness([(each, video.spans) for each in logits], weights, fusion)
        yield VideoData(video.id, video.duration, actionness, spans)
        if advance is not None:
            advance()


def read_logits(
    store: FeatureStore, ids: Iterable[str], sources: Sequence[Run | LogisticActionness]
) -> Iterator[tuple[StoredVideo, list[NDArray[np.float32]]]]:
    """Each video of the store, and the actionness logits ``(T, 2)`` that each source computes from its features."""
    streams = sorted({stream for source in sources for stream in source.streams})
    for id in ids:
        video = store.read(id, streams)
        yield video, [_logits(source, video.features) for source in sources]


def _logits(source: Run | LogisticActionness, features: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    from ssn_feat.runs.checkpoints import actionness_scores

    return source.logits(features) if isinstance(source, LogisticActionness) else actionness_scores(source, features)


__all__ = ["ProposeOptions", "actionness_run", "method_of", "propose", "read_logits", "read_videos"]
