"""What a proposal is used for in training: foreground, incomplete or background (SSN paper, section 3.4).

:class:`Candidates` holds the proposals and the annotated instances of all videos in flat arrays, with the values that
decide their use; :func:`make_pools` sorts them into pools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations.dataset import Dataset
from ssn_feat.errors import UserError
from ssn_feat.heads.losses import Groups
from ssn_feat.heads.stages import inside
from ssn_feat.intervals import overlap_over, tiou
from ssn_feat.terminal import counted


@dataclass(frozen=True)
class PoolOptions:
    """Thresholds that decide what a proposal is used for. The defaults are those for THUMOS14."""

    foreground_tiou: float = 0.7
    """A proposal is foreground if its tIoU with an instance is above this."""
    incomplete_tiou: float = 0.3
    """A proposal is incomplete if its tIoU is below this and incomplete_overlap is met."""
    incomplete_overlap: float = 0.01
    """An incomplete proposal must have more than this fraction of its length inside its instance."""
    background_tiou: float = 0.01
    """A proposal that is not incomplete is background if its tIoU is below this and background_coverage is met."""
    background_coverage: float = 0.02
    """A background proposal must cover more than this fraction of the video."""
    truth_as_foreground: bool = True
    """Also use the annotated instances themselves as foreground."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, bool) and not 0 <= value <= 1:
                raise UserError(f"{field.name} must be within 0..1, not {value}")


@dataclass(frozen=True)
class Candidates:
    """Proposals and annotated instances of V videos, grouped by video: proposals first, then instances.

    ``ids``: the V videos. All other arrays have one entry per candidate: ``video`` int64, index into ``ids``;
    ``intervals`` float64 ``(N, 2)``, seconds; ``labels`` int64, class index of the matched instance, -1 for none;
    ``tiou``, ``overlap`` float64, tIoU with the matched instance, and the fraction of the candidate that is inside it;
    ``coverage`` float64, fraction of the video that the candidate covers; ``truth`` bool, whether it is an annotated
    instance; ``targets`` float64 ``(N, 2)``, see :func:`regression_targets`, 0 if there is no match.
    """

    ids: tuple[str, ...]
    video: NDArray[np.int64]
    intervals: NDArray[np.float64]
    labels: NDArray[np.int64]
    tiou: NDArray[np.float64]
    overlap: NDArray[np.float64]
    coverage: NDArray[np.float64]
    truth: NDArray[np.bool_]
    targets: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.video)

    @classmethod
    def concatenate(cls, parts: Sequence[Candidates]) -> Candidates:
        """The candidates of several sets of videos as one."""
        before = np.cumsum([0] + [len(part.ids) for part in parts])
        merged = {
            f.name: np.concatenate([getattr(part, f.name) for part in parts])
            for f in fields(cls)
            if f.name not in ("ids", "video")
        }
        video = np.concatenate([part.video + n for part, n in zip(parts, before, strict=False)])
        return cls(tuple(i for part in parts for i in part.ids), video, **merged)


def regression_targets(proposals: NDArray[np.float64], matched: NDArray[np.float64]) -> NDArray[np.float64]:
    """Regression targets of proposals (SSN paper, section 3.4): float64 ``(N, 2)``.

    ``proposals``, ``matched``: ``(N, 2)``, same unit, each proposal with its instance. Column 0 is the shift of the
    centre divided by the length of the proposal, column 1 the natural logarithm of the ratio of the lengths.
    """
    length = proposals[:, 1] - proposals[:, 0]
    shift = (matched.sum(axis=1) / 2 - proposals.sum(axis=1) / 2) / length
    return np.stack((shift, np.log((matched[:, 1] - matched[:, 0]) / length)), axis=1)


def candidates_of(
    dataset: Dataset, proposals: Mapping[str, NDArray[np.float64]], durations: Mapping[str, float]
) -> Candidates:
    """Candidates of all videos of ``dataset``, in its order.

    ``proposals``: float64 ``(N, 2)`` for each video, seconds; ``durations``: seconds for each video. Proposals and
    instances are cut to the duration; those outside are dropped. The matched instance is the first with the highest
    tIoU, of any class.
    """
    parts = []
    for video in dataset.videos.values():
        duration = durations[video.id]
        truth, classes = video.intervals(), dataset.classes(video)
        kept = inside(truth, duration)
        proposed = np.asarray(proposals[video.id], dtype=np.float64).reshape(-1, 2)
        proposed = np.clip(proposed[inside(proposed, duration)], 0.0, duration)
        truth = np.clip(truth[kept], 0.0, duration)
        parts.append(_match(video.id, duration, proposed, truth, classes[kept]))
    return Candidates.concatenate(parts)


