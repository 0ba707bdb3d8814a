"""MultiTHUMOS in its original form, a JSON object ``{video: {subset, duration, actions: [[class, start, end]]}}``.

Classes are numbered from 1; the file does not contain their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssn_feat.annotations.activitynet import read_json
from ssn_feat.annotations.dataset import Dataset
from ssn_feat.annotations.records import NO_SUBSET, InstanceRecord, Records, VideoRecord, number
from ssn_feat.errors import UserError
from ssn_feat.foreign_json import RepeatedKey


def _read_actions(video: str, actions: Any, names: Sequence[str] | None, records: Records) -> None:
    if not isinstance(actions, list):
        records.add_unreadable(f"{video}.actions", "is missing" if actions is None else "is not a list")
        return
    for index, action in enumerate(actions):
        where = f"{video}.actions[{index}]"
        values = [number(value) for value in action] if isinstance(action, list) else []
        if len(values) != 3 or None in values:
            records.add_unreadable(where, f"{action!r:.60} is not [class, start, end]")
            continue
        kind, start, end = (float(value) for value in values if value is not None)
        if kind != int(kind) or not 1 <= kind <= (len(names) if names else 999):
            records.add_unreadable(where, f"{action[0]!r:.60} is not the number of a class")
        else:
            label = names[int(kind) - 1] if names else f"{int(kind):03d}"
            records.instances.append(InstanceRecord(where, video, label, start, end))


def multithumos_records(path: Path, names: Sequence[str] | None = None) -> Records:
    """The records of a file; see :func:`read_multithumos`."""
    document = read_json(path)
    if not isinstance(document, dict) or not all(isinstance(v, dict) and "actions" in v for v in document.values()):
        raise UserError(f"{path} is not MultiTHUMOS: it must contain an object of videos with 'actions'")
    records = Records(path, path.stem, labels=None if names is None else tuple(sorted(names)))
    if isinstance(document, RepeatedKey):
        records.add_unreadable(document.key, "occurs twice")
    for video, entry in document.items():
        if isinstance(entry, RepeatedKey):
            records.add_unreadable(video, f"repeats the key {entry.key!r}")
        subset = entry.get("subset", NO_SUBSET)
        if not isinstance(subset, str):
            records.add_unreadable(f"{video}.subset", f"{subset!r:.60} is not a name")
            subset = NO_SUBSET
        records.videos.append(VideoRecord(video, video, number(entry.get("duration")), subset))
        _read_actions(video, entry["actions"], names, records)
    return records


def read_multithumos(path: Path | str, names: Sequence[str] | None = None) -> Dataset:
    """Read MultiTHUMOS. ``names`` are the names of classes 1, 2, ...; without them, labels are ``001``, ``002``, ...

    Raises UserError, naming file and key, for unreadable content.
    """
    return multithumos_records(Path(path), names).dataset()


__all__ = ["multithumos_records", "read_multithumos"]
