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
from ssn_feat.terminal import counted
from ssn_feat.video import probe


@dataclass(frozen=True)
class DetectVideoOptions:
    """Find actions in one video file, with a model that train/detect.py store --save-model made."""

    video: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="VIDEO")]
    """The video file."""
    model: Path
    """The model folder."""
    trust_modules: tuple[str, ...] = ()
    """Backbones package.module:callable named by the model that may be imported, which runs their code."""
    out: Path | None = None
    """File of detections to write (ActivityNet result JSON); default: the name of VIDEO with .detections.json, in the
    current folder."""
    picture: Path | None = None
    """Timeline to draw (.png, .svg, .pdf); default: the name of the detections with .png."""
    all: bool = False
    """Keep all detections even if the model has an operating point (bench/operating_point.py), which removes those with
    low scores."""
    shown: int = 10
    """Number of detections to print, best first."""
    device: str = "auto"
    """Device of the networks: cpu, cuda, cuda:1, ...; auto: a GPU if there is one."""
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
            raise UserError(f"detections and picture cannot both be written to {written[0]}: give --out or --picture")

    @property
    def written(self) -> tuple[Path, Path]:
        """Paths of the detections and of the picture."""
        out = self.out or Path(f"{self.video.stem}.detections.json")
        return out, self.picture or out.with_suffix(".png")


def detect_video(options: DetectVideoOptions) -> DetectedVideo:
    """Detect actions in one video file and draw a timeline.

    Raises UserError if the video or the model cannot be read.
    """
    started = time.perf_counter()
    about = probe(options.video)
    model = Model.load(options.model, options.device, options.trust_modules)
    rows = max(1, model.expected_snippets(about))
    with nullcontext(None) if options.quiet else progress_bar("extracting", rows) as advance:
        result = model.detect(options.video, advance, options.all)
    out, picture = options.written
    result.detections.write(out)
    save(timeline_figure([result.timeline], model.labels, options.timeline), picture)
    if not options.quiet:
        _print(result, options.shown)
        seconds = time.perf_counter() - started
        print(f"{out}, {picture}: {result.video.duration:.1f} s of video in {seconds:.1f} s")
    return result


def _print(result: DetectedVideo, shown: int) -> None:
    detections = result.detections[result.video.id]
    table = table_of("class", "start", "end", "score")
    for row in range(min(shown, len(detections.scores))):
        start, end = detections.intervals[row]
        table.add_row(
            cell(result.detections.labels[detections.classes[row]]),
            f"{start:.2f} s",
            f"{end:.2f} s",
            f"{detections.scores[row]:.3g}",
        )
    show(table)
    proposals = counted(len(result.intervals), "proposal")
    print(f"{counted(len(detections.scores), 'detection')} from {proposals}")
    if result.dropped:
        print(
            f"left out: {counted(result.dropped, 'detection')} below the operating point of the model; --all keeps them"
        )
