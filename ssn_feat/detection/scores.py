"""Raw scores of proposals: the output of heads, which is fused over runs and kept in files."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssn_feat.annotations.dataset import Dataset
from ssn_feat.errors import UserError
from ssn_feat.files import write_npz
from ssn_feat.foreign_json import require_text
from ssn_feat.results.ragged import Float, Ragged, offsets_of, take_videos, trained_on_of
from ssn_feat.safe_loading import load_npz

FORMAT = 1
# NumPy 1 has its internals in numpy.core; NumPy 2 has them in numpy._core and warns about the old name.
_NUMPY_CORE = "numpy.core.multiarray" if np.__version__.startswith("1.") else "numpy._core.multiarray"

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class VideoScores:
    """Scores of the proposals of one video."""

    intervals: Float
    """Proposals, float64 ``(N, 2)``, seconds."""
    activity: Float32
    """Logits of background (column 0) and of each class, ``(N, K + 1)``."""
    completeness: Float32
    """Logits of being a complete instance of each class, ``(N, K)``."""
    regression: Float32 | None
    """Denormalised shift of the centre / length and log ratio of lengths, ``(N, K, 2)``; None without regression."""
    duration: float
    """Duration of the video, seconds."""


@dataclass(frozen=True, eq=False)
class ProposalScores(Ragged):
    """Raw scores of the proposals of many videos, float32, before softmax and filtering.

    Raises UserError, naming the video, on values that are not finite, and ValueError on inconsistent shapes.
    """

    labels: tuple[str, ...]
    """The K class names."""
    durations: Float
    """Length of each video, float64 ``(V,)``, seconds."""
    intervals: Float
    """Proposals, float64 ``(N, 2)``, seconds."""
    activity: Float32
    """Activity logits ``(N, K + 1)``, background first (SSN section 3.3)."""
    completeness: Float32
    """Completeness logits ``(N, K)``."""
    regression: Float32 | None
    """Denormalised regression ``(N, K, 2)`` (shift of the centre / length, log ratio of lengths), or None."""
    trained_on: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Those of the videos that the head was trained on, by run."""

    def __post_init__(self) -> None:
        rows, classes = len(self.intervals), len(self.labels)
        self._check_offsets(rows)
        require_text(self.labels, self.ids)
        arrays: dict[str, tuple[NDArray[Any] | None, tuple[int, ...]]] = {
            "durations": (self.durations, (len(self.ids),)),
            "intervals": (self.intervals, (rows, 2)),
            "activity": (self.activity, (rows, classes + 1)),
            "completeness": (self.completeness, (rows, classes)),
            "regression": (self.regression, (rows, classes, 2)),
        }
        for name, (array, shape) in arrays.items():
            if array is None:
                continue
            if array.shape != shape:
                raise ValueError(f"{name} of {rows} proposals and {classes} classes is {array.shape}, not {shape}")
            # The sum needs no temporary array of this size, and is not finite if any term is not.
            if not np.isfinite(array.sum(dtype=np.float64)):
                self._refuse(name, array)

    def _refuse(self, name: str, array: NDArray[Any]) -> None:
        row = int(np.argmax(~np.isfinite(array.reshape(len(array), -1)).all(axis=1)))
        position = row if name == "durations" else int(np.searchsorted(self.offsets, row, side="right")) - 1
        raise UserError(f"{name} of video {self.ids[position]!r} holds a value that is not finite")

    @classmethod
    def of(cls, labels: Sequence[str], videos: Mapping[str, VideoScores]) -> ProposalScores:
        """From the scores of single videos, of which all or none have regression."""
        parts = list(videos.values())
        classes = len(labels)
        with_regression = sum(p.regression is not None for p in parts)
        if with_regression not in (0, len(parts)):
            raise ValueError("only some of the videos have regression")

        def stack(arrays: Iterable[ArrayLike], *shape: int, dtype: Any = np.float32) -> NDArray[Any]:
            return np.concatenate([np.zeros((0, *shape), dtype), *(np.asarray(a, dtype) for a in arrays)])

        return cls(
            tuple(videos),
            offsets_of([len(p.intervals) for p in parts]),
            tuple(labels),
            np.array([p.duration for p in parts], dtype=np.float64),
            stack((p.intervals for p in parts), 2, dtype=np.float64),
            stack((p.activity for p in parts), classes + 1),
            stack((p.completeness for p in parts), classes),
            stack((p.regression for p in parts if p.regression is not None), classes, 2) if with_regression else None,
        )

    def __getitem__(self, video: str) -> VideoScores:
        rows = self.rows(video)
        regression = None if self.regression is None else self.regression[rows]
        duration = float(self.durations[self.index[video]])
        return VideoScores(self.intervals[rows], self.activity[rows], self.completeness[rows], regression, duration)

    def only(self, ids: Iterable[str]) -> ProposalScores:
        """The scores of the given videos, in the given order; unknown ids are ignored."""
        positions = np.array([self.index[i] for i in ids if i in self.index], dtype=np.int64)
        rows, offsets = take_videos(self, positions)
        return replace(
            self,
            ids=tuple(self.ids[p] for p in positions),
            offsets=offsets,
            durations=self.durations[positions],
            intervals=self.intervals[rows],
            activity=self.activity[rows],
            completeness=self.completeness[rows],
            regression=None if self.regression is None else self.regression[rows],
        )

    def save(self, path: Path) -> None:
        """Write an .npz file of plain arrays, which :meth:`load` reads back bit for bit."""
        arrays: dict[str, NDArray[Any]] = {
            "format": np.array(FORMAT),
            "ids": np.array(self.ids, dtype=np.str_),
            "offsets": self.offsets,
            "labels": np.array(self.labels, dtype=np.str_),
            "durations": self.durations,
            "intervals": self.intervals,
            "activity": self.activity,
            "completeness": self.completeness,
        }
        if self.regression is not None:
            arrays["regression"] = self.regression
        if self.trained_on:
            arrays["trained_on"] = np.array(json.dumps(self.trained_on))
        write_npz(path, arrays)

    @classmethod
    def load(cls, path: Path) -> ProposalScores:
        """Read a file that :meth:`save` wrote. Raises UserError if ``path`` is not such a file."""
        try:
            arrays = load_npz(path)
        except OSError as error:
            raise UserError(f"cannot read the scores {path}: {error.strerror or error}") from None
        except ValueError as error:
            raise UserError(
                f"{path} is not a file of scores (.npz): {error}; a score pickle of the original code needs "
                "--allow-pickle"
            ) from None
        if not np.array_equal(arrays.get("format", 0), FORMAT):
            raise UserError(
                f"{path} is not a file of scores of format {FORMAT}; it holds {', '.join(sorted(arrays)) or 'nothing'}"
            )
        try:
            return cls(
                tuple(arrays["ids"].tolist()),
                arrays["offsets"],
                tuple(arrays["labels"].tolist()),
                arrays["durations"],
                arrays["intervals"],
                arrays["activity"],
                arrays["completeness"],
                arrays.get("regression"),
                trained_on_of(json.loads(str(arrays["trained_on"]))) if "trained_on" in arrays else {},
            )
        except (KeyError, TypeError, ValueError, UserError) as error:
            raise UserError(f"{path} is damaged: {error}") from None


