"""Proposals of many videos with their provenance, and their file format."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations.joining import VideoTimes
from ssn_feat.annotations.matching import known_ids
from ssn_feat.errors import UserError
from ssn_feat.files import write_npz
from ssn_feat.foreign_json import require_text
from ssn_feat.intervals import as_intervals
from ssn_feat.safe_loading import load_npz

_FORMAT = "ssn_feat proposals"
_VERSION = 1

# Exceptions on reading a damaged or foreign file: of the archive, its compression, its arrays, or its header.
_MALFORMED = (RuntimeError, ValueError, TypeError, AttributeError, LookupError)


@dataclass(frozen=True)
class Proposals:
    """Proposals of several videos.

    intervals: per video id float64 ``(N, 2)``, seconds, start <= end; ``(0, 2)`` for a video without proposals.
    scores: per video id float64 ``(N,)``, higher is better; ``score`` is the name of their measure.
    method, parameters: how they were made (``parameters`` must be JSON-serialisable).
    actionness: per video id float32 ``(T,)``, probability of action of each snippet; None without actionness.
    spans: per video id float64 ``(T, 2)``, start and end of each snippet in seconds; given if ``actionness`` is.
    durations: seconds by video id; None if unknown, as in files of version 0.1 and of other programs.
    path: the file that they were saved to or loaded from; None for proposals in memory only.

    Raises UserError if ids, shapes or values are inconsistent.
    """

    intervals: dict[str, NDArray[np.float64]]
    scores: dict[str, NDArray[np.float64]]
    method: str
    parameters: dict[str, Any] = field(default_factory=dict)
    actionness: dict[str, NDArray[np.float32]] | None = None
    spans: dict[str, NDArray[np.float64]] | None = None
    score: str = "score"
    durations: dict[str, float] | None = None
    path: Path | None = field(default=None, init=False, compare=False)

    def __post_init__(self) -> None:
        require_text((), self.intervals)
        object.__setattr__(
            self, "intervals", {id: as_intervals(v, f"proposals of {id!r}") for id, v in self.intervals.items()}
        )
        object.__setattr__(self, "scores", {id: np.asarray(v, np.float64) for id, v in self.scores.items()})
        if self.intervals.keys() != self.scores.keys():
            odd = sorted(self.intervals.keys() ^ self.scores.keys())
            raise UserError(f"intervals and scores have different videos: {', '.join(map(repr, odd[:5]))}")
        for id, scores in self.scores.items():
            if scores.shape != (len(self.intervals[id]),):
                raise UserError(f"video {id!r} has {len(self.intervals[id])} proposals and scores {scores.shape}")
            if np.isnan(scores).any():
                raise UserError(f"video {id!r}: the score of proposal {int(np.isnan(scores).argmax())} is not a number")
        self._check_actionness()

    def _check_actionness(self) -> None:
        if (self.actionness is None) != (self.spans is None):
            raise UserError("actionness needs the spans of its snippets and vice versa; one of them is missing")
        if self.actionness is None or self.spans is None:
            return
        if self.actionness.keys() != self.spans.keys():
            raise UserError("actionness and spans have different videos")
        for id, values in self.actionness.items():
            if np.shape(self.spans[id]) != (*np.shape(values), 2):
                raise UserError(
                    f"video {id!r}: actionness is {np.shape(values)}, but spans are {np.shape(self.spans[id])}"
                )

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the videos in the given order, also of videos without proposals."""
        return tuple(self.intervals)

    def __repr__(self) -> str:
        return f"Proposals({len(self):,} in {len(self.ids):,} videos, method {self.method!r}, ranked by {self.score!r})"

    def __len__(self) -> int:
        """Total number of proposals."""
        return sum(map(len, self.intervals.values()))

    def only(self, ids: Iterable[str]) -> Proposals:
        """The proposals of the given videos; unknown ids are ignored."""
        wanted = set(ids)

        def pick(values: Mapping[str, Any] | None) -> Any:
            return None if values is None else {id: v for id, v in values.items() if id in wanted}

        return replace(
            self,
            intervals=pick(self.intervals),
            scores=pick(self.scores),
            actionness=pick(self.actionness),
            spans=pick(self.spans),
            durations=pick(self.durations),
        )

    def renamed(self, names: Mapping[str, str]) -> Proposals:
        """The same proposals, with the id ``names[id]`` for each video."""
        if all(id == name for id, name in names.items()):
            return self

        def rename(values: Mapping[str, Any] | None) -> Any:
            return None if values is None else {names[id]: v for id, v in values.items()}

        return replace(
            self,
            intervals=rename(self.intervals),
            scores=rename(self.scores),
            actionness=rename(self.actionness),
            spans=rename(self.spans),
            durations=rename(self.durations),
        )

    def matched(self, known: Iterable[str], whose: str, quiet: bool = False) -> Proposals:
        """The same proposals with the ids that their videos have in ``known``; other ids are kept.

        How ids are matched is printed in one line unless ``quiet``; ``whose`` names ``known``.
        """
        renamed = self.renamed(dict(zip(self.ids, known_ids(known, self.ids, whose, self.what, quiet), strict=True)))
        object.__setattr__(renamed, "path", self.path)
        return renamed

    @property
    def what(self) -> str:
        """The name of the proposals in messages."""
        return f"the proposals {self.path or self.parameters.get('file') or self.method}"

    @property
    def times(self) -> VideoTimes:
        """Intervals and durations, for comparison with a store or annotations."""
        return VideoTimes(self.what, self.durations or {}, self.intervals)

    def top(self, number: int) -> Proposals:
        """The ``number`` best proposals of each video by descending score (ties: the earlier first)."""
        best = {id: np.argsort(-scores, kind="stable")[:number] for id, scores in self.scores.items()}
        return replace(
            self,
            intervals={id: self.intervals[id][index] for id, index in best.items()},
            scores={id: self.scores[id][index] for id, index in best.items()},
        )

    def save(self, path: Path | str) -> None:
        """Write an .npz archive atomically.

        It holds ``header`` (JSON as uint8), ``offsets``, ``intervals``, ``scores`` and, if there is actionness,
        ``actionness_offsets``, ``actionness`` and ``spans``: the arrays of all videos,
        concatenated in the order of the ids.
        """
        header: dict[str, Any] = {
            "format": _FORMAT,
            "version": _VERSION,
            "method": self.method,
            "score": self.score,
            "parameters": self.parameters,
            "ids": list(self.intervals),
        }
        if self.durations is not None:
            header["durations"] = [self.durations.get(id) for id in self.intervals]
        arrays = _join("offsets", {"intervals": (self.intervals, (2,), "f8"), "scores": (self.scores, (), "f8")})
        if self.actionness is not None and self.spans is not None:
            header["actionness_ids"] = list(self.actionness)
            spans = {id: self.spans[id] for id in self.actionness}
            arrays |= _join(
                "actionness_offsets", {"actionness": (self.actionness, (), "f4"), "spans": (spans, (2,), "f8")}
            )
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
        write_npz(Path(path), arrays, compressed=True)
        object.__setattr__(self, "path", Path(path))

    @classmethod
    def load(cls, path: Path | str) -> Proposals:
        """Read a file that :meth:`save` wrote. Raises UserError, naming the file, if it is missing or malformed."""
        try:
            arrays = load_npz(Path(path))
            header = json.loads(bytes(arrays["header"]))
            if header["format"] != _FORMAT or header["version"] != _VERSION:
                raise ValueError(
                    f"it is {header['format']!r} version {header['version']!r}, not {_FORMAT!r} {_VERSION}"
                )
            intervals, scores = _split(header["ids"], arrays, "offsets", ("intervals", "scores"))
            actionness, spans = None, None
            if "actionness_ids" in header:
                names = ("actionness", "spans")
                actionness, spans = _split(header["actionness_ids"], arrays, "actionness_offsets", names)
            durations = _durations(header)
            loaded = cls(
                *(intervals, scores, header["method"], header["parameters"]),
                *(actionness, spans, header["score"], durations),
            )
        except OSError as error:
            raise UserError(f"cannot read proposals from {path}: {error.strerror or error}") from None
        except KeyError as error:
            raise UserError(f"{path} is not a file of proposals: it has no {error}") from None
        except _MALFORMED as error:
            raise UserError(f"{path} is not a file of proposals: {' '.join(str(error).split())}") from None
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        object.__setattr__(loaded, "path", Path(path))
        return loaded


