"""Annotations of any dialect, given as a path or as ``DIALECT:PATH``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ssn_feat.annotations.activitynet import activitynet_records
from ssn_feat.annotations.csv_tables import csv_records
from ssn_feat.annotations.dataset import Dataset
from ssn_feat.annotations.multithumos import multithumos_records
from ssn_feat.annotations.records import Records, VideoRecord, number, read_text
from ssn_feat.annotations.ssn_list_truth import ssn_list_records
from ssn_feat.annotations.thumos14 import thumos14_records
from ssn_feat.errors import UserError
from ssn_feat.foreign_json import parse_json

_READERS: dict[str, Callable[[Path], Records]] = {
    "activitynet": activitynet_records,
    "activitynet-v": partial(activitynet_records, strip_v=True),
    "csv": csv_records,
    "multithumos": multithumos_records,
    "thumos14": thumos14_records,
    "thumos14-ssn": partial(thumos14_records, as_ssn=True),
}
_SSN_LIST = "ssn-list"
_BY_ENDING = {".json": "activitynet", ".csv": "csv"}


def load_records(spec: str | Path) -> Records:
    """The records behind ``spec``; see :func:`read_annotations`."""
    dialect, colon, rest = str(spec).partition(":")
    if colon and dialect == _SSN_LIST:
        return _ssn_list(rest)
    if colon and dialect in _READERS:
        path = Path(rest)
    else:
        path = Path(spec)
        dialect = _BY_ENDING.get(path.suffix.lower(), "")
    if not path.exists():
        raise UserError(f"there are no annotations at {path}")
    if not dialect:
        raise UserError(
            f"the dialect of {path} is unknown: write DIALECT:{path} with one of {', '.join([*_READERS, _SSN_LIST])}"
        )
    return _READERS[dialect](path)


def _ssn_list(spec: str) -> Records:
    """Records of ``LIST@DURATIONS``."""
    path, at, durations = spec.rpartition("@")
    if not at or not path or not durations:
        raise UserError(
            f"a proposal list holds no durations: write {_SSN_LIST}:{spec}@DURATIONS, where DURATIONS is a JSON object "
            "of seconds by video id, or other annotations of the videos"
        )
    seconds = _seconds(Path(durations)) if Path(durations).is_file() else None
    if seconds is None:
        videos = load_records(durations).videos
    else:
        videos = [VideoRecord(durations, id, value) for id, value in seconds.items()]
    return ssn_list_records(Path(path), videos)


def _seconds(path: Path) -> dict[str, float] | None:
    """Seconds by video id if the file is a JSON object of numbers, otherwise None."""
    try:
        content = parse_json(read_text(path), path)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or not content:
        return None
    values = {str(id): number(value) for id, value in content.items()}
    seconds = {id: value for id, value in values.items() if value is not None}
    return seconds if len(seconds) == len(values) else None


def read_annotations(spec: str | Path) -> Dataset:
    """Read annotations of any dialect.

    ``spec`` is a path (``.json``: ActivityNet's JSON and its dialects, ``.csv``: a table) or ``DIALECT:PATH``:
    ``activitynet:FILE``, ``activitynet-v:FILE`` (removes the leading ``v_`` of every id), ``csv:FILE``,
    ``multithumos:FILE``, ``thumos14:FOLDER`` (complete), ``thumos14-ssn:FOLDER`` (without the instances that SSN
    ignores), or ``ssn-list:LIST@DURATIONS`` (the instances in an SSN proposal list; DURATIONS is a JSON object of
    seconds by video id, or other annotations of the videos).

    Raises UserError if the file does not exist, its dialect is unknown, or its content is invalid (names key or line).

    ::

        truth = sf.read_annotations("thumos14:annotations/thumos14")
        truth.subset("testing").videos["video_test_0000004"].instances
    """
    dataset = load_records(spec).dataset()
    object.__setattr__(dataset, "source", str(spec))
    return dataset


__all__ = ["load_records", "read_annotations"]
