"""How detections were made, as far as files tell: to write commands that repeat a step with other options."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

from ssn_feat.annotations import Dataset
from ssn_feat.errors import UserError
from ssn_feat.proposals import Proposals, TagOptions
from ssn_feat.store import FeatureStore, open_store

# With at most this many training videos, commands contain the preset "small".
_SMALL_SET = 200


@dataclass(frozen=True)
class Origin:
    """What is known of how detections were made; commands name the rest in capitals."""

    known: Dataset
    """All annotated videos."""
    evaluated: Dataset
    """The evaluated videos."""
    annotations: str = "ANNOTATIONS"
    """The annotations, as the command line names them."""
    subset: str = ""
    """The evaluated subset; empty if all videos are evaluated."""
    detections: Path | None = None
    """File of the detections."""
    proposals: Proposals | None = None
    """The proposals that the detections were made from."""

    @property
    def training(self) -> Dataset | None:
        """The annotated training videos: the subset ``training``, or the only one that is not evaluated."""
        evaluated = {video.subset for video in self.evaluated.videos.values()}
        others = [name for name in self.known.subsets if name not in evaluated]
        name = "training" if "training" in others else others[0] if len(others) == 1 else None
        return None if name is None else self.known.subset(name)

    @property
    def scores(self) -> list[Path]:
        """Files of raw scores that train/detect.py wrote beside the detections."""
        if self.detections is None:
            return []
        return sorted(self.detections.parent.glob(f"{self.detections.stem}.scores-*.npz"))

    @property
    def store(self) -> str:
        """The feature store of the proposals."""
        return str(self._made_with("store", "STORE"))

    @cached_property
    def _opened(self) -> FeatureStore | None:
        try:
            return open_store(self.store)
        except UserError:
            return None

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams of the store; ``rgb`` if it cannot be read."""
        return ("rgb",) if self._opened is None else tuple(sorted(self._opened.streams, reverse=True))

    @property
    def lacking_streams(self) -> list[str]:
        """Streams of the store without a head, as far as the names of the files of scores tell: one is named."""
        lacking = [stream for stream in self.streams if not any(stream in path.name for path in self.scores)]
        return lacking if len(lacking) < len(self.streams) else []

    @property
    def half_stride(self) -> int:
        """Half of the stride of the store, in frames; 4 if it is unknown."""
        snippets = {} if self._opened is None else self._opened.recipe.get("snippets", {})
        return max(1, int(snippets.get("stride", 8)) // 2)

    def _made_with(self, name: str, default: object) -> object:
        return default if self.proposals is None else self.proposals.parameters.get(name, default)

    @property
    def proposal_file(self) -> str:
        """The file of proposals."""
        path = None if self.proposals is None else self.proposals.path
        return "PROPOSALS.npz" if path is None else str(path)

    @property
    def actionness(self) -> list[str]:
        """The actionness runs of the proposals."""
        runs = self._made_with("runs", ["ACTIONNESS-RUN"])
        return [str(run) for run in runs] if isinstance(runs, list | tuple) else []

    def propose(self, *options: str, runs: Iterable[str] | None = None) -> str:
        """The command that makes the proposals again, with ``options``, and with the options of TAG that they have."""
        given = ["--store", self.store, "--actionness", *(self.actionness if runs is None else runs)]
        for option in fields(TagOptions):
            value = self._made_with(option.name, option.default)
            value = tuple(value) if isinstance(value, list) else value
            flag = f"--{option.name.replace('_', '-')}"
            if value != option.default and flag not in options:
                given += [flag] if value is True else [flag, *map(str, value if isinstance(value, tuple) else [value])]
        fusion, weights = self._made_with("fusion", "mean"), self._made_with("weights", ())
        given += ["--fusion", str(fusion)] if fusion != "mean" else []
        if runs is None and isinstance(weights, list | tuple) and weights:
            given += ["--weights", *map(str, weights)]
        number = self._made_with("number", None)
        given += ["--number", str(number)] if number is not None and "--number" not in options else []
        return command("train/propose.py", *given, *options, "--out", second(Path(self.proposal_file)))

    def fit(self, head: str, *options: str, out: str) -> str:
        """The command that trains a head."""
        small = self.training is not None and len(self.training.videos) <= _SMALL_SET
        data = ["--store", self.store, "--annotations", self.annotations]
        return command("train/fit.py", "head", head, *(["small"] if small else []), *data, *options, "--out", out)

    def detect_again(self, *options: str) -> str:
        """The command that repeats post-processing with the raw scores."""
        scores = [str(path) for path in self.scores] or ["SCORES.npz"]
        chosen = ["--annotations", self.annotations, "--subset", self.subset] if self.subset else []
        out = second(self.detections or Path("found.json"))
        return command("train/detect.py", "store", "--scores", *scores, *chosen, *options, "--out", out)


def command(*words: str) -> str:
    """A command line to paste into a shell; patterns of file names are left to the shell."""
    return " ".join(["python", *(word if "*" in word else shlex.quote(word) for word in words)])


def second(path: Path) -> str:
    """The name of a new version of a file."""
    return str(path.with_name(f"{path.stem}-2{path.suffix}"))


__all__ = ["Origin", "command", "second"]