def _durations(header: Mapping[str, Any]) -> dict[str, float] | None:
    """Raises ValueError if the recorded durations are not positive numbers, one for each video."""
    if "durations" not in header:
        return None
    durations = [None if value is None else float(value) for value in header["durations"]]
    if not all(value is None or 0 < value < math.inf for value in durations):
        raise ValueError("a duration is not a positive number")
    return {id: value for id, value in zip(header["ids"], durations, strict=True) if value is not None}


def _join(
    offsets: str, columns: dict[str, tuple[Mapping[str, NDArray[Any]], tuple[int, ...], str]]
) -> dict[str, NDArray[Any]]:
    """The concatenated arrays of all videos, and the offsets ``(videos + 1,)`` at which they start."""
    lengths = [len(values) for values in next(iter(columns.values()))[0].values()]
    arrays: dict[str, NDArray[Any]] = {offsets: np.cumsum([0, *lengths], dtype=np.int64)}
    for name, (values, tail, dtype) in columns.items():
        arrays[name] = np.concatenate([np.zeros((0, *tail), dtype), *(np.asarray(v, dtype) for v in values.values())])
    return arrays


def _split(
    ids: list[str], arrays: dict[str, NDArray[Any]], offsets: str, names: tuple[str, ...]
) -> list[dict[str, NDArray[Any]]]:
    """The inverse of :func:`_join`. Raises ValueError if offsets and arrays are inconsistent."""
    at = arrays[offsets]
    if at.ndim != 1 or at.dtype.kind != "i" or len(at) != len(ids) + 1 or at[0] != 0 or (np.diff(at) < 0).any():
        raise ValueError(f"{offsets} does not split the arrays among {len(ids)} videos")
    if len(set(ids)) != len(ids):
        raise ValueError("a video id occurs twice")
    for name in names:
        if arrays[name].shape[:1] != (at[-1],) or arrays[name].dtype.kind != "f":
            raise ValueError(
                f"{name} should be {at[-1]} rows of numbers, not {arrays[name].dtype} {arrays[name].shape}"
            )
    return [
        {id: arrays[name][start:stop] for id, start, stop in zip(ids, at[:-1], at[1:], strict=True)} for name in names
    ]
