"""Which committed videos have another file now: by size and time, and by content where only the time differs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib

from ssn_feat.extraction.sources import source_sha256
from ssn_feat.progress import progress_bar
from ssn_feat.store import FeatureStore
from ssn_feat.store.sources import RecordedSources, difference, size_and_time


@dataclass(frozen=True)
class ChangedSources:
    """The result of comparing the files of committed videos with what the store records."""

    changed: dict[str, str] = field(default_factory=dict)
    """How the file differs, by id, for each video whose content has changed."""
    verified: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Bytes, modified and sha256 of files whose time differs from the record but whose content does not.
    The next run need not hash them again."""


def compare_sources(
    store: FeatureStore, videos: Mapping[str, Path], recorded: Mapping[str, Mapping[str, Any]], quiet: bool = False
) -> ChangedSources:
    """Compare the files of committed videos with the records of the store.

    ``recorded``: the attribute ``source`` of each video to compare, by id. Only files of the recorded size with another
    time are read, to compute their hash; a progress bar shows it unless ``quiet``. Missing files are left out, as are
    videos without a record.
    """
    sources = RecordedSources(store.runs())
    changed: dict[str, str] = {}
    to_hash: dict[str, Path] = {}
    for video_id, source in recorded.items():
        path = videos[video_id]
        try:
            what = difference(source, path, sources.verified(video_id))
            if what and size_and_time(path)[0] == source["bytes"]:
                to_hash[video_id] = path
            elif what:
                changed[video_id] = what
        except OSError:  # the status of the store names missing files
            continue
    verified = {}
    for video_id, found in _hashed(to_hash, quiet).items():
        if found["sha256"] == recorded[video_id].get("sha256"):
            verified[video_id] = found
        else:
            changed[video_id] = "its file has the same size but different content"
    return ChangedSources(dict(sorted(changed.items())), verified)


def _hashed(videos: Mapping[str, Path], quiet: bool) -> dict[str, dict[str, Any]]:
    """Bytes, modified and sha256 of the files that can be read, by id."""
    if not videos:
        return {}
    if not quiet:
        print("note: comparing the content of files whose time differs from the record", file=sys.stderr)
    with nullcontext(None) if quiet else progress_bar("files", len(videos)) as advance:
        # Hashing releases the GIL.
        found = joblib.Parallel(n_jobs=joblib.cpu_count(), prefer="threads", return_as="generator")(
            joblib.delayed(_source_of)(path) for path in videos.values()
        )
        sources = {}
        for video_id, source in zip(videos, found, strict=True):
            if source is not None:
                sources[video_id] = source
            if advance is not None:
                advance()
    return sources


def _source_of(path: Path) -> dict[str, Any] | None:
    try:
        size, modified = size_and_time(path)
        return {"bytes": size, "modified": modified, "sha256": source_sha256(path)}
    except OSError:
        return None


__all__ = ["ChangedSources", "compare_sources"]
