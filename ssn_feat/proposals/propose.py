"""Proposals from a feature store: what ``train/propose.py`` does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations import Dataset, read_annotations
from ssn_feat.cli import to_dict
from ssn_feat.errors import UserError
from ssn_feat.heads.actionness import ActionnessHead
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
from ssn_feat.proposals.logistic import LogisticActionness, LogisticOptions, fit_logistic
from ssn_feat.proposals.methods import dense, grouped, ranked, sliding
from ssn_feat.runs.checkpoints import Run, actionness_scores, load_run
from ssn_feat.store import FeatureStore, open_store


@dataclass(frozen=True)
class ProposeOptions:
    """Propose where actions may be in the videos of a feature store."""

    store: Path
    """Feature store that extract/run.py made."""
    out: Path
    """File of proposals to write (.npz)."""
    method: Literal["tag", "sliding", "anchors"] = "tag"
    """Grouping of actionness, sliding windows, or dense anchors."""
    actionness: tuple[Path, ...] = ()
    """Run folders of actionness heads (train/fit.py head actionness); the logits of several are fused."""
    weights: tuple[float, ...] = ()
    """Weight of each of these runs; none means equal."""
    actionness_baseline: Literal["none", "logistic"] = "none"
    """logistic: instead of runs, a logistic regression that is learned in seconds from the features and the training
    videos of the annotations."""
    fusion: FusionName = "mean"
    """How several runs are fused: weighted mean or sum of logits by time, or as the original does it, by position."""
    annotations: str | None = None
    """Annotations of the videos: a path, or DIALECT:PATH. Only needed for --subset, --ssn-list and a
    baseline."""
    subset: str | None = None
    """Only the videos of this subset of the annotations."""
    number: int | None = None
    """Keep at most this many proposals of a video, the best."""
    ssn_list: Path | None = None
    """Also write a normalised SSN proposal list: truth and labelled proposals of the annotated videos."""
    sliding_score: Literal["random", "contrast", "mean", "sum"] = "random"
    """How sliding windows and anchors are ranked: in random order, or by actionness as groups are."""
    jobs: int = 1
    """Processes that propose, a video each. A video takes milliseconds: more than one pays for thousands of videos."""
    seed: int = 0
    """Decides the random order."""
    quiet: bool = False
    """Print nothing."""
    tag: TagOptions = field(default_factory=TagOptions)
    """How actionness is grouped."""
    sliding: SlidingOptions = field(default_factory=SlidingOptions)
    """Lengths and overlap of sliding windows."""
    anchors: AnchorOptions = field(default_factory=AnchorOptions)
    """Lengths and distances of anchors."""
    logistic: LogisticOptions = field(default_factory=LogisticOptions)
    """How the baseline learns."""

    def __post_init__(self) -> None:
        logistic = self.actionness_baseline == "logistic"
        if logistic and self.actionness:
            raise UserError("--actionness-baseline takes the place of runs: leave out --actionness")
        if logistic and not self.annotations:
            raise UserError("a baseline of actionness learns from annotations: add --annotations")
        if self.method == "tag" and not self.actionness and not logistic:
            raise UserError("TAG groups actionness: name a run with --actionness (train/fit.py head actionness)")
        if self.sliding_score != "random" and not self.actionness and not logistic:
            raise UserError(f"ranking windows by {self.sliding_score} needs actionness: name a run with --actionness")
        if self.weights and len(self.weights) != len(self.actionness):
            raise UserError(f"{len(self.actionness)} runs need as many weights, not {len(self.weights)}")
        if (self.subset or self.ssn_list) and not self.annotations:
            raise UserError("--subset and --ssn-list need --annotations")
        if self.out.suffix != ".npz":
            raise UserError(f"proposals are read by the ending of their name: --out must end in .npz, not {self.out}")
        if self.number is not None and self.number < 1:
            raise UserError(f"number must be at least 1, not {self.number}")
        if self.jobs == 0:
            raise UserError("jobs must be a number of processes, or -1 for one per core, not 0")
        if self.seed < 0:
            raise UserError(f"seed must be at least 0, not {self.seed}")


def propose(options: ProposeOptions) -> Proposals:
    """Propose where actions may be; write the proposals, and an SSN list where asked.

    Raises UserError where the store, a run or the annotations are missing or do not fit together, where none of the
    videos is in the store, and where there is not a single proposal.
    """
    started = time.perf_counter()
    store = open_store(options.store)
    dataset = read_annotations(options.annotations) if options.annotations else None
    learned_from = dataset
    if dataset is not None and options.subset:
        dataset = dataset.subset(options.subset)
    ids = _present(store, dataset, options)
    proposals = _propose(store, ids, learned_from, options)
    if options.number is not None:
        proposals = proposals.top(options.number)
    if not len(proposals):
        raise UserError(f"no proposal in any of {len(ids)} videos: lower --thresholds or --minimum-length")
    proposals.save(options.out)
    blocks = [] if options.ssn_list is None or dataset is None else list_blocks(proposals, dataset)
    if options.ssn_list is not None:
        write_ssn_list(blocks, options.ssn_list, normalised=True)
    if not options.quiet:
        print(
            f"{options.out}: {len(proposals)} proposals in {len(ids)} videos, {len(proposals) / len(ids):.1f} a video, "
            f"ranked by {proposals.score}; {time.perf_counter() - started:.1f} s"
        )
        if options.ssn_list is not None:
            print(f"{options.ssn_list}: the same as an SSN list, with {sum(len(b.truth) for b in blocks)} instances")
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


def _propose(store: FeatureStore, ids: list[str], learned_from: Dataset | None, options: ProposeOptions) -> Proposals:
    sources: list[Run | LogisticActionness] = [actionness_run(path, store) for path in options.actionness]
    if options.actionness_baseline == "logistic" and learned_from is not None:
        sources.append(fit_logistic(store, learned_from, options.logistic))
    with nullcontext(None) if options.quiet else progress_bar("proposing", len(ids)) as advance:
        videos = list(read_videos(store, ids, sources, options.weights, options.fusion, advance))
    made = _made_by(options)
    method, score, parameters = method_of(options)
    proposals, _ = propose_each(method, videos, options.method, {**parameters, **made}, score, options.jobs)
    proposals = replace(proposals, parameters={**proposals.parameters, "fingerprint": store.fingerprint})
    if not sources:
        return proposals
    probability = {v.id: action_probability(v.actionness) for v in videos if v.actionness is not None}
    return replace(proposals, actionness=probability, spans={v.id: v.spans for v in videos if v.spans is not None})


def _made_by(options: ProposeOptions) -> dict[str, Any]:
    """What else a file of proposals says of how it was made."""
    made: dict[str, Any] = {"store": str(options.store), "number": options.number}
    if options.actionness:
        runs = [str(path) for path in options.actionness]
        made |= {"runs": runs, "weights": list(options.weights), "fusion": options.fusion}
    if options.actionness_baseline != "none":
        made |= {"actionness_baseline": options.actionness_baseline, **to_dict(options.logistic)}
    return made


def method_of(options: ProposeOptions) -> tuple[Method, str, dict[str, Any]]:
    """The method that the options ask for, the name of its score, and its parameters."""
    if options.method == "tag":
        score = "sum" if options.tag.original_grouping else options.tag.tag_score
        return partial(grouped, options=options.tag), score, to_dict(options.tag)
    method: Method
    if options.method == "sliding":
        method, own = partial(sliding, options=options.sliding, seed=options.seed), to_dict(options.sliding)
    else:
        method, own = partial(dense, options=options.anchors, seed=options.seed), to_dict(options.anchors)
    own["seed"] = options.seed
    if options.sliding_score == "random":
        return method, "random", own
    return partial(ranked, method=method, score=options.sliding_score), options.sliding_score, own


def actionness_run(path: Path, store: FeatureStore) -> Run:
    """A run of an actionness head.

    Raises UserError where it is one of another head, or was learned from other features than the store's.
    """
    run = load_run(path)
    if not isinstance(run.head, ActionnessHead):
        raise UserError(f"{path} is a run of the ssn head; actionness comes from train/fit.py head actionness")
    try:
        run.require_store(store.fingerprint, f"the store {store.path}")
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
    """Duration and, where there are sources of actionness, what these say together of each video of the store."""
    streams = sorted({stream for source in sources for stream in source.streams})
    for id in ids:
        video = store.read(id, streams)
        actionness, spans = None, video.spans
        if sources:
            logits = [(_logits(source, video.features), video.spans) for source in sources]
            actionness, spans = fuse_actionness(logits, weights, fusion)
        yield VideoData(id, video.duration, actionness, spans)
        if advance is not None:
            advance()


def _logits(source: Run | LogisticActionness, features: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    return source.logits(features) if isinstance(source, LogisticActionness) else actionness_scores(source, features)


__all__ = ["ProposeOptions", "actionness_run", "method_of", "propose", "read_videos"]
