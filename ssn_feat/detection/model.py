"""A model folder: everything that is needed to detect actions in a video file, in a folder that can be moved.

::

    MODEL/model.yaml       options of proposals, fusion and post-processing
    MODEL/actionness-1/    run folder of each actionness head
    MODEL/ssn-1/           run folder of each SSN head; its checkpoint holds the recipe of the features
    MODEL/weights/         weights of the backbones, if they are files
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations import Video
from ssn_feat.backbones import Backbone
from ssn_feat.cli import from_record, read_yaml, save_yaml
from ssn_feat.detection.postprocess import PostprocessOptions, postprocess
from ssn_feat.detection.scores import ProposalScores, fuse
from ssn_feat.detection.scoring import Scorer, clip_to_video
from ssn_feat.devices import device_of
from ssn_feat.drawing.timeline import Timeline
from ssn_feat.errors import UserError
from ssn_feat.extraction import ExtractOptions, backbones_of, extract_video, snippet_options_of
from ssn_feat.proposals import Proposals, TagOptions, action_probability, fuse_actionness, tag
from ssn_feat.proposals.actionness import FusionName
from ssn_feat.results.detections import Detections
from ssn_feat.results.ragged import Float
from ssn_feat.runs.checkpoints import Run, actionness_scores, load_run
from ssn_feat.store import FeatureStore
from ssn_feat.terminal import printable
from ssn_feat.video import Probe, SnippetOptions, expected_snippets

SETTINGS = "model.yaml"
# Files of a run folder that a model needs, and those that record its origin.
_OF_A_RUN = ("checkpoint.pt", "config.yaml", "environment.json", "summary.json")
# Parameters of a file of proposals that are not options of TAG.
_NOT_OF_TAG = ("store", "number", "runs", "weights", "fusion", "fingerprint")


@dataclass(frozen=True)
class ModelSettings:
    """The content of ``model.yaml``. Folders and files are named relative to the model folder."""

    actionness: tuple[str, ...]
    """Folders of the actionness runs."""
    ssn: tuple[str, ...]
    """Folders of the SSN runs."""
    actionness_weights: tuple[float, ...] = ()
    """Weight of each actionness run; by default equal."""
    actionness_fusion: FusionName = "mean"
    """How actionness runs are fused."""
    ssn_weights: tuple[float, ...] = ()
    """Weight of each SSN run; by default equal."""
    original_scoring: bool = False
    """Whether proposals are scored as in the original code."""
    backbones: dict[str, str] = field(default_factory=dict)
    """Weights of the backbone of each stream: a file, or a name that the backbone knows; by default its own weights."""
    flow_network: str = ""
    """File of weights of the network that computes optical flow, if a network does."""
    tag: TagOptions = field(default_factory=TagOptions)
    """How actionness is grouped."""
    proposals: int | None = None
    """Number of proposals kept per video, the best ones (train/propose.py --number); None: all."""
    postprocess: PostprocessOptions = field(default_factory=PostprocessOptions)
    """How raw scores become detections."""


def read_settings(path: Path) -> ModelSettings:
    """Read ``path``, a ``model.yaml`` of this version or of an earlier one.

    Unknown keys are ignored with a note. Raises UserError if the file cannot be read or a value is missing or invalid.
    """
    values = read_yaml(path)
    if "released" in values:  # the name of this setting in version 0.1
        values["original_scoring"] = values.pop("released")
    return from_record(ModelSettings, values, str(path))


def save_model(
    folder: Path,
    store: FeatureStore,
    proposals: Proposals,
    runs: Sequence[Path],
    weights: Sequence[float] = (),
    original_scoring: bool = False,
    options: PostprocessOptions | None = None,
    trusted: Collection[str] = (),
) -> None:
    """Write a model folder with everything that the detections on ``store`` were made with.

    An existing model in ``folder`` is replaced. ``proposals`` name the actionness runs and options that made them, the
    store names the weights of its backbones. ``trusted``: as in :meth:`Model.load`.
    Raises UserError if the proposals were not made by TAG, a file is missing or has changed, or ``folder`` holds
    something else than a model.
    """
    if folder.exists() and not (folder / SETTINGS).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not a model folder: choose another one")
    if options is not None and options.classifier is not None:
        raise UserError("a model folder cannot hold an outside classifier: save it without --classifier")
    made = _made_by(proposals)
    chosen, flow_network = _weights_of(store)
    backbones_of(store.recipe, chosen, "cpu", flow_network, trusted)  # raises UserError on weights that have changed
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        settings = ModelSettings(
            actionness=_copy_runs(made["runs"], part, "actionness"),
            ssn=_copy_runs(runs, part, "ssn"),
            actionness_weights=tuple(made["weights"]),
            actionness_fusion=made["fusion"],
            ssn_weights=tuple(weights),
            original_scoring=original_scoring,
            backbones={s: _copy_weights(w, part, s) for s, w in chosen.items() if w is not None},
            flow_network=_copy_weights(flow_network, part, "flow-network") if flow_network else "",
            tag=made["tag"],
            proposals=made["number"],
            postprocess=options or PostprocessOptions(),
        )
        save_yaml(settings, part / SETTINGS)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(part, folder)
    except OSError as error:
        raise UserError(f"cannot write the model {folder}: {error}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _made_by(proposals: Proposals) -> dict[str, Any]:
    """Runs, weights, fusion and options of TAG, from the parameters of the proposals."""
    known = proposals.parameters
    if proposals.method != "tag" or "runs" not in known:
        raise UserError(
            f"a model needs proposals of the method 'tag', but these are of method {proposals.method!r}: "
            "make them by train/propose.py --actionness RUN"
        )
    options = from_record(TagOptions, {k: v for k, v in known.items() if k not in _NOT_OF_TAG}, "the file of proposals")
    runs = [Path(run) for run in known["runs"]]
    missing = [run for run in runs if not run.exists()]
    if missing:
        raise UserError(
            f"these proposals were made with the actionness run {missing[0]}, which does not exist: restore it, or "
            "start in the folder in which train/propose.py was started"
        )
    return {
        "runs": runs,
        **{k: known[k] for k in ("weights", "fusion")},
        "number": known.get("number"),
        "tag": options,
    }


def _weights_of(store: FeatureStore) -> tuple[dict[str, str | None], str]:
    """The weights, by stream, with which the features of the store were extracted, and those of the flow network."""
    made = store.runs()
    if not made:
        return dict.fromkeys(store.streams), ""
    options = from_record(ExtractOptions, made[0]["options"], f"the store {store.path}")
    return {stream: options.weights_of(stream) for stream in store.streams}, options.snippets.flow_weights


def _copy_runs(runs: Sequence[Path], folder: Path, kind: str) -> tuple[str, ...]:
    names = []
    for number, run in enumerate(runs, start=1):
        load_run(run)  # raises UserError on a run that cannot be read
        target = folder / f"{kind}-{number}"
        target.mkdir()
        if run.is_file():  # a checkpoint of a run, such as best.pt
            shutil.copyfile(run, target / _OF_A_RUN[0])
        for name in _OF_A_RUN:
            if run.is_dir() and (run / name).exists():
                shutil.copyfile(run / name, target / name)
        names.append(target.name)
    return tuple(names)


def _copy_weights(weights: str, folder: Path, name: str) -> str:
    """The name of the copy, or ``weights`` itself if it is not a file."""
    if not Path(weights).is_file():
        return weights
    target = folder / "weights" / f"{name}{Path(weights).suffix}"
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(weights, target)
    return str(target.relative_to(folder))


@dataclass(frozen=True)
class DetectedVideo:
    """The detections of a model in one video, with its proposals and actionness."""

    video: Video
    """Id (the file name without its suffix) and duration; without instances."""
    detections: Detections
    """Detections in this video."""
    intervals: Float
    """Proposals, best first, float64 ``(N, 2)``, seconds."""
    actionness: NDArray[np.float32]
    """Probability of action in each snippet, ``(T,)``."""
    spans: Float
    """Start and end of each snippet, ``(T, 2)``, seconds."""

    def __repr__(self) -> str:
        return (
            f"DetectedVideo({self.video.id!r}: {self.video.duration:.1f} s, "
            f"{len(self.detections.scores)} detections from {len(self.intervals)} proposals)"
        )

    @property
    def timeline(self) -> Timeline:
        """The timeline of the video, to draw."""
        return Timeline(self.video, self.actionness, self.spans, self.intervals, self.detections[self.video.id])


class Model:
    """Detects actions in video files. Made by :meth:`load`."""

    def __init__(
        self,
        settings: ModelSettings,
        actionness: Sequence[Run],
        ssn: Sequence[Run],
        backbones: Mapping[str, Backbone],
        snippets: SnippetOptions,
    ) -> None:
        self.settings, self.labels = settings, ssn[0].labels
        self._actionness, self._backbones, self._snippets = actionness, backbones, snippets
        self._scorers = [Scorer(run, settings.original_scoring) for run in ssn]
        self._keep_crops = bool(ssn[0].recipe.get("keep_crops"))

    @classmethod
    def load(cls, folder: Path | str, device: str = "auto", trusted: Collection[str] = ()) -> Model:
        """Read a model folder, which ``ssn-feat detect --save-model FOLDER`` makes.

        ``device``: of the networks: cpu, cuda, cuda:1, ...; auto: a GPU if there is one. ``trusted``: the
        only backbones ``package.module:callable`` that are imported because the model names them. Raises UserError if
        the model names another, or if one of its parts is missing or does not fit the others.

        ::

            model = sf.Model.load("model")
            found = model.detect("clip.mp4")
            found.detections["clip"].intervals  # start and end in seconds, best first
        """
        folder = Path(folder)
        if not (folder / SETTINGS).is_file():
            raise UserError(
                f"{folder} is not a model folder: it has no {SETTINGS} (train/detect.py store --save-model makes one)"
            )
        settings = read_settings(folder / SETTINGS)
        actionness = [load_run(folder / name) for name in settings.actionness]
        runs = [load_run(folder / name) for name in settings.ssn]
        if not runs or not actionness:
            raise UserError(f"{folder / SETTINGS} must name at least one SSN run and one actionness run")
        for run in (*actionness, *runs[1:]):
            run.require_store(runs[0].fingerprint, f"the first run of {folder}")
        chosen = {stream: _inside(folder, name) for stream, name in settings.backbones.items()}
        flow_network = _inside(folder, settings.flow_network) if settings.flow_network else ""
        backbones = backbones_of(runs[0].recipe, chosen, str(device_of(device)), flow_network, trusted)
        return cls(settings, actionness, runs, backbones, snippet_options_of(runs[0].recipe, flow_network))

    def __repr__(self) -> str:
        streams = " + ".join(f"{name} {printable(backbone.name)}" for name, backbone in self._backbones.items())
        heads = f"{len(self._actionness)} actionness and {len(self._scorers)} SSN heads"
        return f"Model({len(self.labels)} classes, {heads}, {streams})"

    def expected_snippets(self, about: Probe) -> int:
        """Expected number of snippets of a video with the container properties ``about``; 0 if they do not tell."""
        return expected_snippets(about, self._snippets)

    def detect(self, path: Path | str, on_rows: Callable[[int], None] | None = None) -> DetectedVideo:
        """Detect actions in a video file; ``on_rows`` is called with the number of snippets after each batch.

        Features are rounded to float16 as in a store, so that the result is the same as with a store.
        Raises UserError if the video cannot be read.
        """
        path = Path(path)
        extracted = extract_video(path, self._backbones, self._snippets, keep_crops=self._keep_crops, on_rows=on_rows)
        features = {stream: _rounded(rows, path) for stream, rows in extracted.features.items()}
        duration, spans = float(extracted.info["duration"]), extracted.spans
        logits, spans = self._fused_actionness(features, spans)
        intervals, _ = tag(logits, spans, self.settings.tag)  # best first
        intervals = intervals[: self.settings.proposals]
        proposals = clip_to_video(intervals, duration)
        video = Video(path.stem, duration, "", fps=extracted.info["fps"])
        scores = [
            ProposalScores.of(self.labels, {video.id: scorer(features, extracted.spans, duration, proposals)})
            for scorer in self._scorers
        ]
        detections = postprocess(fuse(scores, self.settings.ssn_weights), self.settings.postprocess)
        return DetectedVideo(video, detections, proposals, action_probability(logits), spans)

    def _fused_actionness(
        self, features: Mapping[str, NDArray[np.float16]], spans: Float
    ) -> tuple[NDArray[np.float32], Float]:
        sources = [(actionness_scores(run, features), spans) for run in self._actionness]
        return fuse_actionness(sources, self.settings.actionness_weights, self.settings.actionness_fusion)


def _inside(folder: Path, name: str) -> str:
    """The path of the file ``name`` in the model folder; ``name`` itself if there is no such file."""
    return str(folder / name) if (folder / name).is_file() else name


def _rounded(rows: NDArray[np.float32], path: Path) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        rounded = rows.astype(np.float16)
    if not np.isfinite(rounded).all():
        raise UserError(f"{path}: the backbone returns features that are not finite in float16")
    return rounded
