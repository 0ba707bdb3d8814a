"""Data sets of the shape of known ones, with made-up features, on which training is timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations import Dataset, Instance, Video, write_activitynet
from ssn_feat.proposals import Proposals
from ssn_feat.store import FeatureStore, create_store, pack

# Snippets every 6 frames of videos of 30 frames a second.
_STRIDE, _FPS = 6, 30.0


@dataclass(frozen=True)
class Shape:
    """What the videos of a data set are like. Lengths are log-normal: mean and deviation of the logarithm of seconds.

    videos: how many. classes: how many. duration: of videos, with the range to which it is cut. instance: length of an
    instance. spacing: seconds of video for each instance on the mean. proposal: length of a proposal. proposals: how
    many a second of video.
    """

    videos: int
    classes: int
    duration: tuple[float, float]
    cut: tuple[float, float]
    instance: tuple[float, float]
    spacing: float
    proposal: tuple[float, float]
    proposals: float


# Durations and instances: of the 200 videos of THUMOS14's validation set that have instances. Proposals: lengths and
# number (250 a video) of TAG on its test set.
THUMOS14 = Shape(200, 20, (4.942, 0.916), (9.0, 1409.0), (1.059, 0.832), 14.1, (2.236, 1.481), 250 / 209)
# Training videos of ActivityNet v1.2: two minutes on the mean, few but long instances, 51 proposals a video.
ACTIVITYNET = Shape(4819, 100, (4.6, 0.6), (5.0, 240.0), (3.2, 1.0), 75.0, (2.9, 1.1), 51 / 117)


@dataclass(frozen=True)
class MadeUp:
    """Paths of a written data set: a feature store, the same packed, annotations, proposals; its size."""

    store: Path
    packed: Path
    annotations: Path
    proposals: Path
    rows: int
    seconds: float


def make_up(
    folder: Path,
    shape: Shape,
    videos: int,
    width: int,
    seed: int,
    durations: Sequence[float] | None = None,
) -> MadeUp:
    """Write ``videos`` videos of ``shape`` with features of ``width`` values each.

    ``durations``: seconds of real videos to draw from, in place of the shape's.
    """
    generator = np.random.default_rng(seed)
    drawn = np.clip(generator.lognormal(*shape.duration, videos), *shape.cut)
    if durations is not None:
        drawn = generator.choice(np.asarray(durations), videos, replace=len(durations) < videos)
    made = [_video(generator, shape, f"v{number:05d}", float(seconds)) for number, seconds in enumerate(drawn)]
    dataset = Dataset.of("made up", made, [_label(number) for number in range(shape.classes)])
    folder.mkdir(parents=True)
    annotations = folder / "annotations.json"
    write_activitynet(dataset, annotations)
    intervals = {video.id: _proposals(generator, shape, video) for video in made}
    path = folder / "proposals.npz"
    Proposals(intervals, {name: np.zeros(len(own)) for name, own in intervals.items()}, "made up").save(path)
    growing, packed = folder / "features.zarr", folder / "packed.zarr"
    store = create_store(growing, {"backbone": "made up", "streams": ["rgb"]}, "made up")
    rows = _write_features(generator, store, made, width)
    pack(store, packed)
    return MadeUp(growing, packed, annotations, path, rows, float(drawn.sum()))


def _label(number: int) -> str:
    return f"class {number:03d}"


def _video(generator: np.random.Generator, shape: Shape, name: str, seconds: float) -> Video:
    """A video of one class, as nearly all of these data sets are."""
    count = 1 + int(generator.poisson(max(0.0, seconds / shape.spacing - 1)))
    lengths = np.minimum(generator.lognormal(*shape.instance, count) + 0.3, 0.8 * seconds)
    starts = generator.uniform(0, seconds - lengths)
    label = _label(int(generator.integers(shape.classes)))
    instances = (Instance(label, float(a), float(a + n)) for a, n in zip(starts, lengths, strict=True))
    return Video(name, seconds, "training", tuple(sorted(instances, key=lambda own: own.start)), fps=_FPS)


def _proposals(generator: np.random.Generator, shape: Shape, video: Video) -> NDArray[np.float64]:
    """Two near each instance, the others anywhere, so that each kind of a batch is there."""
    truth = np.repeat(video.intervals(), 2, axis=0)
    near = truth + 0.06 * np.diff(truth, axis=1) * generator.normal(size=truth.shape)
    count = max(10, round(shape.proposals * video.duration) - len(near))
    lengths = np.minimum(generator.lognormal(*shape.proposal, count), 0.9 * video.duration)
    starts = generator.uniform(0, video.duration - lengths)
    found = np.concatenate((near, np.stack((starts, starts + lengths), axis=1)))
    return np.clip(found[np.diff(found, axis=1)[:, 0] > 0], 0, video.duration)


def _write_features(generator: np.random.Generator, store: FeatureStore, videos: Sequence[Video], width: int) -> int:
    """Rows of noise, cut from one block: what they hold does not matter for time. Gives their number."""
    counts = [max(1, round(video.duration * _FPS / _STRIDE)) for video in videos]
    block = generator.random((max(counts) + 64, width), dtype=np.float32).astype(np.float16)
    for video, count in zip(videos, counts, strict=True):
        edges = np.linspace(0, video.duration, count + 1)
        at = int(generator.integers(64))
        spans = np.stack((edges[:-1], edges[1:]), axis=1)
        store.write(video.id, {"rgb": block[at : at + count]}, spans, {"duration": video.duration, "fps": _FPS})
    return sum(counts)


__all__ = ["ACTIVITYNET", "THUMOS14", "MadeUp", "Shape", "make_up"]
