"""ActivityNet JSON and its dialects.

Reads the official files of ActivityNet 1.2 and 1.3 (``database``, ``taxonomy``, ``version``), files with only a
``database``, the files of ActionFormer (``fps``, ``label_id``, subsets in lower case) and OpenTAD (``frame``), DETAD's
extras, and the flattened form of BSN and mmaction (``{id: {duration_second, duration_frame, annotations}}``). Ignores
other keys. Writes the official form, which every evaluation toolkit accepts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssn_feat.annotations.dataset import Dataset, Video
from ssn_feat.annotations.records import NO_SUBSET, InstanceRecord, Records, VideoRecord, number, read_text
from ssn_feat.errors import UserError
from ssn_feat.files import write_text
from ssn_feat.foreign_json import RepeatedKey, parse_json


def read_json(path: Path) -> Any:
    """Parse a JSON file; objects with a repeated key are :class:`RepeatedKey`.

    Raises UserError with file, line and column.
    """
    try:
        return parse_json(read_text(path), path, refuse_repeated=False)
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise UserError(f"{path} is not an annotation file: its JSON is nested too deeply") from None
    except ValueError as error:  # integers with thousands of digits
        raise UserError(f"{path} is not an annotation file: {error}") from None


def _leaves(taxonomy: Any) -> tuple[str, ...] | None:
    """Sorted names of the leaf nodes, which are ActivityNet's classes; None without a taxonomy of the usual form."""
    if not isinstance(taxonomy, list) or not taxonomy:
        return None
    if not all(isinstance(node, dict) and isinstance(node.get("nodeName"), str) for node in taxonomy):
        return None
    for key, parent in (("nodeId", "parentId"), ("nodeName", "parentName")):  # some files have only the names
        if any(isinstance(node.get(parent), int | str) for node in taxonomy):
            inner = {str(node.get(parent)) for node in taxonomy}
            return tuple(sorted({n["nodeName"] for n in taxonomy if str(n.get(key)) not in inner}))
    return tuple(sorted({node["nodeName"] for node in taxonomy}))


def _optional(entry: Mapping[str, Any], keys: tuple[str, ...], where: str, records: Records) -> float | None:
    """The number under the first of ``keys`` that exists, None without one."""
    for key in keys:
        if entry.get(key) is not None:
            value = number(entry[key])
            if value is None or value < 0:
                records.add_unreadable(f"{where}.{key}", f"{entry[key]!r:.60} is not a number of at least 0")
            return value
    return None


def _read_video(where: str, video_id: str, entry: Any, durations: Mapping[str, float], records: Records) -> None:
    if not isinstance(entry, dict):
        fault = f"must be an object with duration, subset and annotations, not {type(entry).__name__}"
        records.add_unreadable(where, fault)
        return
    if isinstance(entry, RepeatedKey):
        records.add_unreadable(where, f"repeats the key {entry.key!r}")
    fps = _optional(entry, ("fps",), where, records)
    frames = _optional(entry, ("frame", "duration_frame"), where, records)
    duration = _optional(entry, ("duration", "duration_second"), where, records)
    if duration is None:
        duration = durations.get(video_id)
    if duration is None and fps and frames:
        duration = frames / fps
    subset = entry.get("subset", NO_SUBSET)
    if not isinstance(subset, str):
        records.add_unreadable(f"{where}.subset", f"{subset!r} is not a name")
        subset = NO_SUBSET
    records.videos.append(VideoRecord(where, video_id, duration, subset, fps, None if frames is None else int(frames)))
    annotations = entry.get("annotations")
    if not isinstance(annotations, list):
        records.add_unreadable(f"{where}.annotations", "is missing" if annotations is None else "is not a list")
        return
    for index, annotation in enumerate(annotations):
        _read_instance(f"{where}.annotations[{index}]", video_id, annotation, records)


def _read_instance(where: str, video_id: str, annotation: Any, records: Records) -> None:
    if not isinstance(annotation, dict):
        records.add_unreadable(where, f"must be an object with label and segment, not {annotation!r:.60}")
        return
    if isinstance(annotation, RepeatedKey):
        records.add_unreadable(where, f"repeats the key {annotation.key!r}")
    label, segment = annotation.get("label"), annotation.get("segment")
    if not isinstance(label, str) or not label:
        records.add_unreadable(
            f"{where}.label", "is missing" if label is None else f"{label!r:.60} is not the name of a class"
        )
        return
    times = [number(t) for t in segment] if isinstance(segment, list) else []
    if len(times) != 2 or times[0] is None or times[1] is None:
        what = "is missing" if segment is None else f"{segment!r:.60} is not [start, end] in seconds"
        records.add_unreadable(f"{where}.segment", what)
        return
    records.instances.append(InstanceRecord(where, video_id, label, times[0], times[1]))


