"""Matches the ids of annotations with those of files, a store, proposals or results."""

from __future__ import annotations

import itertools
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ssn_feat.annotations.dataset import Dataset
from ssn_feat.files import VIDEO_ENDINGS
from ssn_feat.terminal import printable_lines

_PREFIX = "v_"
_SEPARATOR = re.compile(r"[\\/]")
# More folders in an id than this are tried only all together.
_FOLDERS = 4


@dataclass(frozen=True)
class IdMatch:
    """How ids of annotations correspond to other ids."""

    ids: dict[str, str] = field(default_factory=dict)
    """The other id of each annotated id that has one."""
    way: str = ""
    """How they correspond where they are not equal, as in ``without their ending``."""
    problem: str = ""
    """The reason why similar ids were not matched; empty if there is none."""
    turned: bool = False
    """Whether ``way`` or ``problem`` describes the other ids, which then have the longer form."""

    def line(self, what: str, whose: str = "the annotations") -> str:
        """What a user should know, in one line; empty if all ids are equal. ``what`` names the other side."""
        if not self.way:
            return self.problem and f"ids of {what if self.turned else whose} {self.problem}"
        one, other = next((one, other) for one, other in self.ids.items() if one != other)
        count = f"{len(self.ids)} video{'s' * (len(self.ids) > 1)}"
        if self.turned:
            whose, what, one, other = what, whose, other, one
        return f"ids of {whose} match those of {what} {self.way}: {one!r} is {other!r} ({count})"


class _Way(NamedTuple):
    """Changes to the ids of both sides after which they are compared."""

    blanks: bool
    unicode: bool
    folders: int
    ending: bool
    prefix: str

    @property
    def steps(self) -> int:
        return sum(bool(step) for step in self)

    def annotated(self, video_id: str) -> str:
        """An id of the annotations after the changes."""
        if self.unicode:
            video_id = unicodedata.normalize("NFC", video_id)
        if self.blanks:
            video_id = video_id.strip()
        if self.folders:
            video_id = "/".join(_SEPARATOR.split(video_id)[self.folders :]) or _SEPARATOR.split(video_id)[-1]
        if self.ending:
            video_id = _without_ending(video_id)
        return video_id.removeprefix(_PREFIX) if self.prefix == "without" else video_id

    def other(self, video_id: str) -> str:
        """An id of the other side after the changes."""
        if self.unicode:
            video_id = unicodedata.normalize("NFC", video_id)
        if self.blanks:
            video_id = video_id.strip()
        return video_id.removeprefix(_PREFIX) if self.prefix == "with" else video_id

    def __str__(self) -> str:
        folders = f"their first {self.folders} folders" if self.folders > 1 else "their folder"
        taken = [(self.folders, folders), (self.ending, "their ending"), (self.prefix == "without", "their prefix v_")]
        changes = [f"without {' and '.join(what for done, what in taken if done)}"] if any(t[0] for t in taken) else []
        changes += ["with the prefix v_"] * (self.prefix == "with") + ["without blanks around them"] * self.blanks
        changes += ["as another Unicode form of the same text"] * self.unicode
        return ", ".join(changes)


def _without_ending(video_id: str) -> str:
    lower = video_id.lower()
    ending = next((ending for ending in VIDEO_ENDINGS if lower.endswith(ending)), "")
    return video_id[: len(video_id) - len(ending)] or video_id


def match_ids(annotated: Iterable[str], others: Iterable[str]) -> IdMatch:
    """The id among ``others`` of each annotated id.

    Equal ids belong together. The remaining annotated ids may carry a folder, an ending of video files, a prefix ``v_``
    or blanks around them, or be another Unicode form; the other ids may carry ``v_``. The same changes are made to all
    of them. Of all combinations of changes, that which matches most ids is used, unless two combinations match as many
    in different ways, or a combination makes two ids equal: then only equal ids are matched. If no combination matches
    any, the same is tried with the two sides exchanged.
    """
    annotated, others = list(annotated), list(others)
    match = _match(annotated, others)
    if match.way or match.problem:
        return match
    back = _match(others, annotated)
    return replace(back, ids={one: other for other, one in back.ids.items()}, turned=True)


