"""The toy data set: untrimmed videos, made in a minute, in which RGB, flow and their fusion can be told apart.

Objects drift before a moving texture. An instance of an appearance class is an object with that class's pattern; an
instance of a motion class is an object with any other pattern that does something more than drift. All else that is in
a picture is made alike inside and outside of instances and for all classes: colours, shapes, sizes, how many objects
there are, how they come and go. So one frame never shows a motion class, movement never shows an appearance class, and
colour shows nothing.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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

_LENGTHS = (1.0, 8.0)  # seconds, of instances and of everything else that comes and goes
_GAP = 1.0  # least time between two instances, seconds
_EMPTY = 1 / 12  # share of videos without any instance
_OTHERS = 1  # places for objects beside the one that instances take


@dataclass(frozen=True)
class ToyOptions:
    """What decides every pixel and every number of the toy data set."""

    videos: int = 48
    """number of videos: the first half for training, the others for testing"""
    seed: int = 0
    """seed of all that is random; video N of a seed is the same whatever the number of videos, if its half is"""
    shortest: float = 20.0
    """duration of the shortest videos, seconds"""
    longest: float = 60.0
    """duration beyond which no video goes, seconds; most are nearer to the shortest"""

    def __post_init__(self) -> None:
        if self.videos < 2:
            raise UserError(
                f"a toy data set needs 2 videos or more, one for training and one for testing: {self.videos}"
            )
        if self.seed < 0:
            raise UserError(f"seed must be 0 or more: {self.seed}")
        if not 3 <= self.shortest <= self.longest <= 3600:
            raise UserError(
                f"videos last from 3 s to an hour, the shortest no longer than the longest: "
                f"shortest {self.shortest:g}, longest {self.longest:g}"
            )


@dataclass(frozen=True)
class ToyCommand:
    """Where to write the toy data set, and which."""

    out: tyro.conf.Positional[Path]
    """folder for videos/ID.webm, annotations.json and toy.yaml (the options)"""
    options: ToyOptions = field(default_factory=ToyOptions)
    """the data set"""
    jobs: int = -1
    """processes that render; -1: one per core"""


@dataclass(frozen=True)
class Plan:
    """One video before it is drawn: its truth, and all its objects from the farthest to the nearest."""

    video: Video
    tracks: tuple[Track, ...]
    seed: tuple[int, ...]

    def frames(self, every: int = 1) -> Iterator[NDArray[np.uint8]]:
        """The frames before encoding, or only every n-th of them, uint8 ``(120, 160, 3)`` BGR."""
        count = self.video.frames or 0
        return toy_pixels.frames(range(0, count, every), count, self.tracks, np.random.default_rng([*self.seed, 1]))


# --- what happens when; all times in frames


def _length(rng: np.random.Generator) -> int:
    """Frames of one instance or object, log-uniform."""
    return int(np.exp(rng.uniform(*np.log(_LENGTHS))) * FPS)


def _instances(options: ToyOptions, rng: np.random.Generator) -> tuple[int, list[Track]]:
    """The length of a video and its instances, apart from each other and from both ends."""
    gap = round(_GAP * FPS)
    lengths = [] if rng.uniform() < _EMPTY else [_length(rng) for _ in range(rng.integers(1, 6))]
    longest = int(options.longest * FPS)
    while sum(lengths) + (len(lengths) + 1) * gap > longest:  # only where videos are shorter than by default
        lengths.pop()
    needed = sum(lengths) + (len(lengths) + 1) * gap
    # Beta(1, 7): a mean of 26 s by default keeps what is computed on these videos quick, and some are still long.
    count = max(needed, int((options.shortest + (options.longest - options.shortest) * rng.beta(1, 7)) * FPS))
    spare = np.sort(rng.integers(0, count - needed + 1, len(lengths)))
    tracks, at = [], 0
    for length, waited in zip(lengths, spare, strict=True):
        at += gap
        label = CLASSES[rng.integers(len(CLASSES))]
        first = at + int(waited)
        tracks.append(_track(label, first, first + length, rng))
        at += length
    return count, tracks


def _track(label: str, first: int, last: int, rng: np.random.Generator) -> Track:
    """An object of a class, or one of none (:data:`DRIFT`)."""
    pattern = label if label in APPEARANCE_CLASSES else tuple(PLAIN)[rng.integers(len(PLAIN))]
    return Track(pattern, label if label in MOTION_CLASSES else DRIFT, first, last)


def _passers_by(start: int, stop: int, rng: np.random.Generator) -> list[Track]:
    """Objects of no class, one after the other with pauses, within ``[start, stop)``."""
    tracks, at = [], start + int(rng.uniform(0, 2) * FPS)
    while at + _LENGTHS[0] * FPS <= stop:
        last = min(at + _length(rng), stop)
        tracks.append(_track(DRIFT, at, last, rng))
        at = last + int(rng.uniform(0.3, 3) * FPS)
    return tracks


def plan(options: ToyOptions) -> list[Plan]:
    """Every video of the data set as it is to be drawn; a function of the options alone."""
    return [_plan(options, index) for index in range(options.videos)]


def _plan(options: ToyOptions, index: int) -> Plan:
    seed = (options.seed, index)
    rng = np.random.default_rng([*seed, 0])
    count, instances = _instances(options, rng)
    tracks = [t for _ in range(_OTHERS) for t in _passers_by(0, count, rng)]
    # Between instances their place is taken by objects of no class: an object more or less says nothing.
    edges = [0, *(edge for t in instances for edge in (t.first, t.last)), count]
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        tracks += _passers_by(start, stop, rng)
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
    return Plan(video, (*tracks, *instances), seed)


# --- files


@contextmanager
def _native_messages_off() -> Iterator[None]:
    """Silence what libraries write to the process's standard error.

    OpenCV prints one line for every WebM file that it opens for writing, whichever code names VP8, and has no switch.
    """
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _write_video(planned: Plan, out: Path) -> None:
    """Draw and encode one video; it appears under its name when it is whole."""
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
    """Make the folders, or see that they were made for the same options."""
    recorded = out / "toy.yaml"
    if recorded.is_file():
        there = load_yaml(ToyOptions, recorded)
        if there != options:
            raise UserError(f"{out} holds another toy data set ({there}): choose another folder, or delete it")
    try:
        (out / "videos").mkdir(parents=True, exist_ok=True)
        (out / "partial").mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {out}: {error.strerror}") from None
    save_yaml(options, recorded)


def is_complete(out: Path, options: ToyOptions) -> bool:
    """Whether ``out`` holds the whole toy data set of these options."""
    recorded = out / "toy.yaml"
    return (
        (out / "annotations.json").is_file()
        and recorded.is_file()
        and load_yaml(ToyOptions, recorded) == options
        and all((out / "videos" / f"{p.video.id}.webm").is_file() for p in plan(options))
    )


def write_toy(out: Path, options: ToyOptions, jobs: int = -1) -> Dataset:
    """Write ``out/videos/*.webm`` and ``out/annotations.json`` (ActivityNet JSON), and return the data set.

    Videos are 160x120 at 25 fps, VP8. Videos that are there already are kept, so that an interrupted call is resumed by
    the same call; nothing is done where all is there. The annotations are the same bytes, and the frames before
    encoding the same pixels, for the same options.

    Raises UserError where ``out`` holds a toy data set of other options or cannot be written, or where OpenCV cannot
    write WebM.
    """
    if is_complete(out, options):
        return read_activitynet(out / "annotations.json", name="toy")
    _prepare(out, options)
    plans = plan(options)
    missing = [p for p in plans if not (out / "videos" / f"{p.video.id}.webm").is_file()]
    missing.sort(key=lambda p: -(p.video.frames or 0))  # the longest first, or one process is still busy at the end
    done = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(
        joblib.delayed(_write_video)(p, out) for p in missing
    )
    for _ in track(done, description="rendering videos", total=len(missing), console=Console(stderr=True)):
        pass
    shutil.rmtree(out / "partial")
    dataset = Dataset.of("toy", [p.video for p in plans], CLASSES)
    write_activitynet(dataset, out / "annotations.json.partial")
    os.replace(out / "annotations.json.partial", out / "annotations.json")
    return dataset


def make_toy(command: ToyCommand) -> None:
    """Write the toy data set: untrimmed videos with six classes, three told by appearance and three by motion."""
    there = is_complete(command.out, command.options)
    dataset = write_toy(command.out, command.options, command.jobs)
    videos = dataset.videos.values()
    print(
        f"{command.out}: {'already there, nothing done: ' if there else ''}{len(videos)} videos "
        f"({sum(v.duration for v in videos) / 60:.1f} min) with {sum(len(v.instances) for v in videos)} instances of "
        f"{len(dataset.labels)} classes; truth in {command.out / 'annotations.json'}"
    )
