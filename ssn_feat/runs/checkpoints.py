"""Run folders: the files of a training run, written and read.

::

    RUN/config.yaml        the options; python train/fit.py RUN/config.yaml --out NEW repeats the run
    RUN/environment.json   versions and machine
    RUN/log.jsonl          one line per epoch: mean losses, accuracy, learning rate, metrics of --eval
    RUN/checkpoint.pt      weights and everything needed to resume or to score: only tensors and plain values
    RUN/best.pt            with --eval: the checkpoint of the best measured epoch, for detect.py --checkpoint
    RUN/tensorboard/       with --tensorboard: the log as events
    RUN/summary.json       final results, written when the run is finished

Scoring needs only entries of the checkpoint that do not depend on the options of the training (see
:func:`scoring_facts`): a run stays readable when options are added, renamed or removed. The options that a checkpoint
records under ``config`` are compared when a run is resumed.
"""

from __future__ import annotations

import io
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

import ssn_feat
from ssn_feat.cli import from_record, save_yaml, to_dict
from ssn_feat.errors import UserError
from ssn_feat.files import replacing
from ssn_feat.heads.actionness import ActionnessHead
from ssn_feat.heads.features import Standardisation, join_streams
from ssn_feat.heads.ssn import SSNHead, SSNOptions
from ssn_feat.store import FeatureStore

FORMAT = "ssn_feat run"
FORMAT_VERSION = 1
CHECKPOINT = "checkpoint.pt"
BEST = "best.pt"
EVENTS = "tensorboard"
# Options that do not change what is learned: a resumed run may use other values.
RESUME_MAY_CHANGE = ("out", "resume", "overwrite", "quiet", "threads", "features")


@dataclass(frozen=True)
class Run:
    """A trained head with everything that scoring needs.

    ``head``: in evaluation mode, on the CPU; ``labels``: class names, the position is the class index; ``streams``: in
    the order of the feature columns; ``reg_stats``: float64 ``(2, 2)``, mean and deviation of (shift, log ratio) with
    which regression is normalised, None for actionness; ``standardisation``: None if features are used as they are;
    ``augmentation``: lengths of the starting and the ending stage as fractions of a proposal's length; ``config``: the
    recorded options of the training, which scoring does not need; ``recipe``, ``fingerprint``: of the features that
    the head was trained on; ``finished``: False for an interrupted run; ``path``: the folder or
    checkpoint file that it was loaded from, None for a run in memory.
    """

    head: SSNHead | ActionnessHead
    labels: tuple[str, ...]
    streams: tuple[str, ...]
    reg_stats: NDArray[np.float64] | None
    standardisation: Standardisation | None
    augmentation: tuple[float, float]
    config: dict[str, Any]
    recipe: dict[str, Any]
    fingerprint: str
    epoch: int
    finished: bool
    path: Path | None = None

    def __repr__(self) -> str:
        where = "in memory" if self.path is None else repr(str(self.path))
        state = "finished" if self.finished else "interrupted"
        return (
            f"Run({where}: {self.kind} head, {' + '.join(self.streams)} {self.head.feature_dim}, "
            f"{len(self.labels)} classes, {state} after {self.epoch} epochs)"
        )

    @property
    def kind(self) -> str:
        """``ssn`` or ``actionness``."""
        return self.head.kind

    def prepare(self, features: ArrayLike | Tensor | Mapping[str, NDArray[Any]]) -> Tensor:
        """The input of the head: float32 ``(T, D)``, streams joined, standardised if the run standardises.

        ``features``: the streams of a stored video by name, or rows ``(T, D)`` with the columns of all streams.
        Raises UserError where a stream is missing or the number of features is not that of the head.
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

    def require_store(self, recipe_fingerprint: str, where: str) -> None:
        """Raise UserError unless the run was trained on features with ``recipe_fingerprint``.

        ``where`` names the origin of the features in the message.
        """
        if recipe_fingerprint != self.fingerprint:
            raise UserError(
                f"the run was trained on features of recipe {self.fingerprint[:12]}, {where} has features of recipe "
                f"{recipe_fingerprint[:12]}: extract with the same options, or train again"
            )


def load_run(folder: Path | str) -> Run:
    """Read a run folder or a checkpoint file of one. Raises UserError where it does not exist or is damaged."""
    path = Path(folder)
    run = run_of(read_run_checkpoint(path / CHECKPOINT if path.is_dir() or not path.suffix else path), str(path))
    return replace(run, path=path)


def run_of(saved: Mapping[str, Any], where: str = "memory") -> Run:
    """The run in the content of a checkpoint that was read from ``where``.

    Raises UserError where the content is damaged or has no head that scores features.
    """
    try:
        head = _build(saved["head"], where)
        head.load_state_dict(saved["model"])
        stats, standard = saved["reg_stats"], saved["standardisation"]
        return Run(
            head=head.eval(),
            labels=tuple(saved["labels"]),
            streams=tuple(saved["streams"]),
            reg_stats=None if stats is None else stats.numpy(),
            standardisation=None if standard is None else Standardisation(standard["mean"], standard["scale"]),
            augmentation=_augmentation(saved),
            config=dict(saved["config"]),
            recipe=saved["store"]["recipe"],
            fingerprint=saved["store"]["fingerprint"],
            epoch=saved["epoch"],
            finished=saved["finished"],
        )
    except (LookupError, RuntimeError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"the checkpoint in {where} is damaged: {' '.join(str(error).split())}") from None


def _augmentation(saved: Mapping[str, Any]) -> tuple[float, float]:
    """Version 0.1 recorded the augmentation among the options of the training only."""
    start, end = saved["augmentation"] if "augmentation" in saved else saved["config"]["augmentation"]
    return float(start), float(end)


def actionness_scores(run: Run, features: ArrayLike | Tensor | Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Logits [background, action] of each row, float32 ``(T, 2)``; ``features`` as in :meth:`Run.prepare`.

    Raises UserError where ``run`` is not a run of the actionness head.
    """
    if not isinstance(run.head, ActionnessHead):
        raise UserError(f"this is a run of the {run.kind} head; actionness needs a run of --head actionness")
    with torch.inference_mode():
        logits: NDArray[np.float32] = run.head(run.prepare(features)).numpy()
    return logits