def random_windows(
    dataset: Dataset, durations: Mapping[str, float], count: int, generator: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    """``count`` random windows in each video: float64 ``(count, 2)``, seconds.

    Each is half to twice as long as a randomly drawn instance of the data set, and at most as long as the video.
    """
    lengths = np.concatenate([np.diff(video.intervals(), axis=1)[:, 0] for video in dataset.videos.values()])
    drawn = {}
    for video in dataset.videos:
        length = generator.choice(lengths, count) * 2.0 ** generator.uniform(-1, 1, count)
        length = np.minimum(length, durations[video])
        start = generator.uniform(0, durations[video] - length)
        drawn[video] = np.stack((start, start + length), axis=1)
    return drawn


def _match(
    video: str,
    duration: float,
    proposals: NDArray[np.float64],
    truth: NDArray[np.float64],
    classes: NDArray[np.int64],
) -> Candidates:
    """Candidates of one video."""
    intervals = np.concatenate((proposals, truth))
    n, m = len(proposals), len(truth)
    best, overlap, labels = np.zeros(n), np.zeros(n), np.full(n, -1)
    targets = np.zeros((n + m, 2))
    if n and m:
        ious = tiou(proposals, truth)
        match = ious.argmax(axis=1)
        best = ious[np.arange(n), match]
        overlap = overlap_over(proposals, truth)[np.arange(n), match]
        labels = np.where(best > 0, classes[match], -1)
        targets[:n] = np.where(best[:, None] > 0, regression_targets(proposals, truth[match]), 0.0)
    return Candidates(
        ids=(video,),
        video=np.zeros(n + m, dtype=np.int64),
        intervals=intervals,
        labels=np.concatenate((labels, classes)),
        tiou=np.concatenate((best, np.ones(m))),
        overlap=np.concatenate((overlap, np.ones(m))),
        coverage=(intervals[:, 1] - intervals[:, 0]) / duration,
        truth=np.arange(n + m) >= n,
        targets=targets,
    )


@dataclass(frozen=True)
class CandidatePool:
    """Candidates with the same use.

    ``members``: int64 ``(M,)``, their indices, grouped by video; ``offsets``: int64 ``(V + 1,)``, the members in video
    v are ``members[offsets[v]:offsets[v + 1]]``.
    """

    name: str
    members: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.members)


@dataclass(frozen=True)
class CandidatePools:
    """The three pools, and mean and standard deviation of the regression targets.

    ``target_stats``: float64 ``(2, 2)``, ``[[mean shift, mean log ratio], [std shift, std log ratio]]`` over the
    foreground *proposals*, as in the original, without annotated instances, whose targets are all 0.
    """

    foreground: CandidatePool
    incomplete: CandidatePool
    background: CandidatePool
    target_stats: NDArray[np.float64]


def make_pools(candidates: Candidates, options: PoolOptions, groups: Groups | None = None) -> CandidatePools:
    """Sort candidates into pools by the rules of :class:`PoolOptions`; candidates that meet no rule are not used.

    ``groups``: number of proposals to draw from each pool (default: those of the original). Raises UserError, naming
    the responsible threshold, where such a pool is empty in all videos.
    """
    groups = groups or Groups()
    c, proposal = candidates, ~candidates.truth
    proposal_fg = proposal & (c.tiou > options.foreground_tiou)
    incomplete = proposal & (c.tiou < options.incomplete_tiou) & (c.overlap > options.incomplete_overlap)
    masks = {
        "foreground": proposal_fg | (c.truth & options.truth_as_foreground),
        "incomplete": incomplete,
        "background": proposal
        & ~incomplete
        & (c.tiou < options.background_tiou)
        & (c.coverage > options.background_coverage),
    }
    for name, mask in masks.items():
        if getattr(groups, name) and not mask.any():
            raise UserError(_why_empty(name, candidates, options))
    return CandidatePools(
        **{name: _pool(name, mask, c) for name, mask in masks.items()},
        target_stats=target_stats(c.targets[proposal_fg]),
    )


def target_stats(targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean and population standard deviation of regression targets ``(N, 2)``: float64 ``(2, 2)``.

    Without targets, the mean is 0 and the deviation 1; a deviation of 0 is replaced by 1.
    """
    if not len(targets):
        return np.array([[0.0, 0.0], [1.0, 1.0]])
    deviation = targets.std(axis=0)
    return np.stack((targets.mean(axis=0), np.where(deviation > 0, deviation, 1.0)))


def _pool(name: str, mask: NDArray[np.bool_], candidates: Candidates) -> CandidatePool:
    members = np.flatnonzero(mask)
    counts = np.bincount(candidates.video[members], minlength=len(candidates.ids))
    return CandidatePool(name, members, np.concatenate(([0], np.cumsum(counts))))


def _why_empty(name: str, c: Candidates, o: PoolOptions) -> str:
    proposal = ~c.truth
    total = int(proposal.sum())
    if not total:
        return f"no {name} proposals: none of the {counted(len(c.ids), 'video')} has any proposal"
    if name == "foreground":
        return (
            f"no foreground: the best of {total} proposals has tIoU {c.tiou[proposal].max():.3f}, foreground_tiou is "
            f"{o.foreground_tiou:g}: lower it, or use truth_as_foreground and annotated videos"
        )
    field, limit = (
        ("incomplete_tiou", o.incomplete_tiou) if name == "incomplete" else ("background_tiou", o.background_tiou)
    )
    second, needed = (
        ("incomplete_overlap", o.incomplete_overlap)
        if name == "incomplete"
        else ("background_coverage", o.background_coverage)
    )
    low = int((proposal & (c.tiou < limit)).sum())
    if not low:
        return f"no {name} proposals: none of {total} has a tIoU below {field} {limit:g}: raise it"
    return (
        f"no {name} proposals: {low} of {total} have a tIoU below {limit:g}, none exceeds {second} {needed:g}: lower it"
    )


__all__ = [
    "CandidatePool",
    "CandidatePools",
    "Candidates",
    "PoolOptions",
    "candidates_of",
    "make_pools",
    "random_windows",
    "regression_targets",
    "target_stats",
]