def _match(annotated: list[str], others: list[str]) -> IdMatch:
    """As :func:`match_ids`, without exchanging the two sides."""
    names, held = dict.fromkeys(annotated), set(others)
    equal = {name: name for name in names if name in held}
    rest, free = [name for name in names if name not in held], sorted(held - names.keys())
    if not rest or not free:
        return IdMatch(equal)
    best: dict[tuple[tuple[str, str], ...], _Way] = {}
    most, problem = 0, ""
    for way in sorted(_ways(rest, free), key=lambda way: way.steps):
        matched, clash = _matched(way, rest, free)
        problem = problem or clash
        if clash or len(matched) < max(most, 1):
            continue
        if len(matched) > most:
            most, best = len(matched), {}
        best.setdefault(tuple(matched.items()), way)
    if len(best) == 1:
        ((pairs, way),) = best.items()
        return IdMatch(equal | dict(pairs), str(way))
    if best:
        problem = f"match in several ways: {'; or '.join(map(str, best.values()))}"
    return IdMatch(equal, problem=problem)


def _ways(rest: list[str], free: list[str]) -> Iterator[_Way]:
    """All combinations of the changes that can make a difference, except to change nothing."""
    texts = [*rest, *free]
    depth = max(len(_SEPARATOR.findall(name)) for name in rest)
    folders = [*range(min(depth, _FOLDERS) + 1), *([depth] if depth > _FOLDERS else [])]
    blanks = any(text != text.strip() for text in texts)
    unicode = any(not unicodedata.is_normalized("NFC", text) for text in texts)
    ending = any(_without_ending(name.strip()) != name.strip() for name in rest)
    without, having = (any(_PREFIX in name for name in names) for names in (rest, free))
    prefixes = ["", *(["without"] if without else []), *(["with"] if having else [])]
    choices = (
        [False, True][: 1 + blanks],
        [False, True][: 1 + unicode],
        folders,
        [False, True][: 1 + ending],
        prefixes,
    )
    return (way for way in itertools.starmap(_Way, itertools.product(*choices)) if way.steps)


def _matched(way: _Way, rest: list[str], free: list[str]) -> tuple[dict[str, str], str]:
    """The ids that are equal after the changes; and two ids that are then the same, if there are any."""
    by_key: dict[str, list[str]] = {}
    for name in free:
        by_key.setdefault(way.other(name), []).append(name)
    matched: dict[str, str] = {}
    first: dict[str, str] = {}
    for name in rest:
        key = way.annotated(name)
        if key not in by_key:
            continue
        same = [first.setdefault(key, name), name] if first.get(key, name) != name else by_key[key]
        if len(same) > 1:
            return {}, f"are not matched {way}: {same[0]!r} and {same[1]!r} would be the same"
        first[key] = name
        matched[name] = by_key[key][0]
    return matched, ""


def match_dataset(dataset: Dataset, others: Iterable[str], what: str, quiet: bool = False) -> Dataset:
    """``dataset`` with the ids that its videos have in ``others``; the rest of its videos keep their ids.

    How ids are matched (see :func:`match_ids`) is printed in one line unless ``quiet``, with ``what`` as the name of
    the other side.
    """
    match = _said(match_ids(dataset.videos, others), what, quiet)
    if not match.way:
        return dataset
    videos = {match.ids.get(name, name): video for name, video in dataset.videos.items()}
    matched = Dataset(dataset.name, {name: replace(v, id=name) for name, v in videos.items()}, dataset.labels)
    object.__setattr__(matched, "source", dataset.source)
    return matched


def annotated_ids(dataset: Dataset, others: Iterable[str], what: str, quiet: bool = False) -> tuple[str, ...]:
    """``others`` with the ids that the videos have in ``dataset``, in the same order; unmatched ids are kept.

    As :func:`match_dataset`, in the other direction.
    """
    return known_ids(dataset.videos, others, "the annotations", what, quiet)


def known_ids(
    known: Iterable[str], others: Iterable[str], whose: str, what: str, quiet: bool = False
) -> tuple[str, ...]:
    """``others`` with the ids that they have in ``known``, in the same order; unmatched ids are kept.

    How ids are matched is printed in one line unless ``quiet``; ``whose`` and ``what`` name ``known`` and ``others``.
    """
    others = tuple(others)
    match = _said(match_ids(known, others), what, quiet, whose)
    back = {other: name for name, other in match.ids.items()}
    return tuple(back.get(other, other) for other in others)


def _said(match: IdMatch, what: str, quiet: bool, whose: str = "the annotations") -> IdMatch:
    if (line := match.line(what, whose)) and not quiet:
        print(printable_lines(f"note: {line}"), file=sys.stderr)
    return match


__all__ = ["IdMatch", "annotated_ids", "known_ids", "match_dataset", "match_ids"]