def describe_head(head: SSNHead | ActionnessHead) -> dict[str, Any]:
    """The entry ``head`` of a checkpoint: kind and shape of a head, as plain values."""
    description: dict[str, Any] = {"kind": head.kind, "feature_dim": head.feature_dim}
    if isinstance(head, ActionnessHead):
        return {**description, "dropout": head.dropout}
    return {**description, "classes": head.classes, "options": to_dict(head.options)}


def _build(description: Mapping[str, Any], where: str) -> SSNHead | ActionnessHead:
    """A head of the described kind and shape."""
    kind = description["kind"]
    if kind == ActionnessHead.kind:
        return ActionnessHead(description["feature_dim"], description["dropout"])
    if kind == SSNHead.kind:
        options = from_record(SSNOptions, description["options"], f"{where}: the head")
        return SSNHead(description["feature_dim"], description["classes"], options)
    raise UserError(f"{where} is a run of --head {kind}: it has no head for detections")


def scoring_facts(
    labels: Sequence[str],
    streams: Sequence[str],
    standardisation: Standardisation | None,
    store: FeatureStore,
    augmentation: tuple[float, float],
) -> dict[str, Any]:
    """Entries of a checkpoint that scoring needs besides ``model``, ``head`` and ``reg_stats``; see :class:`Run`."""
    return {
        "labels": list(labels),
        "streams": list(streams),
        "standardisation": None if standardisation is None else vars(standardisation),
        "store": {"name": store.name, "recipe": store.recipe, "fingerprint": store.fingerprint},
        "augmentation": list(augmentation),
    }


