"""Annotations, proposals and results of other videos, or with other ids: refused with one line, or right."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np
from training.synthetic_store import Synthetic, write

from ssn_feat.annotations import Dataset, Instance, Video, write_activitynet
from ssn_feat.errors import UserError
from ssn_feat.evaluation.compare_proposals import CompareOptions, compare
from ssn_feat.evaluation.evaluate import EvaluateOptions, evaluate
from ssn_feat.proposals import Proposals
from ssn_feat.proposals.propose import ProposeOptions, propose
from ssn_feat.results.detections import Detections
from ssn_feat.training.training_data import read_data

from .outcome import Outcome, unforeseen

_FACTORS = (0.04, 0.5, 24 / 25, 25 / 30, 1.2, 2.0, 23.976, 25.0, 29.97, 30.0, 60.0, 1000.0)
# Ids of the same video, written otherwise.
_SPELLINGS: dict[str, Callable[[str], str]] = {
    "an ending": lambda name: f"{name}.mp4",
    "blanks": lambda name: f" {name}",
    "a prefix": lambda name: f"v_{name}",
    "a folder": lambda name: f"day/{name}",
    "another Unicode form": lambda name: unicodedata.normalize("NFD", name),
    "upper case": str.upper,
}


def rounds(generator: np.random.Generator, folder: Path) -> Iterator[Outcome]:
    """A store joined with sources that do not belong to it, and with those that only look as if they did not."""
    data = write(folder, dim=2)
    windows = propose(ProposeOptions(data.store, folder / "windows.npz", method="sliding", number=30, quiet=True))
    while True:
        factor = float(generator.choice([*_FACTORS, generator.uniform(1.1, 50), 1 / generator.uniform(1.1, 50)]))
        offset = float(generator.uniform(40, 5000))
        scaled = _changed(data.dataset, factor, 0.0, True)
        yield _refused(f"annotations times {factor:g}", partial(_annotated, data, scaled))
        segments = _changed(data.dataset, max(factor, 5.0), 0.0, False)
        yield _refused(f"instances times {max(factor, 5.0):g}", partial(_annotated, data, segments))
        shifted = _changed(data.dataset, 1.0, offset, False)
        yield _refused(f"instances plus {offset:.0f} s", partial(_annotated, data, shifted))
        near = _changed(data.dataset, float(generator.uniform(0.982, 1.018)), 0.0, True)
        yield _right("durations within the tolerance", partial(_annotated, data, near), data)
        later = replace(windows, intervals={video: rows + offset for video, rows in windows.intervals.items()})
        yield _refused(f"proposals plus {offset:.0f} s", partial(_proposed, data, later))
        yield _refused(f"proposals times {factor:g}", partial(_proposed, data, _times(windows, factor)))
        others = dict(zip(windows.ids, generator.permutation(list(windows.ids)).tolist(), strict=True))
        yield _refused("proposals of other videos", partial(_proposed, data, windows.renamed(others)))
        rows = {
            video.id: (video.intervals() * max(factor, 5.0), [0] * len(video.instances), [1.0] * len(video.instances))
            for video in data.dataset.videos.values()
        }
        frames = Detections.of(data.dataset.labels, rows)
        yield _refused("detections in frames", partial(_measured, data, frames))
        spelling = str(generator.choice(list(_SPELLINGS)))
        respelt = _respelt(data.dataset, _SPELLINGS[spelling])
        yield _right(f"annotated ids with {spelling}", partial(_annotated, data, respelt), data)
        names = {video: _SPELLINGS[spelling](video) for video in windows.ids}
        yield _right(f"ids of proposals with {spelling}", partial(_proposed, data, windows.renamed(names)), data)


def _changed(dataset: Dataset, factor: float, offset: float, with_durations: bool) -> Dataset:
    def of(video: Video) -> Video:
        instances = [Instance(i.label, i.start * factor + offset, i.end * factor + offset) for i in video.instances]
        duration = video.duration * factor if with_durations else video.duration
        return replace(video, duration=duration, instances=tuple(instances))

    return Dataset.of(dataset.name, map(of, dataset.videos.values()), dataset.labels)


def _respelt(dataset: Dataset, spelling: Callable[[str], str]) -> Dataset:
    videos = [replace(video, id=spelling(video.id)) for video in dataset.videos.values()]
    return Dataset.of(dataset.name, videos, dataset.labels)


def _times(proposals: Proposals, factor: float) -> Proposals:
    durations = {video: value * factor for video, value in (proposals.durations or {}).items()}
    intervals = {video: rows * factor for video, rows in proposals.intervals.items()}
    return replace(proposals, intervals=intervals, durations=durations)


def _annotated(data: Synthetic, dataset: Dataset) -> tuple[str, ...]:
    """The videos that a training with these annotations reads."""
    write_activitynet(dataset, data.folder / "changed.json")
    options = data.options(data.folder / "run", annotations=str(data.folder / "changed.json"))
    return read_data(options, options.proposals, values=False).table.ids


def _proposed(data: Synthetic, proposals: Proposals) -> tuple[str, ...]:
    """The videos that a training with these proposals reads."""
    proposals.save(data.folder / "changed.npz")
    compare(CompareOptions((data.folder / "changed.npz",), annotations=data.annotations, methods=()))
    options = data.options(data.folder / "run", proposals=data.folder / "changed.npz")
    return read_data(options, options.proposals, values=False).table.ids


def _measured(data: Synthetic, detections: Detections) -> tuple[str, ...]:
    detections.write(data.folder / "changed-detections.json")
    options = EvaluateOptions((data.folder / "changed-detections.json",), data.annotations, bootstrap=0, quiet=True)
    evaluate(options)
    return detections.ids


def _refused(what: str, join: Callable[[], object]) -> Outcome:
    try:
        with redirect_stderr(StringIO()):
            join()
    except UserError as error:
        return Outcome(what, "" if "\n" not in str(error) and "--allow-duration-mismatch" in str(error) else str(error))
    except Exception as error:
        return Outcome(what, unforeseen(error))
    return Outcome(what, "it is not refused")


def _right(what: str, join: Callable[[], tuple[str, ...]], data: Synthetic) -> Outcome:
    """Joined as if nothing had been changed, or refused with a hint."""
    expected = tuple(v.id for v in data.dataset.subset("training").videos.values() if v.instances)
    try:
        with redirect_stderr(StringIO()):
            joined = join()
    except UserError as error:
        hinted = "which differs from" in str(error) and "\n" not in str(error)
        return Outcome(what, "" if hinted else f"refused without a hint: {error}")
    except Exception as error:
        return Outcome(what, unforeseen(error))
    return Outcome(what, "" if joined == expected else f"{joined} instead of {expected}")
