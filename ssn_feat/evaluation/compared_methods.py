"""The proposals that ``bench/proposals.py`` compares: files, built-in methods, and functions of the user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations import Dataset
from ssn_feat.annotations.joining import JoinOptions, check_times, times_of_dataset
from ssn_feat.annotations.records import number
from ssn_feat.drawing.names import short_names
from ssn_feat.errors import UserError
from ssn_feat.evaluation.compare_options import CompareOptions
from ssn_feat.foreign_json import parse_json
from ssn_feat.proposals import Proposals, VideoData, listed_proposals, load_method, propose_each, read_ssn_list
from ssn_feat.proposals.actionness import fuse_actionness
from ssn_feat.proposals.foreign import read_csv_folder, read_frame_list, read_proposal_json
from ssn_feat.proposals.methods import Method, dense, grouped, oracle, ranked, sliding, uniform
from ssn_feat.proposals.propose import actionness_run, read_logits
from ssn_feat.store import FeatureStore, open_store
from ssn_feat.terminal import counted

BUILT_IN = ("sliding", "sliding-ranked", "anchors", "anchors-ranked", "tag", "random", "oracle")
_FUSED = "fused"
Reference = Literal["oracle", "random"]
_REFERENCES: dict[str, Reference] = {"oracle": "oracle", "random": "random"}


@dataclass(frozen=True)
class ComparedMethod:
    """Proposals with a name."""

    name: str
    """Name for tables and charts."""
    proposals: Proposals
    """The proposals."""
    seconds: float | None = None
    """Compute time per video, if a method made them."""
    reference: Reference | None = None
    """Whether they are a bound or chance rather than a method."""


@dataclass(frozen=True)
class Actionness:
    """Actionness of one source: logits ``(T, 2)`` or probabilities ``(T,)`` by video, and the spans of the snippets."""

    values: dict[str, NDArray[np.float32]]
    spans: dict[str, NDArray[np.float64]]


def compared_methods(
    dataset: Dataset, options: CompareOptions, loaded: Sequence[Proposals] | None = None
) -> Iterator[ComparedMethod]:
    """Proposals of every file, then of every method, in the order of the options.

    ``loaded``: the content of the files, if it was read before.
    Raises UserError on invalid files, unknown methods, and methods without the actionness that they need.
    """
    titles = {spec: _title(spec, options.methods) for spec in options.methods}
    names = short_names(options.files, taken=titles.values())
    if loaded is None:
        loaded = [load_proposals(path, dataset, options.fps, options) for path in options.files]
    files = [ComparedMethod(name, proposals) for name, proposals in zip(names, loaded, strict=True)]
    yield from files
    store = open_store(options.store) if options.store else None
    sources = _sources(files, dataset, store, options.actionness)
    best = sources.get(_FUSED) or next(iter(sources.values()), None)
    for name in options.methods:
        if (name == "tag" or name.endswith("-ranked")) and best is None:
            raise UserError(
                f"{name} needs actionness: a file of proposals that holds it (train/propose.py), or --store and "
                "--actionness"
            )
        if name == "tag":
            for source, actionness in sources.items():
                title = name if len(sources) == 1 else f"{name} {source}"
                groups = partial(grouped, options=options.tag)
                yield _run_built_in(title, groups, options.tag.ranked_by, dataset, actionness)
        elif name in BUILT_IN:
            method, score = _built_in(options)[name]
            yield _run_built_in(name, method, score, dataset, best if score == "contrast" else None)
        else:
            yield _run_users_function(name, titles[name], dataset, best, store)


def _title(spec: str, specs: Sequence[str]) -> str:
    """Name of the function of a user's method; all of ``spec`` if another of ``specs`` has the same name."""
    short = spec.rpartition(":")[2]
    return spec if any(other != spec and other.rpartition(":")[2] == short for other in specs) else short


def _built_in(options: CompareOptions) -> dict[str, tuple[Method, str]]:
    """The methods that need at most one source of actionness, with the name of their score."""
    windows = partial(sliding, options=options.sliding, seed=options.seed)
    spread = partial(dense, options=options.anchors, seed=options.seed)
    return {
        "sliding": (windows, "random"),
        "sliding-ranked": (partial(ranked, method=windows), "contrast"),
        "anchors": (spread, "random"),
        "anchors-ranked": (partial(ranked, method=spread), "contrast"),
        "random": (partial(uniform, number=options.maximum, seed=options.seed), "random"),
        "oracle": (oracle, "order"),
    }


def _run_built_in(
    name: str, method: Method, score: str, dataset: Dataset, actionness: Actionness | None
) -> ComparedMethod:
    """Run a method on all videos, or with ``actionness`` on those that have it."""
    videos = [
        VideoData(video.id, video.duration, values, actionness.spans[video.id] if actionness else None, truth=truth)
        for video in dataset.videos.values()
        for values, truth in [(actionness.values.get(video.id) if actionness else None, video.intervals())]
        if values is not None or actionness is None
    ]
    return _run(name, method, videos, score, name)


