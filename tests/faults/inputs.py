"""Annotations, proposals or features that change between the parts of a run, or after it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from training.interruption import interrupt
from training.synthetic_store import Synthetic, quick, write

from ssn_feat.errors import UserError
from ssn_feat.proposals import Proposals
from ssn_feat.store import create_store, open_store
from ssn_feat.training.fit import fit
from ssn_feat.training.fit_options import FitOptions

from .outcome import Outcome, unforeseen

# Changes the data; returns what the message must name, nothing where the run does not learn from what changed.
Change = Callable[[Synthetic, np.random.Generator], list[str]]


def rounds(generator: np.random.Generator, folder: Path) -> Iterator[Outcome]:
    """A run is resumed with other data: what changed is named and the run kept; or nothing that it learns from did."""
    data = write(folder / "data", videos=9, dim=4)
    runs = {f"{state} {head}": _run(data, folder, head, state) for head in _HEADS for state in ("finished", "begun")}
    whole = folder / "whole"
    shutil.copytree(data.folder, whole)
    while True:
        for name, options in runs.items():
            changes = [_CHANGES[at] for at in generator.permutation(len(_CHANGES))[: generator.integers(1, 3)]]
            expected = [word for change in changes for word in change(data, generator)]
            if options.head == "actionness":
                expected = [word for word in expected if "proposals" not in word]
            what = f"{name}: {' and '.join(change.__name__.strip('_') for change in changes)}"
            yield Outcome(what, _failing(options, expected, folder / "copy"))
            shutil.rmtree(data.folder)
            shutil.copytree(whole, data.folder)


_HEADS = ("ssn", "actionness")


def _run(data: Synthetic, folder: Path, head: str, state: str) -> FitOptions:
    proposals = data.proposals if head == "ssn" else None
    steps = quick(epochs=2, epoch_multiplier=2, batch_videos=2)
    options = data.options(folder / f"{state}-{head}", head=head, proposals=proposals, optimisation=steps)
    if state == "finished":
        fit(options)
    else:
        with pytest.MonkeyPatch.context() as patch:
            interrupt(options, patch, at=1)
    return replace(options, resume=True)


def _failing(options: FitOptions, expected: list[str], copy: Path) -> str:
    """What is wrong with resuming a copy of the run, which is removed."""
    shutil.copytree(options.out, copy)
    try:
        before = {path.name: path.read_bytes() for path in copy.iterdir()}
        try:
            fit(replace(options, out=copy))
        except UserError as error:
            told = str(error)
            missing = [word for word in expected if word not in told]
            if not expected or missing or "\n" in told or "another --out" not in told:
                return f"refused, but {missing or 'nothing'} is to be named: {told[:300]}"
            after = {path.name: path.read_bytes() for path in copy.iterdir()}
            return "" if after == before else "the run was changed"
        return f"it was resumed although {expected} changed" if expected else ""
    except Exception as error:
        return unforeseen(error)
    finally:
        shutil.rmtree(copy)


def _annotations(data: Synthetic, generator: np.random.Generator, subset: str = "training") -> list[str]:
    content = json.loads(Path(data.annotations).read_text())
    videos = [v for v in content["database"].values() if v["subset"] == subset and v["annotations"]]
    video = videos[generator.integers(len(videos))]
    instance = video["annotations"][generator.integers(len(video["annotations"]))]
    kind = generator.integers(3)
    if kind == 0:
        instance["segment"][generator.integers(2)] += 1e-6
    elif kind == 1:
        instance["label"] = next(label for label in ("climb", "jump", "run") if label != instance["label"])
    else:
        video["annotations"].append({**instance, "segment": [0.0, 0.5]})
    Path(data.annotations).write_text(json.dumps(content))
    return [data.annotations]


def _test_annotations(data: Synthetic, generator: np.random.Generator) -> list[str]:
    _annotations(data, generator, "testing")
    return []


def _proposals(data: Synthetic, generator: np.random.Generator) -> list[str]:
    proposals = Proposals.load(data.proposals)
    video = f"v/{generator.integers(5):02d}"
    proposals.intervals[video][generator.integers(len(proposals.intervals[video]))] += 1e-9
    proposals.save(data.proposals)
    return [str(data.proposals)]


def _test_proposals(data: Synthetic, generator: np.random.Generator) -> list[str]:
    proposals = Proposals.load(data.proposals)
    proposals.only([video for video in proposals.ids if video < "v/06"]).save(data.proposals)
    return []


def _features(data: Synthetic, generator: np.random.Generator) -> list[str]:
    """Other values of the same recipe in one to five of the training videos."""
    changed = [f"v/{at:02d}" for at in sorted(generator.permutation(5)[: generator.integers(1, 6)])]
    _written_again(data, lambda video, stream, rows: rows + np.float16(video in changed and stream == "rgb"))
    return [str(data.store), f"{len(changed)} video", ", ".join(changed)]


def _other_features(data: Synthetic, generator: np.random.Generator) -> list[str]:
    """Other values of a stream and of videos that the run does not use."""
    _written_again(data, lambda video, stream, rows: rows + np.float16(video >= "v/06" or stream == "flow"))
    return []


def _written_again(data: Synthetic, change: Callable[[str, str, np.ndarray], np.ndarray]) -> None:
    store = open_store(data.store)
    videos = list(store.read_all())
    shutil.rmtree(data.store)
    again = create_store(data.store, store.recipe, store.name)
    for video in videos:
        features = {stream: change(video.id, stream, rows) for stream, rows in video.features.items()}
        again.write(video.id, features, video.spans, {"duration": video.duration, "fps": video.fps})


_CHANGES: tuple[Change, ...] = (
    _annotations,
    _test_annotations,
    _proposals,
    _test_proposals,
    _features,
    _other_features,
)
