"""What is wrong with a file of annotations, each fault by its line or key; and a mended copy of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tyro

from ssn_feat.annotations.activitynet import write_activitynet
from ssn_feat.annotations.csv_tables import write_csv
from ssn_feat.annotations.dataset import Dataset, Instance, Video, subset_name
from ssn_feat.annotations.dialects import load_records
from ssn_feat.annotations.records import InstanceRecord, Problem, Records, VideoRecord, faults
from ssn_feat.errors import UserError
from ssn_feat.terminal import printable

_SHOWN = 10  # faults of one kind that are shown unless all are asked for
_NOTES = frozenset({"no instances"})  # no faults, but good to know


def problems(records: Records) -> list[Problem]:
    """Everything that is wrong or odd: first what ``load`` refuses, then what it puts up with."""
    return [*faults(records), *_beyond_the_end(records), *_useless(records), *_look_alikes(records), *_bare(records)]


def _durations(records: Records) -> dict[str, float]:
    return {v.id: v.duration for v in records.videos if v.duration is not None and v.duration > 0}


def _beyond_the_end(records: Records) -> Iterator[Problem]:
    durations = _durations(records)
    for i in records.instances:
        duration = durations.get(i.video, float("inf"))
        if max(i.start, i.end) > duration:
            what = "starts" if min(i.start, i.end) >= duration else "ends"
            text = f"{_text(i)} {what} after the end of the video ({duration:g} s)"
            yield Problem(f"{what} past the end", i.where, text)


def _useless(records: Records) -> Iterator[Problem]:
    """Instances of no length, and those that are there already."""
    first: dict[tuple[str, str, float, float], str] = {}
    for i in records.instances:
        if i.start == i.end:
            yield Problem("no length", i.where, f"{_text(i)} has no length: no detection can match it")
        key = (i.video, i.label, i.start, i.end)
        if key in first:
            yield Problem("duplicate", i.where, f"{_text(i)} is there already: {first[key]}")
        first.setdefault(key, i.where)


def _look_alikes(records: Records) -> Iterator[Problem]:
    """Ids that are one file on a case-insensitive file system, and labels that look like one label typed twice."""
    ids: dict[str, VideoRecord] = {}
    for v in records.videos:
        other = ids.setdefault(v.id.casefold(), v)
        if other.id != v.id:
            text = f"video {v.id!r} and {other.id!r} ({other.where}) are one name on a case-insensitive file system"
            yield Problem("ids differ by case", v.where, text)
    labels: dict[str, InstanceRecord] = {}
    seen: set[str] = set()
    for i in records.instances:
        other_label = labels.setdefault("".join(i.label.casefold().split()), i)
        if other_label.label != i.label and i.label not in seen:
            text = f"the class {i.label!r} looks like {other_label.label!r} ({other_label.where})"
            yield Problem("similar labels", i.where, text)
        seen.add(i.label)


def _bare(records: Records) -> Iterator[Problem]:
    annotated = {i.video for i in records.instances}
    for v in records.videos:
        if v.id not in annotated:
            yield Problem("no instances", v.where, f"video {v.id!r} ({subset_name(v.subset)}) has no instances")


def _text(i: InstanceRecord) -> str:
    return f"{i.label!r} [{i.start:g}, {i.end:g}] of {i.video!r}"


# --- mending


def _mended_instance(i: InstanceRecord, duration: float) -> tuple[Instance | None, str]:
    """The instance as it can be used, or None; and what was done to it (nothing: an empty text)."""
    start, end = sorted((i.start, i.end))
    changes = ["turned round"] if i.end < i.start else []
    if start < 0 or end > duration:
        start, end = max(start, 0.0), min(end, duration)
        changes.append(f"cut to [{start:g}, {end:g}]")
    if start >= end:
        return None, "taken out: nothing of it lies within the video" if changes else "taken out: it has no length"
    return Instance(i.label, start, end), " and ".join(changes)


def mended(records: Records) -> tuple[Dataset, list[str]]:
    """The data set as far as it can be saved, and what was changed, a line each.

    Taken out are what cannot be read, videos that come again or have no duration, instances of no length, outside of
    their video, of videos that are not there, or that come again. Instances are turned round and cut to their video
    where that mends them. Classes that the file does not list are added to its list.
    """
    changes = [f"{p.where}: left out as far as it cannot be read: {p.what}" for p in records.unreadable]
    durations: dict[str, float] = {}
    videos: dict[str, VideoRecord] = {}
    for v in records.videos:
        if v.id in videos or v.duration is None or not v.duration > 0:
            changes.append(
                f"{v.where}: video {v.id!r} taken out: {'it comes again' if v.id in videos else 'no duration'}"
            )
        else:
            videos[v.id], durations[v.id] = v, v.duration
    instances: dict[str, dict[Instance, None]] = {video: {} for video in videos}
    for i in records.instances:
        if i.video not in videos:
            changes.append(f"{i.where}: {_text(i)} taken out: its video is not there")
            continue
        instance, change = _mended_instance(i, durations[i.video])
        if instance is not None and instance in instances[i.video]:
            instance, change = None, "taken out: it is there already"
        if change:
            changes.append(f"{i.where}: {_text(i)} {change}")
        if instance is not None:
            instances[i.video][instance] = None
    found = {i.label for of_video in instances.values() for i in of_video}
    changes += [f"the class {label!r} added to the list" for label in sorted(found - set(records.labels or found))]
    dataset = Dataset.of(
        records.name,
        [
            Video(v.id, durations[v.id], subset_name(v.subset), tuple(instances[v.id]), v.fps, v.frames)
            for v in videos.values()
        ],
        found | set(records.labels or ()),
    )
    return dataset, [" ".join(change.splitlines()) for change in changes]


# --- the command


@dataclass(frozen=True)
class ValidateOptions:
    """Which annotations to look at, and where a mended copy goes."""

    annotations: tyro.conf.Positional[str]
    """a file, or DIALECT:PATH as everywhere"""
    fix: Path | None = None
    """write a mended copy here (ActivityNet JSON, or a table where the name ends in .csv) and list the changes"""
    all: bool = False
    """show every fault, not only the first ten of each kind"""


def _report(records: Records, found: list[Problem], every: bool) -> None:
    kinds = list(dict.fromkeys(p.kind for p in found))
    for kind in kinds:
        of_kind = [p for p in found if p.kind == kind]
        print(f"{kind}: {len(of_kind)}{' (not a fault)' if kind in _NOTES else ''}")
        for p in of_kind if every else of_kind[:_SHOWN]:
            print(f"  {printable(str(p))}")
        if len(of_kind) > _SHOWN and not every:
            print(f"  ... and {len(of_kind) - _SHOWN} more (--all shows them)")
    wrong = sum(p.kind not in _NOTES for p in found)
    print(
        f"{records.source}: {len(records.videos)} videos, {len(records.instances)} instances, "
        f"{len(records.labels or {i.label for i in records.instances})} classes, {wrong or 'no'} faults"
    )


def validate(options: ValidateOptions) -> int:
    """Say what is wrong with annotations, by line or key; exit with 1 where something is."""
    records = load_records(options.annotations)
    found = problems(records)
    _report(records, found, options.all)
    if options.fix is not None:
        if options.fix.exists() and options.fix.resolve() == records.source.resolve():
            raise UserError(f"--fix {options.fix} is the file itself: choose another name for the mended copy")
        dataset, changes = mended(records)
        (write_csv if options.fix.suffix.lower() == ".csv" else write_activitynet)(dataset, options.fix)
        print(f"{options.fix}: written with {len(changes)} changes")
        for change in changes:
            print(f"  {printable(str(change))}")
    return int(any(p.kind not in _NOTES for p in found))
