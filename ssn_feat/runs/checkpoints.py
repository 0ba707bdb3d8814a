"""Checkpoints of runs: a trained head with everything that scoring needs.

Scoring needs only entries of the checkpoint that do not depend on the options of the training (see
:func:`scoring_facts`): a run stays readable when options are added, renamed or removed. The options that a checkpoint
records under ``config`` are compared when a run is resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ssn_feat.cli import from_record, to_dict
from ssn_feat.errors import UserError
from ssn_feat.hashes import check_files, read_checked
from ssn_feat.heads.actionness import ActionnessHead
from ssn_feat.heads.features import Standardisation, join_streams
from ssn_feat.heads.kinds import is_own, require_trusted_head, sequence_head
from ssn_feat.heads.one_stage import OneStageHead
from ssn_feat.heads.sequence_head import SequenceHead
from ssn_feat.heads.ssn import SSNHead, SSNOptions
from ssn_feat.safe_loading import load_torch
from ssn_feat.store import FeatureStore
from ssn_feat.store.stream_recipes import fingerprints
from ssn_feat.terminal import printable

FORMAT = "ssn_feat run"
FORMAT_VERSION = 1
CHECKPOINT = "checkpoint.pt"

Head = SSNHead | ActionnessHead | SequenceHead


@dataclass(frozen=True)
class Run:
    """A trained head with everything that scoring needs.

    ``head``: in evaluation mode, on the CPU; ``labels``: class names, the position is the class index; ``streams``: in
    the order of the feature columns; ``reg_stats``: float64 ``(2, 2)``, mean and deviation of (shift, log ratio) with
    which regression is normalised, None for actionness; ``standardisation``: None if features are used as they are;
    ``augmentation``: lengths of the starting and the ending stage as fractions of a proposal's length; ``config``: the
    recorded options of the training, which scoring does not need; ``recipe``, ``fingerprint``: of the store that the
    head was trained on; ``fingerprints``: of each of ``streams``; ``finished``: False for an interrupted run;
    ``training_videos``: ids of the videos that the head was trained on, empty if unknown, as in runs of version 0.1;
    ``path``: the folder or checkpoint file that it was loaded from, None for a run in memory.
    """

    head: Head
    labels: tuple[str, ...]
    streams: tuple[str, ...]
    reg_stats: NDArray[np.float64] | None
    standardisation: Standardisation | None
    augmentation: tuple[float, float]
    config: dict[str, Any]
    recipe: dict[str, Any]
    fingerprint: str
    fingerprints: dict[str, str]
    epoch: int
    finished: bool
    training_videos: frozenset[str] = frozenset()
    path: Path | None = None

    def __repr__(self) -> str:
        where = "in memory" if self.path is None else repr(str(self.path))
        state = "finished" if self.finished else "interrupted"
        return (
            f"Run({where}: {self.kind} head, {printable(' + '.join(self.streams))} {self.head.feature_dim}, "
            f"{len(self.labels)} classes, {state} after {self.epoch} epochs)"
        )

    @property
    def kind(self) -> str:
        """``ssn``, ``actionness``, ``one-stage``, or ``package.module:Class``."""
        return self.head.kind

    def prepare(self, features: ArrayLike | Tensor | Mapping[str, NDArray[Any]]) -> Tensor:
        """The input of the head: float32 ``(T, D)``, streams joined, standardised if the run standardises.

        ``features``: the streams of a stored video by name, or rows ``(T, D)`` with the columns of all streams.
        Raises UserError if a stream is missing or the number of features is not that of the head.
        """
        if isinstance(features, Mapping):
            rows = join_streams(features, self.streams)
        else:
            rows = features if isinstance(features, Tensor) else torch.from_numpy(np.asarray(features))
        if rows.ndim != 2 or rows.shape[1] != self.head.feature_dim:
            raise UserError(
                f"the head was trained on features (T, {self.head.feature_dim}) of {' + '.join(self.streams)}, "
                f"these are {tuple(rows.shape)}"
            )
        return self.standardisation(rows) if self.standardisation else rows.float()

    def require_features(self, held: Mapping[str, str], where: str) -> None:
        """Raise UserError unless each stream that the run reads has the fingerprint of its training.

        ``held``: the fingerprint of each stream of a store; other streams do not matter. ``where`` names the origin of
        the features in the message. A stream that ``held`` lacks is left to :meth:`prepare`.
        """
        for stream, made in self.fingerprints.items():
            if held.get(stream, made) != made:
                raise UserError(
                    f"the run was trained on features of recipe {made[:12]} of the stream {stream}, {where} has "
                    f"features of recipe {held[stream][:12]}: extract with the same options, or train again"
                )


def load_run(folder: Path | str, trusted: Collection[str] = ()) -> Run:
    """Read a run folder or a checkpoint file of one.

    ``trusted``: heads ``package.module:Class`` that may be imported because the checkpoint names them. Raises UserError
    where the run does not exist, a file is damaged, or it names another such head.
    """
    path = Path(folder)
    in_folder = path.is_dir() or not path.suffix
    if in_folder:
        check_files(path)
    run = run_of(read_run_checkpoint(path / CHECKPOINT if in_folder else path), str(path), trusted)
    return replace(run, path=path)


def run_of(saved: Mapping[str, Any], where: str = "memory", trusted: Collection[str] = ()) -> Run:
    """The run in the content of a checkpoint that was read from ``where``; ``trusted`` as for :func:`load_run`.

    Raises UserError if the content is damaged or has no head that scores features.
    """
    try:
        head = _head_of(saved["head"], saved["model"], where, trusted)
        stats, standard = saved["reg_stats"], saved["standardisation"]
        run = Run(
            head=head.eval(),
            labels=_texts(saved, "labels"),
            streams=_texts(saved, "streams"),
            reg_stats=None if stats is None else stats.double().numpy(),
            standardisation=None if standard is None else Standardisation(standard["mean"], standard["scale"]),
            augmentation=_augmentation(saved),
            config=dict(saved["config"]),
            recipe=dict(saved["store"]["recipe"]),
            fingerprint=str(saved["store"]["fingerprint"]),
            fingerprints=stream_fingerprints(saved),
            epoch=int(saved["epoch"]),
            finished=bool(saved["finished"]),
            training_videos=frozenset(saved["inputs"]["features"]["videos"]) if "inputs" in saved else frozenset(),
        )
        _require_fitting_parts(run)
        return run
    except (LookupError, RuntimeError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"the checkpoint in {where} is damaged: {' '.join(str(error).split())}") from None


def _texts(saved: Mapping[str, Any], name: str) -> tuple[str, ...]:
    texts = tuple(saved[name])
    if not texts or not all(isinstance(text, str) for text in texts) or len(set(texts)) < len(texts):
        raise ValueError(f"{name} are {' '.join(repr(texts).split())[:200]}, not different names")
    return texts


def _require_fitting_parts(run: Run) -> None:
    """Raise ValueError if the parts of a checkpoint have other sizes than its head."""
    classes = len(run.labels) if isinstance(run.head, ActionnessHead) else run.head.classes
    if len(run.labels) != classes:
        raise ValueError(f"it has {len(run.labels)} labels for {classes} classes")
    if run.reg_stats is not None and (run.reg_stats.shape != (2, 2) or not np.isfinite(run.reg_stats).all()):
        raise ValueError("reg_stats are not 2 means and 2 deviations")
    standard = run.standardisation
    for part in () if standard is None else (standard.mean, standard.scale):
        if part.shape != (run.head.feature_dim,) or not bool(part.isfinite().all()):
            raise ValueError(f"it standardises {tuple(part.shape)} features for a head of {run.head.feature_dim}")
    for name, value in run.head.state_dict().items():
        if not bool(value.isfinite().all()):
            raise ValueError(f"the weights {name} are not finite")


def stream_fingerprints(saved: Mapping[str, Any]) -> dict[str, str]:
    """The fingerprint of each stream that a head reads, from the entries of a checkpoint (:func:`scoring_facts`).

    Runs of earlier versions recorded the recipe and the fingerprint of the whole store only.
    """
    store, streams = saved["store"], saved["streams"]
    recorded = store.get("fingerprints") or fingerprints(store["recipe"], streams)
    return {stream: str(recorded[stream]) for stream in streams}


def _augmentation(saved: Mapping[str, Any]) -> tuple[float, float]:
    """Version 0.1 recorded the augmentation among the options of the training only; some heads have none."""
    start, end = saved["augmentation"] if "augmentation" in saved else saved["config"].get("augmentation", (0.0, 0.0))
    return float(start), float(end)


def actionness_scores(run: Run, features: ArrayLike | Tensor | Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Logits [background, action] of each row, float32 ``(T, 2)``; ``features`` as in :meth:`Run.prepare`.

    Raises UserError if ``run`` is not a run of the actionness head.
    """
    if not isinstance(run.head, ActionnessHead):
        raise UserError(f"this is a run of the {run.kind} head; actionness comes from train/fit.py head actionness")
    with torch.inference_mode():
        logits: NDArray[np.float32] = run.head(run.prepare(features)).numpy()
    return logits


