"""Annotations as a table: CSV with the columns ``video,start,end,label``, one row per instance, times in seconds.

The columns may have any order. The columns ``duration``, ``subset``, ``fps`` and ``frames`` of the video are optional,
others are ignored. A row with empty start, end and label is a video without instances.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ssn_feat.annotations.dataset import Dataset
from ssn_feat.annotations.records import NO_SUBSET, InstanceRecord, Records, VideoRecord, number, read_text
from ssn_feat.errors import UserError
from ssn_feat.files import write_text

_REQUIRED = ("video", "start", "end", "label")
_OPTIONAL = ("duration", "subset", "fps", "frames")


def _rows(path: Path, records: Records) -> list[tuple[str, dict[str, str]]]:
    """Line and cells by column of every row. Rows of another length are recorded as unreadable."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    rows: list[tuple[str, dict[str, str]]] = []
    header: list[str] = []
    line = 1
    try:
        for cells in reader:
            where, line = f"line {line}", reader.line_num + 1
            if not any(cells):
                continue
            if not header:
                header = [cell.strip().lower() for cell in cells]
                missing = [name for name in _REQUIRED if name not in header]
                if missing or len(set(header)) < len(header):
                    fault = f"lacks {', '.join(missing)}" if missing else "repeats a column"
                    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
                        fault += ": columns must be separated by commas"
                    raise UserError(f"{path} {where}: the header {','.join(cells)!r:.80} {fault}")
            elif len(cells) != len(header):
                records.add_unreadable(where, f"has {len(cells)} cells under a header of {len(header)}")
            else:
                rows.append((where, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise UserError(f"{path} line {line}: {error}") from None
    if not header:
        raise UserError(f"{path} is empty: the first line must be a header with {','.join(_REQUIRED)}")
    return rows


def _video(where: str, row: Mapping[str, str], records: Records) -> VideoRecord:
    values: dict[str, float | None] = {}
    for column in ("duration", "fps", "frames"):
        text = row.get(column, "")
        values[column] = number(text)
        if text and (values[column] is None or values[column] < 0):  # type: ignore[operator]
            records.add_unreadable(where, f"{column} {text!r:.40} is not a number of at least 0")
            values[column] = None
    frames = values["frames"]
    subset = row.get("subset") or NO_SUBSET
    return VideoRecord(
        where, row["video"], values["duration"], subset, values["fps"], None if frames is None else int(frames)
    )


def csv_records(path: Path) -> Records:
    """The records of a table; see :func:`read_csv`."""
    records = Records(path, path.stem)
    videos: dict[str, VideoRecord] = {}
    for where, row in _rows(path, records):
        video = _video(where, row, records)
        first = videos.setdefault(video.id, video)
        if replace(video, where=first.where) != first:
            records.add_unreadable(where, f"contradicts {first.where} on video {video.id!r}")
        if not (row["start"] or row["end"] or row["label"]):
            continue
        start, end = number(row["start"]), number(row["end"])
        if start is None or end is None or not row["label"]:
            what = ",".join(row[name] for name in _REQUIRED[1:])
            records.add_unreadable(where, f"{what!r:.80} is not a start and an end in seconds and a label")
        else:
            records.instances.append(InstanceRecord(where, video.id, row["label"], start, end))
    last: dict[str, float] = {}
    for i in records.instances:
        last[i.video] = max(last.get(i.video, 0.0), i.end)
    records.videos = [
        v if v.duration is not None else replace(v, duration=last.get(v.id), duration_assumed=True)
        for v in videos.values()
    ]
    return records


def read_csv(path: Path | str) -> Dataset:
    """Read a table of annotations (see the module's docstring).

    Without a duration, a video ends with its last instance. This suffices if features define the durations; otherwise
    give the column, so that the rest of each video counts too.

    Raises UserError, naming file and line, for unreadable content.
    """
    return csv_records(Path(path)).dataset()


def write_csv(dataset: Dataset, path: Path | str) -> None:
    """Write a table that reads back equal, except for the name of the data set and classes without instances."""
    text = io.StringIO()
    writer = csv.writer(text)  # with CRLF line ends (RFC 4180) it also quotes a lone CR in an id
    writer.writerow([*_REQUIRED, *_OPTIONAL])
    for v in dataset.videos.values():
        of_video = [v.duration, v.subset, v.fps, v.frames]
        rows = [[i.start, i.end, i.label] for i in v.instances] or [["", "", ""]]
        writer.writerows([v.id, *row, *of_video] for row in rows)
    write_text(Path(path), text.getvalue())


__all__ = ["csv_records", "read_csv", "write_csv"]
