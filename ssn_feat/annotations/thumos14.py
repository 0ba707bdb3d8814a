"""THUMOS14's text folders: durations, one file per class, the ambiguous instances, and the avoid lists.

The folder contains ``{test,validation}_durations.txt`` (file name and seconds on alternating lines), files
``CLASS_test.txt`` and ``CLASS_val.txt`` at any depth (lines of ``video  start  end`` in seconds), and optionally
``{test,validation}_avoid_videos.txt`` (lines of a video and a class whose annotations in it are unreliable).

CliffDiving is a kind of Diving, so the same interval may have both labels. Both are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from ssn_feat.annotations.dataset import Dataset
from ssn_feat.annotations.records import InstanceRecord, Records, VideoRecord, number, read_text
from ssn_feat.errors import UserError

# The name of a part in the names of its lists, and the ending of its class files.
_PARTS = {"validation": "_val.txt", "test": "_test.txt"}
AMBIGUOUS = "Ambiguous"


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbers and content of the lines that are not blank."""
    for index, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            yield index, line.strip()


def _read_durations(path: Path, part: str, records: Records) -> None:
    lines = list(_lines(path))
    for (line, name), (_, seconds) in zip(lines[::2], lines[1::2], strict=False):
        duration = number(seconds)
        where = f"{path.name} line {line}"
        if duration is None:
            records.add_unreadable(where, f"{name!r} is followed by {seconds!r}, which is not a number of seconds")
        else:
            # Some copies of the lists contain full paths.
            video = name.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".mp4")
            records.videos.append(VideoRecord(where, video, duration, part))
    if len(lines) % 2:
        records.add_unreadable(f"{path.name} line {lines[-1][0]}", f"{lines[-1][1]!r} is not followed by a duration")


def _class_files(folder: Path, ending: str) -> list[Path]:
    """Class files of a part, sorted by name, since the order of a folder differs between file systems."""
    files = sorted(folder.rglob(f"*{ending}"), key=lambda path: path.name)
    for one, next_one in pairwise(files):
        if one.name == next_one.name:
            raise UserError(f"{folder} contains {one.name} twice: {one} and {next_one}")
    return files


def _read_class(path: Path, label: str, records: Records, target: list[InstanceRecord]) -> None:
    for line, text in _lines(path):
        where = f"{path.parent.name}/{path.name} line {line}"
        words = text.split()
        times = [number(word) for word in words[1:]]
        if len(times) != 2 or times[0] is None or times[1] is None:
            records.add_unreadable(where, f"{text!r:.80} is not a video, its start and its end in seconds")
        else:
            target.append(InstanceRecord(where, words[0], label, times[0], times[1]))


def _read_avoided(path: Path) -> set[tuple[str, str]]:
    avoided = set()
    for line, text in _lines(path):
        words = text.split()
        if len(words) != 2:
            raise UserError(f"{path} line {line}: {text!r:.80} is not a video and a class")
        avoided.add((words[0], words[1]))
    return avoided


def thumos14_records(folder: Path, as_ssn: bool = False) -> Records:
    """The records of a folder; see :func:`read_thumos14`."""
    records = Records(folder, "thumos14")
    avoided: set[tuple[str, str]] = set()
    parts = [part for part in _PARTS if (folder / f"{part}_durations.txt").is_file()]
    if not parts:
        raise UserError(
            f"{folder} is not a THUMOS14 folder: it has neither test_durations.txt nor validation_durations.txt"
        )
    for part in parts:
        _read_durations(folder / f"{part}_durations.txt", part, records)
        for path in _class_files(folder, _PARTS[part]):
            label = path.name.removesuffix(_PARTS[part])
            _read_class(path, label, records, records.ambiguous if label == AMBIGUOUS else records.instances)
        if as_ssn and (folder / f"{part}_avoid_videos.txt").is_file():
            avoided |= _read_avoided(folder / f"{part}_avoid_videos.txt")
    if as_ssn:
        durations = {v.id: v.duration or 0.0 for v in records.videos}
        records.instances = [
            i for i in records.instances
            if (i.video, i.label) not in avoided and i.start <= durations.get(i.video, float("inf"))
        ]  # fmt: skip
    return records


def read_thumos14(folder: Path | str, *, as_ssn: bool = False) -> Dataset:
    """Read the parts of a THUMOS14 folder (see the module's docstring) that have a list of durations.

    The data set contains every video of the lists of durations, also those without instances. ``as_ssn`` excludes
    instances as SSN does: those on the avoid lists and those that start after the end of their video (200 videos and
    2,973 instances remain of the validation part, 210 and 3,234 of the test part). Instances of which the annotators
    were unsure belong to no class; they are in ``Video.ambiguous``.

    Raises UserError, naming file and line, for unreadable content.
    """
    return thumos14_records(Path(folder), as_ssn).dataset()


__all__ = ["AMBIGUOUS", "read_thumos14", "thumos14_records"]
