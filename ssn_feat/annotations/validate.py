"""The command ``annotations validate``: lists faults of annotations by line or key, and writes a corrected copy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from ssn_feat.annotations.activitynet import write_activitynet
from ssn_feat.annotations.csv_tables import write_csv
from ssn_feat.annotations.dataset import Dataset, Instance, Video, subset_name
from ssn_feat.annotations.dialects import load_records
from ssn_feat.annotations.matching import match_ids
from ssn_feat.annotations.records import InstanceRecord, Problem, Records, VideoRecord, faults
from ssn_feat.annotations.similar import spelling
from ssn_feat.errors import UserError
from ssn_feat.terminal import printable

_SHOWN = 10  # faults of each kind that are shown without --all
_NOTES = frozenset({"no instances"})  # kinds that are not faults


def problems(records: Records) -> list[Problem]:
    """All faults and notes: first the faults that make :func:`read_annotations` raise, then the others."""
    return [
        *faults(records),
        *_past_the_end(records),
        *_unusable_instances(records),
        *_similar_names(records),
        *_in_two_subsets(records),
        *_videos_without_instances(records),
    ]


def _durations(records: Records) -> dict[str, float]:
    return {v.id: v.duration for v in records.videos if v.duration is not None and v.duration > 0}


def _past_the_end(records: Records) -> Iterator[Problem]:
    durations = _durations(records)
    for i in records.instances:
        duration = durations.get(i.video, float("inf"))
        if max(i.start, i.end) > duration:
            what = "starts" if min(i.start, i.end) >= duration else "ends"
            text = f"{_text(i)} {what} after the end of the video ({duration:g} s)"
            yield Problem(f"{what} past the end", i.where, text)


def _unusable_instances(records: Records) -> Iterator[Problem]:
    """Empty and repeated instances."""
    first: dict[tuple[str, str, float, float], str] = {}
    for i in records.instances:
        if i.start == i.end:
            yield Problem("no length", i.where, f"{_text(i)} is empty: no detection can match it")
        key = (i.video, i.label, i.start, i.end)
        if key in first:
            yield Problem("duplicate", i.where, f"{_text(i)} repeats {first[key]}")
        first.setdefault(key, i.where)


def _similar_names(records: Records) -> Iterator[Problem]:
    """Ids that differ only in case, and labels that differ only in case or white space."""
    ids: dict[str, VideoRecord] = {}
    for v in records.videos:
        other = ids.setdefault(v.id.casefold(), v)
        if other.id != v.id:
            text = (
                f"video {v.id!r} and {other.id!r} ({other.where}) are the same file on a case-insensitive file system"
            )
            yield Problem("ids differ by case", v.where, text)
    labels: dict[str, InstanceRecord] = {}
    seen: set[str] = set()
    for i in records.instances:
        other_label = labels.setdefault("".join(i.label.casefold().split()), i)
        if other_label.label != i.label and i.label not in seen:
            text = f"the class {i.label!r} resembles {other_label.label!r} ({other_label.where})"
            yield Problem("similar labels", i.where, text)
        seen.add(i.label)


def _in_two_subsets(records: Records) -> Iterator[Problem]:
    """Ids in different subsets that may be the same video, which would be trained on and evaluated."""
    first: dict[str, VideoRecord] = {}
    for v in records.videos:
        other = first.setdefault(spelling(v.id), v)
        subsets = subset_name(v.subset), subset_name(other.subset)
        if subsets[0] != subsets[1]:
            same = "is" if v.id == other.id else f"may be {other.id!r}"
            text = f"video {v.id!r} ({subsets[0]}) {same} ({subsets[1]}, {other.where})"
            yield Problem("in two subsets", v.where, text)


def _videos_without_instances(records: Records) -> Iterator[Problem]:
    annotated = {i.video for i in records.instances}
    for v in records.videos:
        if v.id not in annotated:
            yield Problem("no instances", v.where, f"video {v.id!r} ({subset_name(v.subset)}) has no instances")


def _text(i: InstanceRecord) -> str:
    return f"{i.label!r} [{i.start:g}, {i.end:g}] of {i.video!r}"


# --- correcting


def _corrected_instance(i: InstanceRecord, duration: float) -> tuple[Instance | None, str]:
    """The corrected instance, None if it must be removed, and a description of the change (empty without a change)."""
    start, end = sorted((i.start, i.end))
    changes = ["reversed"] if i.end < i.start else []
    if start < 0 or end > duration:
        start, end = max(start, 0.0), min(end, duration)
        changes.append(f"clipped to [{start:g}, {end:g}]")
    if start >= end:
        return None, "removed: outside the video" if changes else "removed: empty"
    return Instance(i.label, start, end), " and ".join(changes)


def corrected(records: Records) -> tuple[Dataset, list[str]]:
    """A corrected data set, and one line for each change.

    Removes unreadable entries, repeated videos, videos without a duration, and instances that are empty, repeated,
    outside their video or of an unknown video. Reversed instances are turned around and instances are clipped to their
    video. Classes that are missing in the file's list are added.
    """
    changes = [f"{p.where}: unreadable and removed: {p.what}" for p in records.unreadable]
    durations: dict[str, float] = {}
    videos: dict[str, VideoRecord] = {}
    for v in records.videos:
        if v.id in videos or v.duration is None or not v.duration > 0:
            changes.append(f"{v.where}: video {v.id!r} removed: {'repeated' if v.id in videos else 'no duration'}")
        else:
            videos[v.id], durations[v.id] = v, v.duration
    instances: dict[str, dict[Instance, None]] = {video: {} for video in videos}
    for i in records.instances:
        if i.video not in videos:
            changes.append(f"{i.where}: {_text(i)} removed: unknown video")
            continue
        instance, change = _corrected_instance(i, durations[i.video])
        if instance is not None and instance in instances[i.video]:
            instance, change = None, "removed: repeated"
        if change:
            changes.append(f"{i.where}: {_text(i)} {change}")
        if instance is not None:
            instances[i.video][instance] = None
    used = {i.label for of_video in instances.values() for i in of_video}
    changes += [f"class {label!r} added to the list" for label in sorted(used - set(records.labels or used))]
    dataset = Dataset.of(
        records.name,
        [
            Video(v.id, durations[v.id], subset_name(v.subset), tuple(instances[v.id]), v.fps, v.frames)
            for v in videos.values()
        ],
        used | set(records.labels or ()),
    )
    return dataset, [" ".join(change.splitlines()) for change in changes]


# --- the command


@dataclass(frozen=True)
class ValidateOptions:
    """Faults of a file of annotations."""

    annotations: tyro.conf.Positional[str]
    """the annotations, a path or DIALECT:PATH"""
    fix: Path | None = None
    """write a corrected copy to this file (ActivityNet JSON, or a table if it ends in .csv) and list the changes"""
    all: bool = False
    """show all faults instead of the first ten of each kind"""
    videos: Path | None = None
    """also compare the ids with these videos: a folder, a .txt or .csv list or a video, as for extract/run.py"""
    ids: Literal["stem", "path"] = "stem"
    """ids of these videos, as for extract/run.py"""
    frames: str = "img_{:05d}"
    """names of the frames in folders of images among these videos, as for extract/run.py"""


def _print_problems(records: Records, listed: list[Problem], every: bool) -> None:
    kinds = list(dict.fromkeys(p.kind for p in listed))
    for kind in kinds:
        of_kind = [p for p in listed if p.kind == kind]
        print(f"{kind}: {len(of_kind)}{' (not a fault)' if kind in _NOTES else ''}")
        for p in of_kind if every else of_kind[:_SHOWN]:
            print(f"  {printable(str(p))}")
        if len(of_kind) > _SHOWN and not every:
            print(f"  ... and {len(of_kind) - _SHOWN} more (--all shows them)")
    wrong = sum(p.kind not in _NOTES for p in listed)
    print(
        f"{records.source}: {len(records.videos)} videos, {len(records.instances)} instances, "
        f"{len(records.labels or {i.label for i in records.instances})} classes, {wrong or 'no'} faults"
    )


def validate(options: ValidateOptions) -> int:
    """List faults of annotations by line or key, and videos without a file. Exit code 1 if there are any."""
    records = load_records(options.annotations)
    listed = problems(records)
    _print_problems(records, listed, options.all)
    if options.fix is not None:
        if options.fix.exists() and options.fix.resolve() == records.source.resolve():
            raise UserError(f"--fix {options.fix} is the input file: choose another name for the corrected copy")
        dataset, changes = corrected(records)
        (write_csv if options.fix.suffix.lower() == ".csv" else write_activitynet)(dataset, options.fix)
        print(f"{options.fix}: written with {len(changes)} changes")
        for change in changes:
            print(f"  {printable(str(change))}")
    missing = _compare(records, options) if options.videos is not None else 0
    return int(any(p.kind not in _NOTES for p in listed) or missing > 0)


def _compare(records: Records, options: ValidateOptions) -> int:
    """Print which annotated videos have a file. Returns the number of those that have none."""
    from ssn_feat.video.find_videos import find_videos, left_out_line  # which imports torch
    from ssn_feat.video.image_folders import ImageNames

    assert options.videos is not None
    found = find_videos(options.videos, ids=options.ids, names=ImageNames(options.frames))
    names = list(dict.fromkeys(video.id for video in records.videos))
    match = match_ids(names, found.videos)
    missing = [name for name in names if name not in match.ids]
    others = sorted(found.videos.keys() - set(match.ids.values()))
    print(f"{options.videos}: {len(match.ids)} of {len(names)} annotated videos have a file")
    lines = [match.line(f"the files in {options.videos}"), left_out_line(found.left_out) if found.left_out else ""]
    for kind, ids in (("missing", missing), ("not annotated", others)):
        shown = ids if options.all else ids[:_SHOWN]
        more = f", ... and {len(ids) - _SHOWN} more (--all shows them)" if len(shown) < len(ids) else ""
        lines.append(f"{kind}: {len(ids)}: {', '.join(shown)}{more}" if ids else "")
    print("\n".join(f"  {printable(line)}" for line in lines if line))
    return len(missing)


__all__ = ["ValidateOptions", "corrected", "problems", "validate"]
