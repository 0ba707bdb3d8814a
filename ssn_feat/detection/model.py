"""Detection of actions in a video file with a model folder (:mod:`ssn_feat.detection.model_folder`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations import Video
from ssn_feat.backbones import Backbone
from ssn_feat.detection.model_folder import ModelSettings, read_model
from ssn_feat.detection.postprocess import postprocess
from ssn_feat.detection.scores import ProposalScores, fuse
from ssn_feat.detection.scoring import Scorer, clip_to_video
from ssn_feat.devices import device_of
from ssn_feat.drawing.timeline import Timeline
from ssn_feat.errors import UserError
from ssn_feat.extraction import backbones_of, extract_video, snippet_options_of
from ssn_feat.proposals import action_probability, fuse_actionness, tag
from ssn_feat.results.detections import Detections
from ssn_feat.results.operating_point import OperatingPoint
from ssn_feat.results.ragged import Float
from ssn_feat.runs.checkpoints import Run, actionness_scores
from ssn_feat.terminal import printable
from ssn_feat.video import Probe, SnippetOptions, expected_snippets


@dataclass(frozen=True)
class DetectedVideo:
    """The detections of a model in one video, with its proposals and actionness."""

    video: Video
    """Id (the file name without its suffix) and duration; without instances."""
    detections: Detections
    """Detections in this video; with an operating point only those from its thresholds on, unless all are wanted."""
    intervals: Float
    """Proposals, best first, float64 ``(N, 2)``, seconds."""
    actionness: NDArray[np.float32]
    """Probability of action in each snippet, ``(T,)``."""
    spans: Float
    """Start and end of each snippet, ``(T, 2)``, seconds."""
    dropped: int = 0
    """Number of detections below the thresholds of the model's operating point."""

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
        operating_point: OperatingPoint | None = None,
    ) -> None:
        self.settings, self.labels, self.operating_point = settings, ssn[0].labels, operating_point
        if operating_point is not None:
            operating_point.of(self.labels)  # raises UserError if a class has no threshold
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
        parts = read_model(Path(folder))
        backbones = backbones_of(parts.recipe, parts.weights, str(device_of(device)), parts.flow_network, trusted)
        snippets = snippet_options_of(parts.recipe, parts.flow_network)
        return cls(parts.settings, parts.actionness, parts.ssn, backbones, snippets, parts.operating_point)

    def __repr__(self) -> str:
        streams = " + ".join(f"{name} {printable(backbone.name)}" for name, backbone in self._backbones.items())
        heads = f"{len(self._actionness)} actionness and {len(self._scorers)} SSN heads"
        return f"Model({len(self.labels)} classes, {heads}, {streams})"

    def expected_snippets(self, about: Probe) -> int:
        """Expected number of snippets of a video with the container properties ``about``; 0 if they do not tell."""
        return expected_snippets(about, self._snippets)

    def detect(
        self, path: Path | str, on_rows: Callable[[int], None] | None = None, all_detections: bool = False
    ) -> DetectedVideo:
        """Detect actions in a video file; ``on_rows`` is called with the number of snippets after each batch.

        If the model has an operating point (bench/operating_point.py), detections below its thresholds are left out,
        unless ``all_detections``. Features are rounded to float16 as in a store, so that the result is the same as with
        a store. Raises UserError if the video cannot be read.
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
        kept = detections
        if self.operating_point is not None and not all_detections:
            kept = self.operating_point.keep(detections)
        dropped = len(detections.scores) - len(kept.scores)
        return DetectedVideo(video, kept, proposals, action_probability(logits), spans, dropped)

    def _fused_actionness(
        self, features: Mapping[str, NDArray[np.float16]], spans: Float
    ) -> tuple[NDArray[np.float32], Float]:
        sources = [(actionness_scores(run, features), spans) for run in self._actionness]
        return fuse_actionness(sources, self.settings.actionness_weights, self.settings.actionness_fusion)


def _rounded(rows: NDArray[np.float32], path: Path) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        rounded = rows.astype(np.float16)
    if not np.isfinite(rounded).all():
        raise UserError(f"{path}: the backbone returns features that are not finite in float16")
    return rounded
