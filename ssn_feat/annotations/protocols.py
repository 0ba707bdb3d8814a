"""Evaluation protocols by name: which videos and instances count, and how many of them are available.

Published numbers for THUMOS14 were measured on 210, 211, 212 or 213 videos, which changes mAP by more than a point, and
available parts of ActivityNet differ. Therefore each protocol lists what it excludes, and its line should be printed
beside every number.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ssn_feat.annotations.dataset import Dataset, Video, subset_name
from ssn_feat.errors import UserError
from ssn_feat.terminal import counted

_FROM_HALF = tuple(round(0.05 * n, 2) for n in range(10, 20))
_TENTHS = tuple(round(0.1 * n, 1) for n in range(1, 10))


@dataclass(frozen=True)
class Protocol:
    """The videos and instances that count. :meth:`apply` selects them, :meth:`line` describes them."""

    name: str
    """name to print beside a number"""
    subset: str
    """the subset that is evaluated"""
    thresholds: tuple[float, ...] = _FROM_HALF
    """the usual tIoU thresholds"""
    without_videos: frozenset[str] = frozenset()
    """excluded videos"""
    without_instances: frozenset[tuple[str, str]] = frozenset()
    """(video, label) of excluded instances"""
    reachable_only: bool = False
    """exclude instances that start after the end of their video"""
    all_videos: bool = False
    """include videos without instances, in which every detection is wrong"""
    published: tuple[int, int] | None = None
    """numbers of videos with instances, and of instances, in the complete data set"""

    def apply(self, dataset: Dataset) -> Dataset:
        """The part of ``dataset`` that counts, in its order, with all its labels. Raises UserError if it is empty."""
        kept = [self._select_instances(video) for video in dataset.subset(self.subset).videos.values()]
        videos = {v.id: v for v in kept if v.id not in self.without_videos and (self.all_videos or v.instances)}
        if not videos:
            raise UserError(f"protocol {self.name} excludes every video of data set {dataset.name!r}")
        return Dataset(dataset.name, videos, dataset.labels)

    def _select_instances(self, video: Video) -> Video:
        instances = tuple(
            i
            for i in video.instances
            if (video.id, i.label) not in self.without_instances
            and not (self.reachable_only and i.start > video.duration)
        )
        return video if len(instances) == len(video.instances) else replace(video, instances=instances)

    def line(self, dataset: Dataset) -> str:
        """One line to print beside a number measured on ``dataset``: what counts and what is excluded."""
        kept = self.apply(dataset)
        videos, instances = _size(kept)
        size = f"{counted(videos, 'video')} with truth, {counted(instances, 'instance')}"
        parts = [f"{self.name}: {size}, subset {self.subset}"]
        if self.all_videos:
            parts.append(f"{counted(len(kept.videos) - videos, 'video')} without truth also counted")
        if self.published is not None and (videos, instances) != self.published:
            parts.append(f"NOT the whole data set, which has {self.published[0]} and {self.published[1]}")
        if self.without_videos:
            parts.append(f"without {', '.join(sorted(self.without_videos))}")
        if self.without_instances:
            pairs = ", ".join(f"{label} of {video}" for video, label in sorted(self.without_instances))
            parts.append(f"without {pairs}")
        if self.reachable_only:
            parts.append("without instances that start after the end of their video")
        return "; ".join(parts)


def _size(dataset: Dataset) -> tuple[int, int]:
    """Numbers of videos with instances and of instances."""
    counts = [len(v.instances) for v in dataset.videos.values()]
    return sum(n > 0 for n in counts), sum(counts)


# The avoid lists of SSN: unreliable annotations.
_SSN_TEST_AVOIDS = frozenset(
    (f"video_test_{number:07d}", label)
    for label, numbers in {
        "CleanAndJerk": (1164, 1468),
        "CricketBowling": (622, 798, 1194, 1358),
        "CricketShot": (392, 549, 569, 786, 1313, 1496),
        "HammerThrow": (270,),
        "HighJump": (367,),
    }.items()
    for number in numbers
)

_PROTOCOLS = (
    Protocol("thumos14", "testing", _TENTHS, published=(212, 3358)),
    # 0000270 has 22 of its 29 instances after its end; 0001292 has only ambiguous ones.
    Protocol(
        "thumos14-211",
        "testing",
        _TENTHS,
        without_videos=frozenset({"video_test_0000270", "video_test_0001292"}),
        published=(211, 3329),
    ),
    Protocol(
        "thumos14-ssn-210",
        "testing",
        _TENTHS,
        without_instances=_SSN_TEST_AVOIDS,
        reachable_only=True,
        published=(210, 3234),
    ),
    Protocol("activitynet1.2", "validation", published=(2383, 3582)),
    Protocol("activitynet1.3", "validation", published=(4926, 7654)),
)
_ALL = "/all"


def protocol(name: str) -> Protocol:
    """The protocol of a name: ``thumos14`` (212 videos), ``thumos14-211`` (as OpenTAD), ``thumos14-ssn-210`` (as SSN),
    ``activitynet1.2``, ``activitynet1.3`` (both on their validation subset).

    Only videos with instances count; with ``/all`` after the name, all videos count. The name of a subset
    (``testing``, ``validation/all``) is a protocol that excludes nothing from it.

    Raises UserError for other names.
    """
    base = name.removesuffix(_ALL)
    by_name = {p.name: p for p in _PROTOCOLS}
    by_name |= {subset: Protocol(subset, subset) for subset in ("training", "validation", "testing")}
    chosen = by_name.get(base) or by_name.get(subset_name(base))
    if chosen is None:
        raise UserError(f"there is no protocol {name!r}: choose one of {', '.join(by_name)}, or add {_ALL} to one")
    return chosen if base == name else replace(chosen, name=f"{chosen.name}{_ALL}", all_videos=True)


@dataclass(frozen=True)
class DatasetCoverage:
    """The part of a data set that is available, for example as features."""

    videos: int
    """videos of the data set"""
    instances: int
    """instances in all of them"""
    missing: tuple[str, ...]
    """ids of unavailable videos, in the order of the data set"""
    unreachable: int
    """number of their instances, which no detector can find"""

    def __str__(self) -> str:
        number = self.videos - len(self.missing)
        text = f"{number} of {counted(self.videos, 'video')} {'is' if number == 1 else 'are'} available"
        if self.unreachable:
            text += f"; {self.unreachable} of {self.instances} instances cannot be found because their video is missing"
        return text


def dataset_coverage(dataset: Dataset, available: Iterable[str]) -> DatasetCoverage:
    """How much of ``dataset`` is in the videos with the ``available`` ids, for example those of a feature store."""
    ids = set(available)
    missing = tuple(i for i in dataset.videos if i not in ids)
    return DatasetCoverage(
        videos=len(dataset.videos),
        instances=_size(dataset)[1],
        missing=missing,
        unreachable=sum(len(dataset.videos[i].instances) for i in missing),
    )


def separate_ambiguous(dataset: Dataset, label: str) -> Dataset:
    """The data set without the class ``label``, whose instances become ambiguous intervals."""
    if label not in dataset.label_index:
        return dataset

    def separate(video: Video) -> Video:
        marks = tuple(i for i in video.instances if i.label == label)
        instances = tuple(i for i in video.instances if i.label != label)
        return replace(video, instances=instances, ambiguous=(*video.ambiguous, *marks))

    videos = map(separate, dataset.videos.values())
    return Dataset.of(dataset.name, videos, [name for name in dataset.labels if name != label])


__all__ = ["DatasetCoverage", "Protocol", "dataset_coverage", "protocol", "separate_ambiguous"]
