"""Run folders: the files of a training run, written and read.

::

    RUN/config.yaml        the options; python train/fit.py head KIND RUN/config.yaml --out NEW repeats the run
    RUN/environment.json   versions and machine
    RUN/log.jsonl          one line per epoch: mean losses, accuracy, learning rate, metrics of --eval
    RUN/checkpoint.pt      weights and everything needed to resume or to score: only tensors and plain values
    RUN/best.pt            with --eval: the checkpoint of the best measured epoch, for detect.py --checkpoint
    RUN/tensorboard/       with --tensorboard: the log as events
    RUN/summary.json       final results, written when the run is finished
    RUN/hashes.json        SHA-256 of the files above except events, which are checked when the run is read
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import ssn_feat
from ssn_feat.cli import as_yaml, from_record, to_dict
from ssn_feat.errors import UserError
from ssn_feat.files import torch_bytes
from ssn_feat.hashes import HASHES, HashedFolder, check_files, read_checked
from ssn_feat.runs.checkpoints import CHECKPOINT, FORMAT, FORMAT_VERSION, read_run_checkpoint

BEST = "best.pt"
EVENTS = "tensorboard"
# Options that do not change what is learned: a resumed run may use other values.
RESUME_MAY_CHANGE = ("out", "resume", "overwrite", "quiet", "threads", "features", "allow_duration_mismatch")
# Any of these files makes a folder a run folder.
_RUN_FILES = ("config.yaml", "log.jsonl", "summary.json", "checkpoint.pt")


def is_run(path: Path) -> bool:
    """Whether ``path`` is a run folder."""
    return any((path / name).is_file() for name in _RUN_FILES)


def run_folders(path: Path) -> list[Path]:
    """The run folders inside ``path``, sorted by name; ``path`` itself if it contains none.

    The runs of ``--fusion late`` or of several seeds can thus be given as the folder that contains them.
    """
    if not path.is_dir() or (path / "checkpoint.pt").is_file():
        return [path]
    inside = (folder for folder in path.iterdir() if is_run(folder))
    return sorted(run for folder in inside for run in run_folders(folder)) or [path]


class RunFolder:
    """A run folder to write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = HashedFolder(path)

    def checkpoint_to_resume(self, options: Any) -> dict[str, Any] | None:
        """The content of the checkpoint to resume, None for a new run. Writes nothing.

        ``options``: a dataclass with ``resume`` and ``overwrite``. Raises UserError if the folder holds a run and
        neither is set or if the options differ from those of the run to resume.
        """
        if options.overwrite or not (self.path / CHECKPOINT).exists():
            return None
        if not options.resume:
            raise UserError(f"{self.path} already holds a run: add --resume or --overwrite, or another --out")
        check_files(self.path)
        saved = read_run_checkpoint(self.path / CHECKPOINT)
        self._require_same(options, saved)
        return saved

    def create(self, options: Any) -> None:
        """Create the folder of a new run with its config.yaml, and delete the files of an earlier run.

        ``options``: a dataclass. Raises UserError if the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / HASHES).unlink(missing_ok=True)
            self.files.forget((CHECKPOINT, BEST, "log.jsonl", "summary.json"))
            for events in (self.path / EVENTS).glob("events.out.tfevents.*"):
                events.unlink()
        except OSError as error:
            raise UserError(f"cannot write the run folder {self.path}: {error.strerror}") from None
        once = {"resume", "overwrite"} & {field.name for field in fields(options)}
        self.files.write("config.yaml", as_yaml(replace(options, **dict.fromkeys(once, False))).encode())
        self._write_json("environment.json", environment())

    def _require_same(self, options: Any, saved: Mapping[str, Any]) -> None:
        # Parsed as today's options: a run that began before an option existed has its default.
        began = from_record(type(options), saved["config"], f"{self.path}: configuration")
        require_same(self.path, began, options, RESUME_MAY_CHANGE)

    def save(self, state: Mapping[str, Any], name: str = CHECKPOINT) -> None:
        """Write a checkpoint atomically. Raises UserError if it cannot be written."""
        whole = {"format": FORMAT, "version": FORMAT_VERSION, **state}
        self.files.write(name, torch_bytes(whole))

    def log(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write the whole log, one JSON object per line."""
        text = "".join(json.dumps(line) + "\n" for line in lines)
        self.files.write("log.jsonl", text.encode())

    def summarise(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json."""
        self._write_json("summary.json", summary)

    def read_summary(self, quiet: bool) -> dict[str, Any]:
        """The summary of the finished run, printed as one line unless ``quiet``."""
        try:
            summary: dict[str, Any] = json.loads(read_checked(self.path / "summary.json"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"the run {self.path} is finished but its summary.json cannot be read: {error}") from None
        if not quiet:
            print(
                f"{self.path}: {format_terms(summary['final'])} after {summary['steps']} steps "
                f"on {summary['videos']} videos, {summary['seconds']:.1f} s"
            )
        return summary

    def _write_json(self, name: str, values: Mapping[str, Any]) -> None:
        text = json.dumps(values, indent=2) + "\n"
        self.files.write(name, text.encode())


def require_same(path: Path, began: Any, options: Any, may_differ: Collection[str]) -> None:
    """Raise UserError if ``options`` differ from those that the run in ``path`` ``began`` with.

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


def format_terms(terms: Mapping[str, Any]) -> str:
    """The losses and accuracies of a line of the log as text."""
    return ", ".join(f"{name} {value:.3f}" for name, value in terms_of(terms).items())


def terms_of(line: Mapping[str, Any]) -> dict[str, Any]:
    """The losses and accuracies of a line of the log, without its epoch and learning rate."""
    return {name: value for name, value in line.items() if name not in ("epoch", "lr")}


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


__all__ = ["RunFolder", "environment", "format_terms", "is_run", "require_same", "run_folders", "terms_of"]