def activitynet_records(
    path: Path, name: str | None = None, durations: Mapping[str, float] | None = None, strip_v: bool = False
) -> Records:
    """The records of a file; see :func:`read_activitynet`. Raises UserError if it is not an annotation file."""
    document = read_json(path)
    if not isinstance(document, dict) or not document:
        raise UserError(f"{path} is not an annotation file: its top level must be an object with the key 'database'")
    if "database" in document and isinstance(document, RepeatedKey):
        raise UserError(f"{path}: the key {document.key!r} occurs twice: join its contents under one key")
    prefix, database, labels = "database", document.get("database"), _leaves(document.get("taxonomy"))
    if "database" not in document:
        if not all(isinstance(entry, dict) and "annotations" in entry for entry in document.values()):
            raise UserError(f"{path} is not an annotation file: it lacks the key 'database' (ActivityNet JSON)")
        prefix, database, labels = "", document, None
    if not isinstance(database, dict):
        raise UserError(f"{path}: database: must be an object of videos by id, not {type(database).__name__}")
    records = Records(path, name or path.stem, labels=labels)
    if isinstance(database, RepeatedKey):
        records.add_unreadable(prefix, f"repeats the video {database.key!r}")
    for key, entry in database.items():
        where = f"{prefix}.{key}" if prefix else key
        if strip_v and not key.startswith("v_"):
            records.add_unreadable(where, "does not begin with 'v_', the prefix to remove from every id")
        _read_video(where, key[2:] if strip_v else key, entry, durations or {}, records)
    return records


def read_activitynet(
    path: Path | str,
    name: str | None = None,
    *,
    durations: Mapping[str, float] | None = None,
    strip_v: bool = False,
) -> Dataset:
    """Read ActivityNet JSON or one of its dialects (see the module's docstring).

    ``name`` is the name of the data set, by default that of the file. ``durations`` gives seconds by id for files
    without durations (AFSD's ``thumos_gt.json``). ``strip_v`` removes the leading ``v_`` of every id, for files that
    hold the names of ActivityNet's video files instead of ids. Not the default, since some ids begin with ``v_``.

    Classes are the leaves of the taxonomy if the file has one, otherwise the labels that occur. A video without a
    subset is in the subset ``unnamed``. Empty instances and ends past the duration, which occur in the official files,
    are kept.

    Raises UserError, naming the file and the key, if the JSON is malformed, a video lacks its duration or annotations,
    a segment is not two numbers, is reversed or begins before 0, or a label is not in the taxonomy.
    """
    return activitynet_records(Path(path), name, durations, strip_v).dataset()


def _entry(video: Video) -> dict[str, Any]:
    entry: dict[str, Any] = {"duration": video.duration, "subset": video.subset}
    if video.fps is not None:
        entry["fps"] = video.fps
    if video.frames is not None:
        entry["frame"] = video.frames
    entry["annotations"] = [{"label": i.label, "segment": [i.start, i.end]} for i in video.instances]
    return entry


def write_activitynet(dataset: Dataset, path: Path | str) -> None:
    """Write ActivityNet JSON with one line per video. Equal data sets give equal bytes and read back equal.

    Contains the three keys that evaluation toolkits require; ``fps`` and ``frame`` are as in the files of ActionFormer
    and OpenTAD.
    """
    root = {"nodeName": "Root", "nodeId": 0, "parentName": None, "parentId": None}
    leaves = [
        {"nodeName": label, "nodeId": index, "parentName": "Root", "parentId": 0}
        for index, label in enumerate(dataset.labels, start=1)
    ]
    taxonomy = ",\n".join(json.dumps(node) for node in ([root, *leaves] if leaves else []))
    database = ",\n".join(f"{json.dumps(v.id)}: {json.dumps(_entry(v))}" for v in dataset.videos.values())
    text = (
        f'{{"version": {json.dumps(dataset.name)},\n"taxonomy": [\n{taxonomy}\n],\n"database": {{\n{database}\n}}}}\n'
    )
    write_text(Path(path), text)


__all__ = ["activitynet_records", "read_activitynet", "read_json", "write_activitynet"]
