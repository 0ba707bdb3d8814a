"""Annotations as a table: CSV with the columns ``video,start,end,label``, one row an instance, times in seconds.

The columns may stand in any order; ``duration``, ``subset``, ``fps`` and ``frames`` of the video may stand beside
them, others are ignored. A row whose start, end and label are all empty names a video without instances.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ssn_feat.annotations.dataset import Dataset
from ssn_feat.annotations.records import NO_SUBSET, InstanceRecord, Records, VideoRecord, number, read_text, write_text
from ssn_feat.errors import UserError

_NEEDED = ("video", "start", "end", "label")
_OF_VIDEO = ("duration", "subset", "fps", "frames")


def _rows(path: Path, records: Records) -> list[tuple[str, dict[str, str]]]:
    """Place and content of every row under the names of its columns; rows of another length are complained of."""
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
                missing = [name for name in _NEEDED if name not in header]
                if missing or len(set(header)) < len(header):
                    fault = f"lacks {', '.join(missing)}" if missing else "names a column twice"
                    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
                        fault += ": columns must be separated by commas"
                    raise UserError(f"{path} {where}: the header {','.join(cells)!r:.80} {fault}")
            elif len(cells) != len(header):
                records.complain(where, f"has {len(cells)} cells under a header of {len(header)}")
            else:
                rows.append((where, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise UserError(f"{path} line {line}: {error}") from None
    if not header:
        raise UserError(f"{path} is empty: a header with {','.join(_NEEDED)} must come first")
    return rows


def _video(where: str, row: Mapping[str, str], records: Records) -> VideoRecord:
    values: dict[str, float | None] = {}
    for column in ("duration", "fps", "frames"):
        text = row.get(column, "")
        values[column] = number(text)
        if text and (values[column] is None or values[column] < 0):  # type: ignore[operator]
            records.complain(where, f"{column} {text!r:.40} is not a number from 0 on")
            values[column] = None
    frames = values["frames"]
    subset = row.get("subset") or NO_SUBSET
    return VideoRecord(
        where, row["video"], values["duration"], subset, values["fps"], None if frames is None else int(frames)
    )


def csv_records(path: Path) -> Records:
    """The records of one table; see :func:`read_csv`."""
    records = Records(path, path.stem)
    videos: dict[str, VideoRecord] = {}
    for where, row in _rows(path, records):
        video = _video(where, row, records)
        first = videos.setdefault(video.id, video)
        if replace(video, where=first.where) != first:
            records.complain(where, f"says something else of video {video.id!r} than {first.where}")
        if not (row["start"] or row["end"] or row["label"]):
            continue
        start, end = number(row["start"]), number(row["end"])
        if start is None or end is None or not row["label"]:
            what = ",".join(row[name] for name in _NEEDED[1:])
            records.complain(where, f"{what!r:.80} is not a start and an end in seconds and a label")
        else:
            records.instances.append(InstanceRecord(where, video.id, row["label"], start, end))
    last: dict[str, float] = {}
    for i in records.instances:
        last[i.video] = max(last.get(i.video, 0.0), i.end)
    records.videos = [v if v.duration is not None else replace(v, duration=last.get(v.id)) for v in videos.values()]
    return records


def read_csv(path: Path | str) -> Dataset:
    """Read a table of annotations (see the module's docstring).

    Without a duration, a video is taken to last to the end of its last instance: good enough where features say how
    long videos are, but give the column if anything is to be learned from what comes after.

    Raises UserError, naming file and line, for whatever cannot be read.
    """
    return csv_records(Path(path)).dataset()


def write_csv(dataset: Dataset, path: Path | str) -> None:
    """Write a table of annotations that reads back equal, but for the data set's name and classes without instances."""
    text = io.StringIO()
    writer = csv.writer(text)  # its line ends (CRLF, as RFC 4180 has it) make it quote a lone CR in an id too
    writer.writerow([*_NEEDED, *_OF_VIDEO])
    for v in dataset.videos.values():
        of_video = [v.duration, v.subset, v.fps, v.frames]
        rows = [[i.start, i.end, i.label] for i in v.instances] or [["", "", ""]]
        writer.writerows([v.id, *row, *of_video] for row in rows)
    write_text(Path(path), text.getvalue())
