"""Whether the file of a video is still the one that its features were extracted from, without reading the file.

A video records ``source``: name, bytes, modified (seconds since 1970) and sha256 of the decoded file. The plan of a run
records where the files are, and the size and time of files that were found to have the recorded sha256 although their
time differs.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def size_and_time(path: Path | str) -> tuple[int, float]:
    """Bytes and time of the last change (seconds since 1970) of a video file, or of a folder of images.

    Of a folder: the sum of bytes, and the latest time of its files and folders. Raises OSError if the video is missing.
    """
    status = os.stat(path)
    if not stat.S_ISDIR(status.st_mode):
        return status.st_size, status.st_mtime
    # Also the times of folders: an image may be replaced by an older one.
    times = [os.stat(folder).st_mtime for folder, _, _ in os.walk(path)]
    files = [status for _, status in files_in(path)]
    return sum(each.st_size for each in files), max([status.st_mtime, *times, *(each.st_mtime for each in files)])


def files_in(folder: Path | str) -> Iterator[tuple[str, os.stat_result]]:
    """Path below the folder, with slashes, of each file in it and in its subfolders. Links to folders are skipped."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if path.is_file():
                yield path.relative_to(folder).as_posix(), path.stat()


def difference(source: Mapping[str, Any], path: Path | str, verified: Sequence[Mapping[str, Any]] = ()) -> str:
    """How size or time of a file differ from the record of a video; empty if they agree.

    ``verified``: other sizes and times with which files had the recorded sha256. Records without a time are compared by
    size, and records without a size agree. Raises OSError if the file is missing.
    """
    if not isinstance(source.get("bytes"), int):
        return ""
    size, modified = size_and_time(path)
    if size != source["bytes"]:
        return f"its file has {size:,} bytes, not {source['bytes']:,}"
    if source.get("modified", modified) == modified:
        return ""
    same = (each for each in verified if each.get("sha256") == source.get("sha256"))
    if any((each.get("bytes"), each.get("modified")) == (size, modified) for each in same):
        return ""
    return "its file was written again with the same size"


def checked_run(run: dict[str, Any]) -> dict[str, Any]:
    """The record of a run. Raises ValueError if it has no record's shape, as one of an untrusted store may."""
    videos, options, missing = run.get("videos"), run.get("options"), run.setdefault("missing", [])
    if not isinstance(videos, dict) or not isinstance(options, dict) or not isinstance(missing, list):
        raise ValueError("it is not the record of a run")
    snippets = options.get("snippets", {})
    streams = snippets.get("streams", []) if isinstance(snippets, dict) else []
    if not all(isinstance(rows, int | float) for rows in videos.values()) or not isinstance(streams, list):
        raise ValueError("it is not the record of a run")
    if not all(isinstance(name, str) for name in (*missing, *streams)):
        raise ValueError("it is not the record of a run")
    return run


class RecordedSources:
    """Where the recorded runs of a store found the files of its videos."""

    def __init__(self, runs: Sequence[Mapping[str, Any]]) -> None:
        self._places: dict[str, list[tuple[str, str]]] = {}
        self._verified: dict[str, list[Mapping[str, Any]]] = {}
        for run in runs:
            folder = str(_mapping(run.get("options")).get("videos"))
            for video_id, path in _mapping(run.get("paths")).items():
                self._places.setdefault(video_id, []).append((str(path), folder))
            for video_id, found in _mapping(run.get("verified")).items():
                self._verified.setdefault(video_id, []).append(_mapping(found))
        self._reachable: dict[str, bool] = {}

    def verified(self, video_id: str) -> Sequence[Mapping[str, Any]]:
        """Sizes and times with which files of a video had the recorded sha256; see :func:`difference`."""
        return self._verified.get(video_id, ())

    def compare(self, video_id: str, source: Mapping[str, Any]) -> tuple[str, bool]:
        """The :func:`difference` of a video, and whether its file is gone.

        A file is gone only if the recorded list or folder of videos is there. It is unchanged if one of several
        recorded files is.
        """
        differences, places = [], self._places.get(video_id, ())
        for path, _ in places:
            try:
                differences.append(difference(source, path, self.verified(video_id)))
            except (OSError, ValueError):  # missing, or a path that this system does not allow
                continue
        if not differences:
            return "", bool(places) and all(self._is_reachable(folder) for _, folder in places)
        return min(differences, key=bool), False

    def _is_reachable(self, folder: str) -> bool:
        if folder not in self._reachable:
            self._reachable[folder] = os.path.exists(folder)
        return self._reachable[folder]


def _mapping(value: Any) -> Mapping[str, Any]:
    """``value``, or an empty mapping for anything else: records of an untrusted store may hold any JSON value."""
    return value if isinstance(value, Mapping) else {}


__all__ = ["RecordedSources", "checked_run", "difference", "files_in", "size_and_time"]