def _run_users_function(
    spec: str, title: str, dataset: Dataset, actionness: Actionness | None, store: FeatureStore | None
) -> ComparedMethod:
    """Run a function of the user on the videos, or with ``store`` on those in the store."""
    if ":" not in spec:
        raise UserError(
            f"unknown method {spec!r}: choose from {', '.join(BUILT_IN)}, or name your own function as "
            "package.module:function"
        )
    method = load_method(spec)
    return _run(title, method, _with_features(dataset, actionness, store), "score", spec)


def _run(
    name: str, method: Method, videos: Iterator[VideoData] | list[VideoData], score: str, spec: str
) -> ComparedMethod:
    proposals, seconds = propose_each(method, videos, spec, score=score)
    if not len(proposals):
        raise UserError(f"{name} proposes nothing in any of {counted(len(proposals.ids), 'video')}")
    return ComparedMethod(name, proposals, seconds / len(proposals.ids), _REFERENCES.get(spec))


def _with_features(dataset: Dataset, actionness: Actionness | None, store: FeatureStore | None) -> Iterator[VideoData]:
    """The data of each video with its features, read lazily."""
    stored_ids = None if store is None else set(store.ids)
    for video in dataset.videos.values():
        values = actionness.values.get(video.id) if actionness else None
        spans = actionness.spans[video.id] if actionness and values is not None else None
        if store is None or stored_ids is None:
            yield VideoData(video.id, video.duration, values, spans)
        elif video.id in stored_ids:
            stored = store.read(video.id)
            if values is not None and len(values) != len(stored.spans):
                raise UserError(
                    f"video {video.id!r} has {len(values)} snippets of actionness, but {len(stored.spans)} in the store"
                )
            yield VideoData(video.id, video.duration, values, stored.spans, stored.features)


def _sources(
    files: list[ComparedMethod], dataset: Dataset, store: FeatureStore | None, runs: tuple[Path, ...]
) -> dict[str, Actionness]:
    """Actionness by name: of every run, and of all runs fused; without runs, the actionness in the files."""
    if store is None or not runs:
        contents = [(file.name, file.proposals.actionness, file.proposals.spans) for file in files]
        return {name: Actionness(dict(values), dict(spans)) for name, values, spans in contents if values and spans}
    present = set(store.ids)
    ids = [id for id in dataset.videos if id in present]
    loaded = {path.name: actionness_run(path, store) for path in runs}
    names = [*loaded, *([_FUSED] if len(loaded) > 1 else [])]
    sources = {name: Actionness({}, {}) for name in names}
    for video, logits in read_logits(store, ids, list(loaded.values())):
        scored = [(each, video.spans) for each in logits]
        for name in names:
            chosen = scored if name == _FUSED else [scored[names.index(name)]]
            sources[name].values[video.id], sources[name].spans[video.id] = fuse_actionness(chosen)
    return sources


def load_proposals(
    path: Path,
    dataset: Dataset,
    fps: Path | None = None,
    options: JoinOptions | None = None,
    quiet: bool = False,
) -> Proposals:
    """Read proposals of any supported format, which the suffix decides, with the durations of ``dataset`` or ``fps``.

    A folder holds one csv file per video, as BSN and BMN write them. Raises UserError if the file is invalid, holds no
    proposal, or has other times than ``dataset`` (see :func:`ssn_feat.annotations.joining.check_times`).
    """
    durations = {video.id: video.duration for video in dataset.videos.values()}
    if path.is_dir():
        proposals = read_csv_folder(path, durations)
    elif path.suffix == ".npz":
        proposals = Proposals.load(path)
    elif path.suffix == ".json":
        proposals = read_proposal_json(path)
    elif path.suffix == ".txt":
        proposals = _read_list(path, durations, fps)
    else:
        raise UserError(f"unknown format of {path}: supported are .npz, .json, .txt (an SSN list) and folders of .csv")
    if not len(proposals):
        raise UserError(f"{path} holds no proposal")
    proposals = proposals.matched(dataset.videos, "the annotations", quiet)
    check_times(proposals.times, times_of_dataset(dataset), options or JoinOptions(), quiet)
    return proposals


def _read_list(path: Path, durations: Mapping[str, float], fps: Path | None) -> Proposals:
    """Read an SSN list, which starts with '#', or a list of frames."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            first = next((line for line in file if line.strip()), "#")
    except OSError as error:
        raise UserError(f"cannot read proposals from {path}: {error.strerror}") from None
    if first.startswith("#"):
        return listed_proposals(read_ssn_list(path), durations=durations)
    if fps is None:
        raise UserError(
            f"{path} is not an SSN list, which starts with '# 0': for lines of 'video start_frame end_frame' add "
            "--fps, frames per second by video"
        )
    return read_frame_list(path, _read_fps(fps))


def _read_fps(path: Path) -> Mapping[str, float]:
    try:
        content = parse_json(path.read_bytes(), path)
    except OSError as error:
        raise UserError(f"cannot read frames per second from {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        content = None
    values = {id: number(rate) for id, rate in content.items()} if isinstance(content, dict) else {}
    rates = {id: rate for id, rate in values.items() if rate is not None}
    if not rates or len(rates) < len(values):
        raise UserError(f"{path} must be a JSON object of frames per second by video id")
    return rates


__all__ = ["BUILT_IN", "Actionness", "ComparedMethod", "Reference", "compared_methods", "load_proposals"]
