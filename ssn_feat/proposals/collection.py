"""Proposals of many videos with where they come from, and the file that holds them."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.errors import UserError
from ssn_feat.files import write_npz
from ssn_feat.intervals import as_intervals
from ssn_feat.proposals.actionness import ScoreName, score_by_actionness

_FORMAT = "ssn_feat proposals"
_VERSION = 1

# What reading a damaged or foreign file raises: the archive, its compression, its arrays, or its header.
_MALFORMED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, TypeError, AttributeError)


@dataclass(frozen=True)
class Proposals:
    """Where actions may be, in each of some videos.

    intervals: per video id float64 ``(N, 2)``, seconds, start <= end; a video without any has ``(0, 2)``.
    scores: per video id float64 ``(N,)``, higher is better; ``score`` names what they mean.
    method, parameters: what made them (``parameters`` is what JSON can hold).
    actionness: per video id float32 ``(T,)``, probability of an action at each snippet; None where no source has it.
    spans: per video id float64 ``(T, 2)``, seconds that each snippet stands for; goes with ``actionness``.
    path: the file that they were saved to or loaded from, None for proposals that are in memory only.

    Raises UserError where ids, shapes or values do not fit together.
    """

    intervals: dict[str, NDArray[np.float64]]
    scores: dict[str, NDArray[np.float64]]
    method: str
    parameters: dict[str, Any] = field(default_factory=dict)
    actionness: dict[str, NDArray[np.float32]] | None = None
    spans: dict[str, NDArray[np.float64]] | None = None
    score: str = "score"
    path: Path | None = field(default=None, init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "intervals", {id: as_intervals(v, f"proposals of {id!r}") for id, v in self.intervals.items()}
        )
        object.__setattr__(self, "scores", {id: np.asarray(v, np.float64) for id, v in self.scores.items()})
        if self.intervals.keys() != self.scores.keys():
            odd = sorted(self.intervals.keys() ^ self.scores.keys())
            raise UserError(f"intervals and scores are of different videos: {', '.join(map(repr, odd[:5]))}")
        for id, scores in self.scores.items():
            if scores.shape != (len(self.intervals[id]),):
                raise UserError(f"video {id!r} has {len(self.intervals[id])} proposals and scores {scores.shape}")
            if np.isnan(scores).any():
                raise UserError(f"video {id!r}: the score of proposal {int(np.isnan(scores).argmax())} is not a number")
        self._check_actionness()

    def _check_actionness(self) -> None:
        if (self.actionness is None) != (self.spans is None):
            raise UserError("actionness and the spans of its snippets go together; one of them is missing")
        if self.actionness is None or self.spans is None:
            return
        if self.actionness.keys() != self.spans.keys():
            raise UserError("actionness and spans are of different videos")
        for id, values in self.actionness.items():
            if np.shape(self.spans[id]) != (*np.shape(values), 2):
                raise UserError(f"video {id!r}: actionness {np.shape(values)}, spans {np.shape(self.spans[id])}")

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the videos, in the order in which they were given; also of those without any proposal."""
        return tuple(self.intervals)

    def __repr__(self) -> str:
        return f"Proposals({len(self):,} in {len(self.ids):,} videos, method {self.method!r}, ranked by {self.score})"

    def __len__(self) -> int:
        """Number of proposals in all videos together."""
        return sum(map(len, self.intervals.values()))

    def only(self, ids: Iterable[str]) -> Proposals:
        """The given videos alone; ids that are not here are ignored."""
        wanted = set(ids)

        def pick(values: Mapping[str, Any] | None) -> Any:
            return None if values is None else {id: v for id, v in values.items() if id in wanted}

        return replace(
            self,
            intervals=pick(self.intervals),
            scores=pick(self.scores),
            actionness=pick(self.actionness),
            spans=pick(self.spans),
        )

    def top(self, number: int) -> Proposals:
        """The ``number`` best of every video, score descending (of equal ones the earlier first)."""
        best = {id: np.argsort(-scores, kind="stable")[:number] for id, scores in self.scores.items()}
        return replace(
            self,
            intervals={id: self.intervals[id][index] for id, index in best.items()},
            scores={id: self.scores[id][index] for id, index in best.items()},
        )

    def rescored(self, by: Proposals, score: ScoreName = "contrast") -> Proposals:
        """The same intervals, scored by the actionness that ``by`` holds, which is taken over.

        Raises UserError where ``by`` holds none, or lacks a video.
        """
        if by.actionness is None or by.spans is None:
            raise UserError(f"proposals of method {by.method!r} hold no actionness to score others by")
        lost = [id for id in self.intervals if id not in by.actionness]
        if lost:
            raise UserError(f"there is no actionness of {len(lost)} videos with proposals, such as {lost[0]!r}")
        scores = {
            id: score_by_actionness(boxes, by.actionness[id], by.spans[id], score)
            for id, boxes in self.intervals.items()
        }
        actionness = {id: by.actionness[id] for id in self.intervals}
        spans = {id: by.spans[id] for id in self.intervals}
        return replace(self, scores=scores, score=score, actionness=actionness, spans=spans)

    def save(self, path: Path | str) -> None:
        """Write an .npz archive, complete or not at all.

        It holds ``header`` (JSON as uint8), ``offsets``, ``intervals``, ``scores`` and, where there is actionness,
        ``actionness_offsets``, ``actionness`` and ``spans``: per-video arrays end to end, in the order of the ids.
        """
        header: dict[str, Any] = {
            "format": _FORMAT,
            "version": _VERSION,
            "method": self.method,
            "score": self.score,
            "parameters": self.parameters,
            "ids": list(self.intervals),
        }
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
        """Read what :meth:`save` wrote. Raises UserError naming the file where it is missing or malformed."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in archive.files}
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
            loaded = cls(intervals, scores, header["method"], header["parameters"], actionness, spans, header["score"])
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


def _join(
    offsets: str, columns: dict[str, tuple[Mapping[str, NDArray[Any]], tuple[int, ...], str]]
) -> dict[str, NDArray[Any]]:
    """Per-video arrays end to end, with the offsets (videos + 1,) at which they start."""
    lengths = [len(values) for values in next(iter(columns.values()))[0].values()]
    arrays: dict[str, NDArray[Any]] = {offsets: np.cumsum([0, *lengths], dtype=np.int64)}
    for name, (values, tail, dtype) in columns.items():
        arrays[name] = np.concatenate([np.zeros((0, *tail), dtype), *(np.asarray(v, dtype) for v in values.values())])
    return arrays


def _split(
    ids: list[str], arrays: dict[str, NDArray[Any]], offsets: str, names: tuple[str, ...]
) -> list[dict[str, NDArray[Any]]]:
    """The reverse of :func:`_join`. Raises ValueError where offsets and arrays do not fit together."""
    at = arrays[offsets]
    if at.ndim != 1 or at.dtype.kind != "i" or len(at) != len(ids) + 1 or at[0] != 0 or (np.diff(at) < 0).any():
        raise ValueError(f"{offsets} does not divide the arrays among {len(ids)} videos")
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
