"""The toy data set: untrimmed videos, generated in a minute, on which RGB, flow and their fusion differ.

Objects drift in front of a moving texture. An instance of an appearance class is an object with the pattern of that
class; an instance of a motion class is an object with another pattern and an additional motion. Colours, shapes, sizes,
numbers of objects and their appearing and vanishing have the same distribution inside and outside of instances and for
all classes. So a single frame never reveals a motion class, motion never an appearance class, and colour nothing.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import joblib
import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from ssn_feat.annotations import toy_pixels
from ssn_feat.annotations.activitynet import read_activitynet, write_activitynet
from ssn_feat.annotations.dataset import Dataset, Instance, Video
from ssn_feat.annotations.toy_pixels import DRIFT, FPS, HEIGHT, PLAIN, WIDTH, Track
from ssn_feat.cli import load_yaml, save_yaml
from ssn_feat.errors import UserError
from ssn_feat.video.opencv import import_cv2

APPEARANCE_CLASSES = tuple(toy_pixels.APPEARANCES)
MOTION_CLASSES = toy_pixels.MOTIONS
CLASSES = tuple(sorted(APPEARANCE_CLASSES + MOTION_CLASSES))

_SHORTEST = 20.0  # seconds, of videos
_LENGTHS = (1.0, 8.0)  # seconds, of instances and of other objects
_GAP = 1.0  # minimum time between two instances, seconds
_EMPTY = 1 / 12  # fraction of videos without instances
_OTHERS = 1  # sequences of objects besides the one with instances


@dataclass(frozen=True)
class ToyOptions:
    """Options that determine every pixel and annotation of the toy data set."""

    videos: int = 48
    """number of videos: the first half for training, the others for testing"""
    seed: int = 0
    """random seed; video N does not depend on the number of videos, except for its half"""
    shortest: float | None = None
    """duration of the shortest videos, seconds; default: 20, or the longest duration if that is less"""
    longest: float = 60.0
    """maximum duration, seconds; most videos are closer to the shortest"""

    def __post_init__(self) -> None:
        if self.videos < 2:
            raise UserError(
                f"a toy data set needs 2 videos or more, one for training and one for testing: {self.videos}"
            )
        if self.seed < 0:
            raise UserError(f"seed must be 0 or more: {self.seed}")
        if not 3 <= self.least <= self.longest <= 3600:
            raise UserError(
                f"videos last from 3 s to an hour, the shortest no longer than the longest: "
                f"shortest {self.least:g}, longest {self.longest:g}"
            )

    @property
    def least(self) -> float:
        """Duration of the shortest videos, seconds."""
        return min(_SHORTEST, self.longest) if self.shortest is None else self.shortest

    @property
    def resolved(self) -> ToyOptions:
        """The same options with every value stated, as they are recorded."""
        return replace(self, shortest=self.least)


@dataclass(frozen=True)
class ToyCommand:
    """The toy data set and its folder."""

    out: tyro.conf.Positional[Path]
    """folder for videos/ID.webm, annotations.json and toy.yaml (the options)"""
    options: ToyOptions = field(default_factory=ToyOptions)
    """the data set"""
    jobs: int = -1
    """number of processes; -1: one per core"""


@dataclass(frozen=True)
class VideoPlan:
    """A video before it is drawn: its annotations, and all its objects from the farthest to the nearest."""

    video: Video
    tracks: tuple[Track, ...]
    seed: tuple[int, ...]

    def frames(self, every: int = 1) -> Iterator[NDArray[np.uint8]]:
        """The frames before encoding, or every n-th of them, uint8 ``(120, 160, 3)`` BGR."""
        count = self.video.frames or 0
        return toy_pixels.frames(range(0, count, every), count, self.tracks, np.random.default_rng([*self.seed, 1]))


# --- plans; all times in frames


def _length(rng: np.random.Generator) -> int:
    """Length of an instance or object in frames, log-uniform."""
    return int(np.exp(rng.uniform(*np.log(_LENGTHS))) * FPS)


def _instances(options: ToyOptions, rng: np.random.Generator) -> tuple[int, list[Track]]:
    """The length of a video and its instances, separated from each other and from both ends."""
    gap = round(_GAP * FPS)
    lengths = [] if rng.uniform() < _EMPTY else [_length(rng) for _ in range(rng.integers(1, 6))]
    longest = int(options.longest * FPS)
    while sum(lengths) + (len(lengths) + 1) * gap > longest:  # only if videos are shorter than by default
        lengths.pop()
    needed = sum(lengths) + (len(lengths) + 1) * gap
    # Beta(1, 7): the default mean of 26 s keeps computation short while some videos are long.
    count = max(needed, int((options.least + (options.longest - options.least) * rng.beta(1, 7)) * FPS))
    spare = np.sort(rng.integers(0, count - needed + 1, len(lengths)))
    tracks, at = [], 0
    for length, offset in zip(lengths, spare, strict=True):
        at += gap
        label = CLASSES[rng.integers(len(CLASSES))]
        first = at + int(offset)
        tracks.append(_track(label, first, first + length, rng))
        at += length
    return count, tracks


def _track(label: str, first: int, last: int, rng: np.random.Generator) -> Track:
    """An object of a class, or of no class (:data:`DRIFT`)."""
    pattern = label if label in APPEARANCE_CLASSES else tuple(PLAIN)[rng.integers(len(PLAIN))]
    return Track(pattern, label if label in MOTION_CLASSES else DRIFT, first, last)


def _distractors(start: int, stop: int, rng: np.random.Generator) -> list[Track]:
    """Successive objects of no class with pauses between them, within ``[start, stop)``."""
    tracks, at = [], start + int(rng.uniform(0, 2) * FPS)
    while at + _LENGTHS[0] * FPS <= stop:
        last = min(at + _length(rng), stop)
        tracks.append(_track(DRIFT, at, last, rng))
        at = last + int(rng.uniform(0.3, 3) * FPS)
    return tracks


def plan_videos(options: ToyOptions) -> list[VideoPlan]:
    """Plans of all videos of the data set, determined by the options."""
    return [_plan_video(options, index) for index in range(options.videos)]


def _plan_video(options: ToyOptions, index: int) -> VideoPlan:
    seed = (options.seed, index)
    rng = np.random.default_rng([*seed, 0])
    count, instances = _instances(options, rng)
    tracks = [t for _ in range(_OTHERS) for t in _distractors(0, count, rng)]
    # Objects of no class fill the time between instances, so that the number of objects reveals nothing.
    edges = [0, *(edge for t in instances for edge in (t.first, t.last)), count]
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        tracks += _distractors(start, stop, rng)
    labels = [t.pattern if t.motion == DRIFT else t.motion for t in instances]
    video = Video(
        id=f"toy_{index:04d}",
        duration=count / FPS,
        subset="training" if index < (options.videos + 1) // 2 else "testing",
        instances=tuple(
            Instance(label, t.first / FPS, t.last / FPS) for label, t in zip(labels, instances, strict=True)
        ),
        fps=float(FPS),
        frames=count,
    )
    return VideoPlan(video, (*tracks, *instances), seed)


# --- files


@contextmanager
def _native_messages_off() -> Iterator[None]:
    """Silence what libraries write to standard error.

    OpenCV prints one line for every WebM file that it opens for writing, which cannot be turned off.
    """
    sys.stderr.flush()
    stderr, devnull = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(devnull)


def _write_video(planned: VideoPlan, out: Path) -> None:
    """Draw and encode one video; renamed to its final name when complete."""
    cv2 = import_cv2()
    partial = out / "partial" / f"{planned.video.id}.webm"
    with _native_messages_off():
        writer = cv2.VideoWriter(
            str(partial), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"VP80"), float(FPS), (WIDTH, HEIGHT)
        )
    if not writer.isOpened():
        raise UserError(
            f"this OpenCV ({cv2.__version__}) cannot write {partial} (WebM, VP8); OpenCV's own wheels can: "
            "pip install --force-reinstall opencv-python-headless"
        )
    for frame in planned.frames():
        writer.write(frame)
    writer.release()
    os.replace(partial, out / "videos" / partial.name)


def _prepare(out: Path, options: ToyOptions) -> None:
    """Create the folders, or check that they were created for the same options."""
    recorded = out / "toy.yaml"
    if recorded.is_file():
        existing = load_yaml(ToyOptions, recorded)
        if existing.resolved != options.resolved:
            raise UserError(f"{out} holds another toy data set ({existing}): choose another folder, or delete it")
    try:
        (out / "videos").mkdir(parents=True, exist_ok=True)
        (out / "partial").mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create the folder {out}: {error.strerror}") from None
    save_yaml(options.resolved, recorded)


def is_complete(out: Path, options: ToyOptions) -> bool:
    """Whether ``out`` holds the complete toy data set of these options."""
    recorded = out / "toy.yaml"
    return (
        (out / "annotations.json").is_file()
        and recorded.is_file()
        and load_yaml(ToyOptions, recorded).resolved == options.resolved
        and all((out / "videos" / f"{p.video.id}.webm").is_file() for p in plan_videos(options))
    )


def write_toy(out: Path, options: ToyOptions, jobs: int = -1) -> Dataset:
    """Write ``out/videos/*.webm`` and ``out/annotations.json`` (ActivityNet JSON), and return the data set.

    Videos are 160x120 at 25 fps, VP8. Existing videos are kept, so repeating an interrupted call resumes it. Equal
    options give equal bytes of annotations and equal pixels of frames before encoding.

    Raises UserError if ``out`` holds a toy data set of other options or cannot be written, or if OpenCV cannot write
    WebM.
    """
    if is_complete(out, options):
        return read_activitynet(out / "annotations.json", name="toy")
    _prepare(out, options)
    plans = plan_videos(options)
    missing = [p for p in plans if not (out / "videos" / f"{p.video.id}.webm").is_file()]
    missing.sort(key=lambda p: -(p.video.frames or 0))  # longest first: all processes end at about the same time
    done = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(
        joblib.delayed(_write_video)(p, out) for p in missing
    )
    for _ in track(done, description="rendering videos", total=len(missing), console=Console(stderr=True)):
        pass
    shutil.rmtree(out / "partial")
    dataset = Dataset.of("toy", [p.video for p in plans], CLASSES)
    write_activitynet(dataset, out / "annotations.json")
    return dataset


def make_toy(command: ToyCommand) -> None:
    """Write the toy data set: untrimmed videos with six classes, three told by appearance and three by motion."""
    complete = is_complete(command.out, command.options)
    dataset = write_toy(command.out, command.options, command.jobs)
    videos = dataset.videos.values()
    print(
        f"{command.out}: {'already complete, nothing done: ' if complete else ''}{len(videos)} videos "
        f"({sum(v.duration for v in videos) / 60:.1f} min) with {sum(len(v.instances) for v in videos)} instances of "
        f"{len(dataset.labels)} classes; truth in {command.out / 'annotations.json'}"
    )


__all__ = [
    "APPEARANCE_CLASSES",
    "CLASSES",
    "MOTION_CLASSES",
    "ToyCommand",
    "ToyOptions",
    "VideoPlan",
    "is_complete",
    "make_toy",
    "plan_videos",
    "write_toy",
]
