"""One video file to detections: what ``train/detect.py video VIDEO --model DIR`` does."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from ssn_feat.detection.model import DetectedVideo, Model
from ssn_feat.drawing.pictures import check_picture, save
from ssn_feat.drawing.tables import cell, show, table_of
from ssn_feat.drawing.timeline import TimelineOptions, timeline_figure
from ssn_feat.errors import UserError
from ssn_feat.progress import progress_bar
from ssn_feat.video import probe


@dataclass(frozen=True)
class DetectVideoOptions:
    """Find actions in one video file, with a model that train/detect.py store --save-model made."""

    video: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="VIDEO")]
    """The video file."""
    model: Path
    """The model folder."""
    trust_modules: tuple[str, ...] = ()
    """Backbones package.module:callable to import although the model alone names them: their code is run."""
    out: Path | None = None
    """Detections to write, as ActivityNet result JSON; default: VIDEO's name with .detections.json, here."""
    picture: Path | None = None
    """Timeline to draw (.png, .svg, .pdf); default: like the detections, with .png."""
    shown: int = 10
    """How many detections are printed, best first."""
    device: str = "auto"
    """Where the networks run: cpu, cuda, cuda:1, ...; auto takes a GPU where there is one."""
    quiet: bool = False
    """Print nothing."""
    timeline: TimelineOptions = field(default_factory=TimelineOptions)
    """What the timeline shows."""

    def __post_init__(self) -> None:
        if self.shown < 1:
            raise UserError(f"shown must be at least 1, not {self.shown}")
        check_picture(self.picture)
        written = self.written
        if written[0] == written[1]:
            raise UserError(f"detections and their picture cannot both be {written[0]}: give --out or --picture")

    @property
    def written(self) -> tuple[Path, Path]:
        """Where detections and picture go."""
        out = self.out or Path(f"{self.video.stem}.detections.json")
        return out, self.picture or out.with_suffix(".png")


def detect_video(options: DetectVideoOptions) -> DetectedVideo:
    """Find actions in one video file: features in memory, actionness, proposals, scores, detections, a timeline.

    Raises UserError where the video or the model cannot be read.
    """
    started = time.perf_counter()
    about = probe(options.video)
    model = Model.load(options.model, options.device, options.trust_modules)
    rows = max(1, model.expected_snippets(about))
    with nullcontext(None) if options.quiet else progress_bar("looking", rows) as advance:
        found = model.detect(options.video, advance)
    out, picture = options.written
    found.detections.write(out)
    save(timeline_figure([found.timeline], model.labels, options.timeline), picture)
    if not options.quiet:
        _print(found, options.shown)
        seconds = time.perf_counter() - started
        print(f"{out}, {picture}: {found.video.duration:.1f} s of video in {seconds:.1f} s")
    return found


def _print(found: DetectedVideo, shown: int) -> None:
    own = found.detections[found.video.id]
    table = table_of("class", "start", "end", "score")
    for row in range(min(shown, len(own.scores))):
        start, end = own.intervals[row]
        table.add_row(
            cell(found.detections.labels[own.classes[row]]), f"{start:.2f} s", f"{end:.2f} s", f"{own.scores[row]:.3g}"
        )
    show(table)
    print(f"{len(own.scores)} detections from {len(found.intervals)} proposals")
