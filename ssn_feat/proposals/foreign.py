"""Proposals as other programs write them: ActivityNet proposal JSON, and plain lists of frames."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ssn_feat.errors import UserError
from ssn_feat.proposals.collection import Proposals


def read_proposal_json(path: Path) -> Proposals:
    """The ActivityNet proposal format: ``{"results": {id: [{"score": s, "segment": [start, end]}, ...]}}``, seconds.

    Other keys are ignored (a detection file is read as proposals of all its classes). Raises UserError naming the file
    and the entry that is at fault.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"cannot read proposals from {path}: {error.strerror}") from None
    except ValueError as error:
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
    except (TypeError, KeyError, ValueError):
        raise UserError(f"{where}: expected {{'score': s, 'segment': [start, end]}}, not {str(entry)[:60]}") from None


def read_frame_list(path: Path, fps: Mapping[str, float]) -> Proposals:
    """Lines of ``video start_frame end_frame`` or ``video start_frame end_frame score``, as TURN and CTAP use them.

    ``fps``: frames per second by video id. Without scores the order in a video is the rank. Raises UserError naming
    the file and the line that is at fault, and where the rate of a video is missing.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"cannot read proposals from {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a list of proposals: byte {error.start} is not UTF-8 text") from None
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) not in (3, 4) or not all(map(_is_number, fields[1:])):
            raise UserError(f"{path}, line {number}: expected 'video start_frame end_frame [score]', not {line[:60]!r}")
        id, start, end, *score = fields
        if id not in fps or not fps[id] > 0:
            raise UserError(f"{path}, line {number}: the frames per second of video {id!r} are not known")
        own = rows.setdefault(id, [])
        own.append((float(start) / fps[id], float(end) / fps[id], float(score[0]) if score else -float(len(own))))
    return _collection(path, rows, "frames", "score or order")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _collection(path: Path, rows: Mapping[str, list[tuple[float, float, float]]], method: str, score: str) -> Proposals:
    tables = {id: np.array(own, dtype=np.float64).reshape(-1, 3) for id, own in rows.items()}
    intervals, scores = {id: t[:, :2] for id, t in tables.items()}, {id: t[:, 2] for id, t in tables.items()}
    try:
        return Proposals(intervals, scores, method, {"file": str(path)}, score=score)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


__all__ = ["read_frame_list", "read_proposal_json"]