def describe_head(head: Head) -> dict[str, Any]:
    """The entry ``head`` of a checkpoint: kind and shape of a head, as plain values."""
    description: dict[str, Any] = {"kind": head.kind, "feature_dim": head.feature_dim}
    if isinstance(head, ActionnessHead):
        return {**description, "dropout": head.dropout}
    return {**description, "classes": head.classes, "options": to_dict(head.options)}


def _head_of(
    description: Mapping[str, Any], weights: Mapping[str, Tensor], where: str, trusted: Collection[str]
) -> Head:
    """A head of the described kind and shape with ``weights``."""
    kind = description["kind"]
    build: Callable[[], Head]
    if kind == ActionnessHead.kind:
        build = partial(ActionnessHead, description["feature_dim"], description["dropout"])
    elif kind == SSNHead.kind:
        options = from_record(SSNOptions, description["options"], f"{where}: the head")
        build = partial(SSNHead, description["feature_dim"], description["classes"], options)
    elif kind == OneStageHead.kind or is_own(kind):
        require_trusted_head(kind, trusted, where)
        chosen = sequence_head(kind)
        own: Any = from_record(chosen.Options, description["options"], f"{where}: the head")
        build = partial(chosen, description["feature_dim"], description["classes"], own)
    else:
        raise UserError(f"{where} is a run of kind {' '.join(repr(kind).split())[:80]}: it has no head for detections")
    if not is_own(kind):
        with torch.device("meta"):  # compares shapes without the memory that a wrong one may claim
            build().load_state_dict(weights, assign=True)
    head = build()
    head.load_state_dict(weights)
    return head