class RunFolder:
    """A run folder to write."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def checkpoint_to_resume(self, options: Any) -> dict[str, Any] | None:
        """The content of the checkpoint to resume, None for a new run. Writes nothing.

        ``options``: a dataclass with ``resume`` and ``overwrite``. Raises UserError where the folder holds a run and
        neither is set, and where the options differ from those of the run to resume.
        """
        if options.overwrite or not (self.path / CHECKPOINT).exists():
            return None
        if not options.resume:
            raise UserError(f"{self.path} already holds a run: add --resume or --overwrite, or another --out")
        saved = read_run_checkpoint(self.path / CHECKPOINT)
        self._require_same(options, saved)
        return saved

    def create(self, options: Any) -> None:
        """Create the folder of a new run with its config.yaml, and delete the files of an earlier run.

        ``options``: a dataclass. Raises UserError where the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for name in (CHECKPOINT, BEST, "log.jsonl", "summary.json"):
                (self.path / name).unlink(missing_ok=True)
            for events in (self.path / EVENTS).glob("events.out.tfevents.*"):
                events.unlink()
            once = {"resume", "overwrite"} & {field.name for field in fields(options)}
            save_yaml(replace(options, **dict.fromkeys(once, False)), self.path / "config.yaml")
        except OSError as error:
            raise UserError(f"cannot write the run folder {self.path}: {error.strerror}") from None
        self._write_json("environment.json", environment())

    def _require_same(self, options: Any, saved: Mapping[str, Any]) -> None:
        # Parsed as today's options: a run that began before an option existed has its default.
        began = from_record(type(options), saved["config"], f"{self.path}: configuration")
        require_same(self.path, began, options, RESUME_MAY_CHANGE)

    def save(self, state: Mapping[str, Any], name: str = CHECKPOINT) -> None:
        """Write a checkpoint atomically. Raises UserError where it cannot be written."""
        whole = {"format": FORMAT, "version": FORMAT_VERSION, **state}
        write_atomically(self.path / name, lambda file: torch.save(whole, file))

    def log(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write the whole log, one JSON object per line."""
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write_atomically(self.path / "log.jsonl", lambda file: file.write(text.encode()))

    def summarise(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json."""
        self._write_json("summary.json", summary)

    def read_summary(self, quiet: bool) -> dict[str, Any]:
        """The summary of the finished run, printed as one line unless ``quiet``."""
        try:
            summary: dict[str, Any] = json.loads((self.path / "summary.json").read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"the run {self.path} is finished but its summary.json cannot be read: {error}") from None
        if not quiet:
            print(
                f"{self.path}: {format_terms(summary['final'])} after {summary['steps']} steps "
                f"on {summary['videos']} videos, {summary['seconds']:.1f} s"
            )
        return summary

    def _write_json(self, name: str, values: Mapping[str, Any]) -> None:
        text = json.dumps(values, indent=2) + "\n"
        write_atomically(self.path / name, lambda file: file.write(text.encode()))


def require_same(path: Path, began: Any, options: Any, may_differ: Collection[str]) -> None:
    """Raise UserError where ``options`` differ from those that the run in ``path`` ``began`` with.

    Fields with a name in ``may_differ`` are not compared.
    """

    def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, value in values.items():
            result |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
        return result

    before, now = flat(to_dict(began)), flat(to_dict(options))
    odd = [n for n in now if n.rpartition(".")[2] not in may_differ and before.get(n) != now[n]]
    if odd:
        each = "; ".join(f"{name} was {before.get(name)!r} and is {now[name]!r}" for name in odd)
        raise UserError(f"cannot resume {path} with other options: {each}")


def read_run_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint that :meth:`RunFolder.save` wrote, tensors on the CPU. Never runs code in the file.

    Raises UserError where the file does not exist, cannot be read, or has another format.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"no run at {path.parent}: it has no {path.name}; python train/fit.py writes one") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    try:
        saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a file that is not a pickle raises nearly anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{path} is not a checkpoint or is damaged: {reason}") from None
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise UserError(f"{path} is not a checkpoint of this program")
    version = saved.get("version")
    if not isinstance(version, int) or version != FORMAT_VERSION:
        raise UserError(
            f"{path} has checkpoint version {' '.join(repr(version).split()):.20}, this program reads {FORMAT_VERSION}"
        )
    return saved


def format_terms(terms: Mapping[str, Any]) -> str:
    """The losses and accuracies of a line of the log as text."""
    return ", ".join(f"{name} {value:.3f}" for name, value in terms.items() if name not in ("epoch", "lr"))


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file next to ``path`` and rename it once it is complete and on disk."""
    with replacing(path) as part, part.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def environment() -> dict[str, Any]:
    """Versions of the software and the machine, as plain values."""
    return {
        "ssn_feat": ssn_feat.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "command": sys.argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


__all__ = [
    "Run",
    "RunFolder",
    "actionness_scores",
    "describe_head",
    "environment",
    "format_terms",
    "load_run",
    "read_run_checkpoint",
    "require_same",
    "run_of",
    "scoring_facts",
    "write_atomically",
]
