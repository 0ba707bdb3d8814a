"""Video-level class scores of an outside classifier such as UntrimmedNets, which restrict the classes of a video."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations.similar import similar_name
from ssn_feat.errors import UserError
from ssn_feat.foreign_json import parse_json
from ssn_feat.results.ragged import Ragged
from ssn_feat.safe_loading import load_npz

ClassScores = dict[str, NDArray[np.float64]]


def read_class_scores(path: Path, labels: Sequence[str]) -> ClassScores:
    """Scores ``(K,)`` of each video in the order of ``labels``; the suffix decides the format.

    - ``.json``: ``{id: {label: score}}``, ``{id: [K scores]}``, or the result file of the ActivityNet classification
      task, ``{"results": {id: [{"label", "score"}]}}``; labels without a score count as minus infinity;
    - ``.csv``: a header ``video,LABEL,LABEL,...`` and one line per video;
    - ``.npz``: ``video_id (V,)``, ``scores (V, K)`` and optionally ``labels (K,)``.

    Raises UserError if the file cannot be read, a label is unknown, or a score is missing or not a number.
    """
    readers = {".json": _read_json, ".csv": _read_csv, ".npz": _read_npz}
    if path.suffix not in readers:
        raise UserError(f"class scores must be a {', '.join(readers)} file, not {path.name!r}")
    try:
        raw = readers[path.suffix](path)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot read the class scores {path}: {error.strerror or error}") from None
    except Exception as error:  # parsers raise exceptions of any type
        raise UserError(f"{path} is not a file of class scores: {' '.join(repr(error).split())[:300]}") from None
    return {video: _row(path, video, values, labels) for video, values in raw.items()}


def _row(path: Path, video: str, values: Any, labels: Sequence[str]) -> NDArray[np.float64]:
    try:
        if isinstance(values, Mapping):
            unknown = set(values) - set(labels)
            if unknown:
                raise UserError(
                    f"{path}: video {video!r} has a score for the unknown class {min(unknown)!r}: leave out the "
                    f"classes that the heads were not trained on{similar_name(sorted(unknown), labels, 'the run')}"
                )
            row = np.array([float(values.get(label, -np.inf)) for label in labels])
        else:
            row = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{path}: the scores of video {video!r} are not numbers: {str(values)[:80]}") from None
    if row.shape != (len(labels),) or np.isnan(row).any():
        raise UserError(f"{path}: video {video!r} needs {len(labels)} numbers as scores, not {str(values)[:80]}")
    return row


def _read_json(path: Path) -> Mapping[str, Any]:
    content = parse_json(path.read_bytes(), path)
    if "results" in content:
        return {v: {row["label"]: row["score"] for row in rows} for v, rows in content["results"].items()}
    return dict(content)


def _read_csv(path: Path) -> Mapping[str, Any]:
    with path.open(newline="", encoding="utf-8") as file:
        header, *lines = list(csv.reader(file))
    return {line[0]: dict(zip(header[1:], line[1:], strict=True)) for line in lines if line}


def _read_npz(path: Path) -> Mapping[str, Any]:
    arrays = load_npz(path)
    ids, scores = arrays["video_id"].tolist(), arrays["scores"]
    names = arrays["labels"].tolist() if "labels" in arrays else None
    rows = scores.tolist()
    return {v: row if names is None else dict(zip(names, row, strict=True)) for v, row in zip(ids, rows, strict=True)}


def best_classes(class_scores: Mapping[str, NDArray[Any]], videos: Ragged, count: int) -> dict[str, NDArray[np.bool_]]:
    """The ``count`` classes of highest score of each video, as a mask, bool ``(K,)``.

    Classes with the score minus infinity, which the classifier did not name, are never chosen.
    Raises UserError naming the videos without class scores.
    """
    missing = [video for video in videos.ids if video not in class_scores]
    if missing:
        hint = similar_name(missing, class_scores, "the file of class scores")
        raise UserError(f"{len(missing)} of {len(videos)} videos have no class scores: {', '.join(missing[:3])}{hint}")
    chosen = {}
    for video in videos.ids:
        chosen[video] = np.zeros(len(class_scores[video]), dtype=bool)
        best = np.argsort(class_scores[video], kind="stable")[-count:]
        chosen[video][best] = class_scores[video][best] > -np.inf
    return chosen


def class_factors(
    class_scores: Mapping[str, NDArray[Any]], chosen: Mapping[str, NDArray[np.bool_]]
) -> dict[str, NDArray[np.float64]]:
    """Factor of the scores of each class, ``(K,)``, by video: the class score if the class is ``chosen``, else 0.

    Raises UserError if a factor is negative or infinite, as logits may be.
    """
    factors = {}
    for video, mask in chosen.items():
        factors[video] = np.where(mask, class_scores[video], 0.0)
        if not (np.isfinite(factors[video]).all() and (factors[video] >= 0).all()):
            raise UserError(
                f"video {video!r}: class scores that are multiplied must be finite and not negative, not "
                f"{class_scores[video][mask].tolist()}: probabilities, not logits"
            )
    return factors