def scoring_facts(
    labels: Sequence[str],
    streams: Sequence[str],
    standardisation: Standardisation | None,
    store: FeatureStore,
) -> dict[str, Any]:
    """Entries of a checkpoint that scoring needs besides those of the head: ``model``, ``head``, ``reg_stats`` and
    ``augmentation``; see :class:`Run`."""
    return {
        "labels": list(labels),
        "streams": list(streams),
        "standardisation": None if standardisation is None else vars(standardisation),
        "store": {
            "name": store.name,
            "recipe": store.recipe,
            "fingerprint": store.fingerprint,
            "fingerprints": {stream: store.fingerprint_of(stream) for stream in streams},
        },
    }


def read_run_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint that :meth:`RunFolder.save` wrote, tensors on the CPU. Never runs code in the file.

    Raises UserError if the file does not exist, cannot be read, or has another format.
    """
    try:
        content = read_checked(path)
    except FileNotFoundError:
        raise UserError(f"no run at {path.parent}: it has no {path.name}; python train/fit.py writes one") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    try:
        saved = load_torch(content)
    except ValueError as error:
        raise UserError(f"{path} is not a checkpoint or is damaged: {error}") from None
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise UserError(f"{path} is not a checkpoint of this program")
    version = saved.get("version")
    if not isinstance(version, int) or version != FORMAT_VERSION:
        raise UserError(
            f"{path} has checkpoint version {' '.join(repr(version).split()):.20}, this program reads {FORMAT_VERSION}"
        )
    return saved


__all__ = [
    "Run",
    "actionness_scores",
    "describe_head",
    "load_run",
    "read_run_checkpoint",
    "run_of",
    "scoring_facts",
    "stream_fingerprints",
]
