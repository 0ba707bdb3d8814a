"""The inputs of a page: files and folders by kind, and logs of training."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssn_feat.cli import read_yaml
from ssn_feat.drawing.names import short_names
from ssn_feat.errors import UserError
from ssn_feat.hashes import read_checked
from ssn_feat.runs.folders import is_run, run_folders

_PROPOSALS = (".npz", ".txt")


@dataclass(frozen=True)
class PageInputs:
    """Files and folders by kind, in the given order."""

    detections: tuple[Path, ...]
    """ActivityNet result files."""
    proposals: tuple[Path, ...]
    """Files of proposals."""
    runs: tuple[Path, ...]
    """Run folders."""


def sort_inputs(paths: Iterable[Path]) -> PageInputs:
    """Sort files and folders by kind: ``.json`` holds detections; ``.npz``, ``.txt`` and folders of csv files hold
    proposals; any other folder is a run or holds runs (a sweep, a late fusion).

    Raises UserError if one is missing or is of no known kind.
    """
    detections, proposals, runs = [], [], []
    for path in paths:
        if path.is_dir() and any(path.glob("*.csv")) and not is_run(path):
            proposals.append(path)
        elif path.is_dir():
            runs.extend(_runs_in(path))
        elif not path.exists():
            raise UserError(f"there is no file or folder {path}")
        elif path.suffix == ".json":
            detections.append(path)
        elif path.suffix in _PROPOSALS:
            proposals.append(path)
        else:
            raise UserError(
                f"{path} is neither detections (.json), nor proposals ({', '.join(_PROPOSALS)}), nor a run folder"
            )
    return PageInputs(tuple(detections), tuple(proposals), tuple(runs))


def _runs_in(folder: Path) -> list[Path]:
    runs = run_folders(folder)
    if not is_run(runs[0]):
        raise UserError(f"{folder} is not a run folder and holds none (train/fit.py makes them)")
    return runs


@dataclass(frozen=True)
class TrainingLog:
    """The log of a training run."""

    name: str
    """Name of the run."""
    records: tuple[dict[str, Any], ...]
    """One logged record per epoch."""
    summary: dict[str, Any]
    """Final results; empty for an unfinished run."""
    kind: str = ""
    """Kind of the trained head, such as ``ssn`` or ``actionness``; empty if it is unknown."""

    def series(self, key: str) -> tuple[list[float], list[float]]:
        """Epochs (from 1) and values of a quantity, for the epochs in which it was logged."""
        logged = [(number, r[key]) for number, r in enumerate(self.records, start=1) if _is_number(r.get(key))]
        return [float(number) for number, _ in logged], [float(value) for _, value in logged]

    @property
    def keys(self) -> tuple[str, ...]:
        """Logged quantities, in order of appearance."""
        names = dict.fromkeys(key for record in self.records for key in record if _is_number(record[key]))
        return tuple(name for name in names if name != "epoch")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_logs(folders: Sequence[Path]) -> list[TrainingLog]:
    """The logs of run folders, with unique names. Raises UserError as :func:`read_log`."""
    return [read_log(folder, name) for folder, name in zip(folders, short_names(folders), strict=True)]


def read_log(folder: Path, name: str) -> TrainingLog:
    """The log and the summary of a run folder, without a last line that is still being written.

    Raises UserError if they cannot be read or have another content.
    """
    try:
        path = folder / "log.jsonl"
        lines = read_checked(path).decode().split("\n")[:-1] if path.is_file() else []
        records = [json.loads(line) for line in lines]
        path = folder / "summary.json"
        summary = json.loads(read_checked(path)) if path.is_file() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if not all(isinstance(part, dict) for part in (*records, summary)):
        raise UserError(f"{path} is not a log that training wrote")
    return TrainingLog(name, tuple(records), summary, _kind(folder, summary))


def _kind(folder: Path, summary: dict[str, Any]) -> str:
    """Kind of the head of a run, from its summary, or from its options while it is not finished."""
    config = folder / "config.yaml"
    kind = summary.get("head") or (read_yaml(config).get("head") if config.is_file() else None)
    return kind if isinstance(kind, str) else ""


__all__ = ["PageInputs", "TrainingLog", "read_log", "read_logs", "sort_inputs"]