def fuse(scores: Sequence[ProposalScores], weights: Sequence[float] = ()) -> ProposalScores:
    """The weighted mean of the raw scores of several runs (streams, seeds) on the same proposals.

    ``weights``: one per run, not negative, normalised to sum 1; by default equal. The original code fuses like this.
    Raises UserError if runs differ in videos, proposals or labels, or if only some have regression.
    """
    if not scores:
        raise UserError("there are no scores to fuse")
    parts = normalised_weights(weights, len(scores))
    first = scores[0]
    for number, other in enumerate(scores[1:], start=2):
        _check_same(first, other, number)

    def average(name: str) -> Float32:
        # Accumulated in float32 in the order given, as the original does: reference decisions hang on the last bit.
        total: Float32 = getattr(first, name) * parts[0]
        for other, weight in zip(scores[1:], parts[1:], strict=True):
            total += getattr(other, name) * weight
        return total

    return ProposalScores(
        first.ids,
        first.offsets,
        first.labels,
        first.durations,
        first.intervals,
        average("activity"),
        average("completeness"),
        None if first.regression is None else average("regression"),
        {run: videos for part in scores for run, videos in part.trained_on.items()},
    )


def normalised_weights(weights: Sequence[float], count: int) -> list[np.float32]:
    """``weights`` divided by their sum, or ``1 / count`` each without weights, float32."""
    if not weights:
        return [np.float32(1 / count)] * count
    if len(weights) != count:
        raise UserError(f"{len(weights)} weights for {count} runs: give one weight per run")
    if not all(np.isfinite(w) and w >= 0 for w in weights) or sum(weights) <= 0:
        raise UserError(f"weights must be finite, not negative and not all zero, not {' '.join(map(str, weights))}")
    return [np.float32(weight / sum(weights)) for weight in weights]


