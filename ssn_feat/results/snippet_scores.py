"""Scores of classes for every snippet of many videos, as dense methods compute them, and their file format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.errors import UserError
from ssn_feat.results.ragged import Float, Ragged
from ssn_feat.safe_loading import load_npz

_ARRAYS = ("ids", "offsets", "labels", "scores", "spans")


@dataclass(frozen=True, eq=False)
class SnippetScores(Ragged):
    """Scores of K classes for the snippets of many videos.

    The rows of a video are its snippets in the order of time. Raises UserError, naming the video, on values that are
    not finite and on snippets that are not in this order, and ValueError on inconsistent shapes.
    """

    labels: tuple[str, ...]
    """The K class names."""
    scores: NDArray[np.floating[Any]]
    """Score of each class, ``(T, K)``; higher means more confident."""
    spans: Float
    """Start and end of each snippet, float64 ``(T, 2)``, seconds."""

    def __post_init__(self) -> None:
        self._check_offsets(len(self.scores))
        if self.scores.shape != (len(self.spans), len(self.labels)) or self.spans.shape != (len(self.scores), 2):
            raise ValueError(f"{len(self.labels)} labels, scores {self.scores.shape} and spans {self.spans.shape}")
        infinite = ~(np.isfinite(self.scores).all(axis=1) & np.isfinite(self.spans).all(axis=1))
        self._refuse(infinite, "has a score or a time that is not finite")
        later = np.append(False, self.spans[1:, 0] < self.spans[:-1, 0])
        later[self.offsets[:-1][self.offsets[:-1] < len(later)]] = False  # the first snippets of videos
        self._refuse(later, "starts before the previous one")

    def _refuse(self, bad: NDArray[np.bool_], fault: str) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            position = int(np.searchsorted(self.offsets, row, side="right")) - 1
            raise UserError(f"video {self.ids[position]!r}, snippet {row - self.offsets[position]} {fault}")

    @classmethod
    def load(cls, path: Path) -> SnippetScores:
        """Read an .npz file of the arrays ``ids``, ``offsets`` (int64 ``(V + 1,)``: where each video starts),
        ``labels``, ``scores`` and ``spans``. Raises UserError, naming the file, if it is not such a file.
        """
        try:
            arrays = load_npz(path)
        except OSError as error:
            raise UserError(f"cannot read the scores {path}: {error.strerror or error}") from None
        except ValueError as error:
            raise UserError(f"{path} is not an .npz file of plain arrays: {error}") from None
        if missing := [name for name in _ARRAYS if name not in arrays]:
            raise UserError(f"{path} is not a file of scores of snippets: it has no array {missing[0]!r}")
        try:
            return cls(
                tuple(map(str, arrays["ids"].tolist())),
                arrays["offsets"].astype(np.int64),
                tuple(map(str, arrays["labels"].tolist())),
                arrays["scores"],
                arrays["spans"].astype(np.float64),
            )
        except (TypeError, ValueError, UserError) as error:
            raise UserError(f"{path}: {error}") from None


__all__ = ["SnippetScores"]
