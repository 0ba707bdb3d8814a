"""Proposals of other programs: ActivityNet proposal JSON, lists of frames, folders of csv files."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ssn_feat.annotations.records import number
from ssn_feat.errors import UserError
from ssn_feat.foreign_json import parse_json
from ssn_feat.proposals.collection import Proposals

# Columns of BSN and BMN whose product ranks a proposal.
_EDGES = (("xmin", "xmax"), ("tmin", "tmax"))
_SCORES = ("xmin_score", "xmax_score", "iou_score", "clr_score", "reg_socre")


def read_proposal_json(path: Path) -> Proposals:
    """The ActivityNet proposal format: ``{"results": {id: [{"score": s, "segment": [start, end]}, ...]}}``, seconds.

    Other keys are ignored, so a file of detections is read as proposals of all its classes. Raises UserError, naming
    the file and the wrong entry.
    """
    try:
        content = parse_json(Path(path).read_bytes(), path)
    except OSError as error:
        raise UserError(f"cannot read proposals from {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict):
        raise UserError(f"{path} is not a proposal file: it has no 'results' with a list for each video")
    rows = {
        id: [_entry(entry, f"{path}, results[{id!r}][{n}]") for n, entry in enumerate(_list(entries, path, id))]
        for id, entries in results.items()
    }
    return _collection(path, rows, "json", "score")


def _list(entries: Any, path: Path, id: str) -> list[Any]:
    if not isinstance(entries, list):
        raise UserError(f"{path}, results[{id!r}]: expected a list of proposals, not {type(entries).__name__}")
    return entries


def _entry(entry: Any, where: str) -> tuple[float, float, float]:
    try:
        (start, end), score = entry["segment"], entry["score"]
        return float(start), float(end), float(score)
    except (TypeError, KeyError, ValueError, OverflowError):
        raise UserError(f"{where}: expected {{'score': s, 'segment': [start, end]}}, not {str(entry)[:60]}") from None


def read_frame_list(path: Path, fps: Mapping[str, float]) -> Proposals:
    """Lines of ``video start_frame end_frame`` or ``video start_frame end_frame score``, as TURN and CTAP write them.

    ``fps``: frames per second by video id. Without scores, the order in a video is the rank. Raises UserError, naming
    the file and the line, on a malformed line, an unknown frame rate, and if only some lines have scores.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"cannot read proposals from {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a list of proposals: byte {error.start} is not UTF-8 text") from None
    rows: dict[str, list[tuple[float, float, float]]] = {}
    scored: bool | None = None
    for line_number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) not in (3, 4) or any(number(field) is None for field in fields[1:]):
            raise UserError(
                f"{path}, line {line_number}: expected 'video start_frame end_frame [score]', not {line[:60]!r}"
            )
        id, start, end, *score = fields
        if scored not in (None, bool(score)):
            raise UserError(f"{path}, line {line_number}: {'a' if score else 'no'} score, unlike the lines before it")
        scored = bool(score)
        if id not in fps or not fps[id] > 0:
            raise UserError(f"{path}, line {line_number}: the frames per second of video {id!r} are not known")
        video_rows = rows.setdefault(id, [])
        rank = float(score[0]) if score else -float(len(video_rows))
        video_rows.append((float(start) / fps[id], float(end) / fps[id], rank))
    return _collection(path, rows, "frames", _score_of({bool(scored)}))


def read_csv_folder(path: Path, durations: Mapping[str, float]) -> Proposals:
    """A folder of one ``<video>.csv`` per video with a line of column names, as BSN and BMN write them.

    ``xmin`` and ``xmax`` (``tmin`` and ``tmax`` in files of mmaction2) are shares of the video: seconds are share *
    ``durations[id]``. An id is the name of the file, with or without a leading ``v_``; files of unknown videos are left
    out and counted in ``parameters``. The score is the column ``score``; without it, the product of the columns
    ``xmin_score``, ``xmax_score``, ``iou_score``, ``clr_score`` and ``reg_socre`` (spelled so in these files) that
    exist; without any of them, the order.

    Raises UserError, naming the file and the line, on a malformed line; also if no file is of a known video, and if two
    files are of one video.
    """
    files = sorted(Path(path).glob("*.csv"))
    rows: dict[str, list[tuple[float, float, float]]] = {}
    unknown, scored = [], set[bool]()
    for file in files:
        id = next((name for name in (file.stem, file.stem.removeprefix("v_")) if name in durations), None)
        if id is None:
            unknown.append(file.name)
        elif id in rows:
            raise UserError(f"{file} is of video {id!r}, as is another file in {path}")
        else:
            rows[id], has_score = _csv_rows(file, durations[id])
            scored.add(has_score)
    if not rows:
        known = f"none of {len(files)} files, such as {unknown[0]}, is of a known video" if files else "no .csv file"
        raise UserError(f"{path}: {known}")
    proposals = _collection(path, rows, "csv", _score_of(scored))
    return replace(proposals, parameters={**proposals.parameters, "unknown_videos": len(unknown)})


def _csv_rows(path: Path, duration: float) -> tuple[list[tuple[float, float, float]], bool]:
    """Start, end and score or rank of each row, and whether the file has scores."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            edges = next((pair for pair in _EDGES if set(pair) <= set(columns)), None)
            if edges is None:
                names = ", ".join(columns) or "none"
                raise UserError(f"{path}, line 1: expected columns xmin and xmax, or tmin and tmax, found {names}")
            factors = ["score"] if "score" in columns else [name for name in _SCORES if name in columns]
            rows: list[tuple[float, float, float]] = []
            for row in reader:
                values = [row[name] or "" for name in (*edges, *factors)]
                if any(number(value) is None for value in values):
                    raise UserError(f"{path}, line {reader.line_num}: expected numbers, not {','.join(values)[:60]!r}")
                start, end, *scores = map(float, values)
                if end < start:
                    raise UserError(
                        f"{path}, line {reader.line_num}: {edges[1]} {end:g} lies before {edges[0]} {start:g}"
                    )
                rank = math.prod(scores) if scores else -float(len(rows))
                rows.append((start * duration, end * duration, rank))
            return rows, bool(factors)
    except OSError as error:
        raise UserError(f"cannot read proposals from {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a table of proposals: {error}") from None


def _score_of(scored: set[bool]) -> str:
    """What ranks the proposals of files of which some have scores (True) or not."""
    return " or ".join(name for has, name in ((True, "score"), (False, "order")) if has in scored)


def _collection(path: Path, rows: Mapping[str, list[tuple[float, float, float]]], method: str, score: str) -> Proposals:
    tables = {id: np.array(values, dtype=np.float64).reshape(-1, 3) for id, values in rows.items()}
    intervals, scores = {id: t[:, :2] for id, t in tables.items()}, {id: t[:, 2] for id, t in tables.items()}
    try:
        return Proposals(intervals, scores, method, {"file": str(path)}, score=score)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


__all__ = ["read_csv_folder", "read_frame_list", "read_proposal_json"]