def _check_same(first: ProposalScores, other: ProposalScores, number: int) -> None:
    """Raises UserError unless both runs score the same proposals with the same classes."""
    if first.labels != other.labels:
        raise UserError(f"run {number} has other classes than run 1: {other.labels[:5]} against {first.labels[:5]}")
    if first.ids != other.ids:
        odd = sorted(set(first.ids) ^ set(other.ids)) or ["in another order"]
        raise UserError(f"run {number} has scored other videos than run 1: {', '.join(odd[:3])} ({len(odd)} differ)")
    if (first.regression is None) != (other.regression is None):
        raise UserError(f"only one of run 1 and run {number} has regression scores")
    for video in first.ids:
        a, b = first.intervals[first.rows(video)], other.intervals[other.rows(video)]
        if a.shape != b.shape or not np.allclose(a, b, rtol=0, atol=1e-6):
            raise UserError(
                f"run {number} has scored other proposals of video {video!r} than run 1 "
                f"({len(b)} against {len(a)}): score all runs on one proposal file"
            )


class _ArraysOnly(pickle.Unpickler):
    """Reads plain values and NumPy arrays, and refuses every other import in a pickle."""

    _OF_NUMPY = frozenset({"_reconstruct", "scalar", "ndarray", "dtype", "_frombuffer"})
    # Names of bytes in pickles of Python 2.
    _OTHERS = frozenset({("_codecs", "encode"), ("__builtin__", "bytes"), ("builtins", "bytes")})

    def find_class(self, module: str, name: str) -> Any:
        if (module.split(".")[0] == "numpy" and name in self._OF_NUMPY) or (module, name) in self._OTHERS:
            return super().find_class(_NUMPY_CORE if module == "numpy.core.multiarray" else module, name)
        raise pickle.UnpicklingError(f"it wants to import {module}.{name}")


def read_original(path: Path, dataset: Dataset, *, allow_pickle: bool = False) -> ProposalScores:
    """Read a score file of the original code (``ssn_test.py``): a pickle of ``{video: (rel_props, act, comp, reg)}``.

    Its proposals are shares of the duration; durations and labels come from ``dataset``, whose ids are compared with
    the paths in the pickle (``frames/v_ID`` and ``ID.mp4`` mean ``ID``). Reading a pickle can run code, so this needs
    ``allow_pickle``, and even then only plain values and NumPy arrays are accepted.

    Raises UserError without ``allow_pickle``, on videos that ``dataset`` does not have, and on arrays of other shapes.
    """
    if not allow_pickle:
        raise UserError(f"{path}: reading a pickle can run code; add --allow-pickle if you trust its author")
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file, encoding="latin1").load()
    except OSError as error:
        raise UserError(f"cannot read the scores {path}: {error.strerror}") from None
    except Exception as error:  # a broken pickle raises nearly anything
        raise UserError(f"{path} is not a score pickle: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path} is not a score pickle: expected a dict of videos, not {type(content).__name__}")
    classes = len(dataset.labels)
    videos = {}
    for name, entry in content.items():
        video = _id_of(str(name), dataset, path)
        try:
            relative, activity, completeness, *rest = entry
            regression = rest[0] if rest else None
            intervals = np.asarray(relative, np.float64).reshape(-1, 2) * dataset.videos[video].duration
            videos[video] = VideoScores(
                intervals,
                np.asarray(activity, np.float32).reshape(len(intervals), classes + 1),
                np.asarray(completeness, np.float32).reshape(len(intervals), classes),
                None if regression is None else np.asarray(regression, np.float32).reshape(len(intervals), classes, 2),
                dataset.videos[video].duration,
            )
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: scores of video {name!r} do not fit {classes} classes: {error}") from None
    return ProposalScores.of(dataset.labels, videos)


def _id_of(name: str, dataset: Dataset, path: Path) -> str:
    base = PurePosixPath(name).name
    stem = PurePosixPath(base).stem
    for candidate in (name, base, stem, base.removeprefix("v_"), stem.removeprefix("v_")):
        if candidate in dataset.videos:
            return candidate
    raise UserError(f"{path}: video {name!r} is not in data set {dataset.name!r}")
