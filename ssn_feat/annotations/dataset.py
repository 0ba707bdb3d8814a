"""Annotated videos: :class:`Instance`, :class:`Video` and :class:`Dataset`. Times are in seconds.

Every reader of an annotation dialect returns a data set, and the rest of the package uses only these classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ssn_feat.errors import UserError
from ssn_feat.terminal import printable

# Names of subsets differ between dialects ("val", "Validation", "test", "testing").
_SUBSET_ALIASES = {"train": "training", "val": "validation", "test": "testing"}


def subset_name(name: str) -> str:
    """The canonical name of a subset: lower case, ``training``, ``validation`` or ``testing`` for short forms."""
    lower = name.strip().lower()
    return _SUBSET_ALIASES.get(lower, lower)


@dataclass(frozen=True, slots=True)
class Instance:
    """One annotated action, half-open ``[start, end)`` in seconds."""

    label: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Video:
    """One video and its annotated instances.

    ``duration`` is in seconds; ``fps`` and ``frames`` are from the annotation file, None if it lacks them.
    ``ambiguous`` are intervals of which the annotators were unsure: they belong to no class, and only the definition of
    the THUMOS 2014 challenge uses them. ``duration_assumed``: the file does not state the duration, so the video is
    assumed to end with its last instance.
    """

    id: str
    duration: float
    subset: str
    instances: tuple[Instance, ...] = ()
    fps: float | None = None
    frames: int | None = None
    ambiguous: tuple[Instance, ...] = ()
    duration_assumed: bool = field(default=False, compare=False)

    def __repr__(self) -> str:
        subset = printable(self.subset) or "no subset"
        return f"Video({self.id!r}: {self.duration:.1f} s, {subset}, {len(self.instances)} instances)"

    def intervals(self) -> NDArray[np.float64]:
        """Start and end of each instance, float64 ``(N, 2)``, seconds."""
        return np.array([(i.start, i.end) for i in self.instances], dtype=np.float64).reshape(-1, 2)


@dataclass(frozen=True)
class Dataset:
    """A named collection of videos, and the names of the classes (labels) of their instances.

    ``labels`` is in alphabetical order, and the class index of a label is its position, from 0. (In activity logits,
    index 0 is the background, which is not a label.) ``source`` is the path or DIALECT:PATH that it was read
    from, None for a data set that was made or changed in memory.
    """

    name: str
    videos: dict[str, Video]
    labels: tuple[str, ...]
    source: str | None = field(default=None, init=False, compare=False)

    def __post_init__(self) -> None:
        if list(self.labels) != sorted(set(self.labels)):
            raise UserError(f"labels of data set {self.name!r} must be unique and in alphabetical order: {self.labels}")
        known = set(self.labels)
        for video in self.videos.values():
            for instance in video.instances:
                if instance.label not in known:
                    raise UserError(
                        f"video {video.id!r} of data set {self.name!r} has the unknown class {instance.label!r}; "
                        f"known are {', '.join(self.labels)}"
                    )

    @classmethod
    def of(cls, name: str, videos: Iterable[Video], labels: Iterable[str] | None = None) -> Dataset:
        """A data set of ``videos``. ``labels`` are by default those of the instances."""
        by_id: dict[str, Video] = {}
        for video in videos:
            if video.id in by_id:
                raise UserError(f"video {video.id!r} occurs twice in data set {name!r}")
            by_id[video.id] = video
        if labels is None:
            labels = {i.label for v in by_id.values() for i in v.instances}
        return cls(name, by_id, tuple(sorted(labels)))

    def __repr__(self) -> str:
        subsets = Counter(video.subset for video in self.videos.values())
        parts = ", ".join(f"{count} {printable(subset)}" for subset, count in sorted(subsets.items()) if subset)
        instances = sum(len(video.instances) for video in self.videos.values())
        return (
            f"Dataset({self.name!r}: {len(self.videos):,} videos{parts and f' ({parts})'}, "
            f"{instances:,} instances of {len(self.labels)} classes)"
        )

    @cached_property
    def label_index(self) -> dict[str, int]:
        """Class index of each label name."""
        return {label: index for index, label in enumerate(self.labels)}

    @property
    def subsets(self) -> tuple[str, ...]:
        """Names of the subsets that occur, sorted."""
        return tuple(sorted({v.subset for v in self.videos.values()}))

    def subset(self, name: str) -> Dataset:
        """The videos of one subset (short forms as in :func:`subset_name`), with all labels.

        Raises UserError if the subset has no video.
        """
        wanted = subset_name(name)
        videos = {i: v for i, v in self.videos.items() if v.subset == wanted}
        if not videos:
            raise UserError(
                f"data set {self.name!r} has no subset {name!r}; it has {', '.join(self.subsets) or 'none'}"
            )
        return Dataset(self.name, videos, self.labels)

    def only(self, ids: Iterable[str]) -> Dataset:
        """The videos with the given ids, in the order of this data set. Unknown ids are ignored."""
        wanted = set(ids)
        return Dataset(self.name, {i: v for i, v in self.videos.items() if i in wanted}, self.labels)

    def classes(self, video: Video) -> NDArray[np.int64]:
        """Class index of each instance of ``video``, int64 ``(N,)``."""
        return np.array([self.label_index[i.label] for i in video.instances], dtype=np.int64)


__all__ = ["Dataset", "Instance", "Video", "subset_name"]
