"""The data of a training run: annotations, proposals, and the features of the videos that all of them have."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ssn_feat.annotations import Dataset, read_annotations
from ssn_feat.annotations.joining import check_times, times_of_dataset
from ssn_feat.annotations.matching import match_dataset
from ssn_feat.devices import device_of
from ssn_feat.errors import UserError
from ssn_feat.heads.features import Standardisation, stream_dims
from ssn_feat.heads.stpp import BlockSums
from ssn_feat.progress import progress_bar
from ssn_feat.proposals import Proposals
from ssn_feat.sampling.feature_memory import allocate, fits
from ssn_feat.sampling.feature_table import FeatureTable, intersect_ids
from ssn_feat.sampling.pools import Candidates, candidates_of, random_windows
from ssn_feat.store import FeatureStore, open_store
from ssn_feat.store.times import times_of_store
from ssn_feat.terminal import counted
from ssn_feat.training.fit_options import TrainingOptions
from ssn_feat.training.run_inputs import annotations_input, features_input, proposals_input


@dataclass(frozen=True)
class TrainingData:
    """The training videos: ``dataset`` and ``table`` hold the same videos in the same order.

    ``labels``: class names of the whole annotations; the training videos may lack some of them; ``proposals``: None
    for a head that needs none; ``standardisation``: how the rows of the table were standardised, None if they were not;
    ``inputs``: digests of the data, see :mod:`ssn_feat.training.run_inputs`; ``folder``: folder of the file that the
    rows are mapped from, None if they are in memory.
    """

    store: FeatureStore
    labels: tuple[str, ...]
    dataset: Dataset
    proposals: Proposals | None
    table: FeatureTable
    standardisation: Standardisation | None
    inputs: dict[str, Any]
    folder: Path | None = None

    @cached_property
    def sums(self) -> BlockSums:
        """Sums for the means over all rows of a stage, on the device of the rows."""
        rows = self.table.rows
        inner = allocate((len(rows) + 1, rows.shape[1]), torch.float32, self.folder)
        return BlockSums(rows, inner.to(rows.device))

    def candidates(self, windows: int, seed: int) -> Candidates:
        """Proposals and instances of the training videos, with the values that decide what they are used for.

        ``windows``: number of random windows, drawn with ``seed``, to add to the proposals of each video.
        """
        assert self.proposals is not None
        durations = dict(zip(self.table.ids, self.table.durations.tolist(), strict=True))
        intervals = self.proposals.intervals
        if windows:
            drawn = random_windows(self.dataset, durations, windows, np.random.default_rng(seed))
            intervals = {video: np.concatenate((intervals[video], added)) for video, added in drawn.items()}
        return candidates_of(self.dataset, intervals, durations)


@dataclass(frozen=True)
class JoinedData:
    """The training videos that annotations, store and proposals have, before their features are read.

    ``dataset``: all annotated training videos; ``ids``: those to train on; others as in :class:`TrainingData`.
    """

    store: FeatureStore
    labels: tuple[str, ...]
    dataset: Dataset
    proposals: Proposals | None
    proposals_file: Path | None
    ids: tuple[str, ...]

    def inputs(self, options: TrainingOptions, values: bool = True) -> dict[str, Any]:
        """Digests of the data; without ``values``, of the times of the features only."""
        result = {
            "annotations": annotations_input(self.dataset, self.labels, options.annotations),
            "features": features_input(self.store, self.ids, options.streams if values else ()),
        }
        if self.proposals is not None:
            proposed = [video for video in self.dataset.videos if video in self.proposals.intervals]
            result["proposals"] = proposals_input(self.proposals, proposed, self.proposals_file or "")
        return result


def join_data(options: TrainingOptions, proposals_file: Path | None) -> JoinedData:
    """Read annotations, and proposals if there is a file of them, and find the videos that are also in the store.

    Raises UserError for data that is missing or does not fit together.
    """
    store = open_store(options.store)
    stream_dims(store, options.streams)
    annotations = read_annotations(options.annotations)
    annotations = match_dataset(annotations, store.ids, f"the store {store.path}", options.quiet)
    dataset = _with_instances(annotations.subset(options.subset), options)
    proposals = None if proposals_file is None else _proposals(proposals_file, dataset, options)
    intersect = partial(intersect_ids, missing=options.missing, quiet=options.quiet)
    ids = intersect(tuple(dataset.videos), store.ids, what=f"the store {store.path}")
    if proposals is not None:
        ids = intersect(ids, proposals.ids, what=f"the file of proposals {proposals_file}")
    return JoinedData(store, annotations.labels, dataset, proposals, proposals_file, ids)


def read_data(
    options: TrainingOptions, proposals_file: Path | None, extra_bytes: int = 0, values: bool = True
) -> TrainingData:
    """Read annotations, features, and proposals if there is a file of them.

    ``extra_bytes``: of memory that the training needs for each feature value beside the value itself.
    Without ``values``, the rows of features have no columns: only their times are read. Raises UserError for data that
    is missing or does not fit together.
    """
    joined = join_data(options, proposals_file)
    store, ids = joined.store, joined.ids
    stored = times_of_store(store, ids)
    check_times(times_of_dataset(joined.dataset, options.annotations), stored, options, options.quiet)
    if joined.proposals is not None:
        check_times(joined.proposals.times, stored, options, options.quiet)
    folder = features_folder(options, store, ids, extra_bytes) if values else None
    what = "reading features" if values else "reading the store"
    with nullcontext(None) if options.quiet else progress_bar(what, len(ids)) as advance:
        table = FeatureTable.load(store, ids, options.streams, advance or (lambda: None), folder, values)
    standardisation = Standardisation.of(table.rows) if options.standardise else None
    if standardisation is not None:
        table = table.standardised(standardisation)
    table = _on_device(table, device_of(options.device))
    inputs = joined.inputs(options, values)
    dataset = joined.dataset.only(ids)
    return TrainingData(store, joined.labels, dataset, joined.proposals, table, standardisation, inputs, folder)


def _on_device(table: FeatureTable, device: torch.device) -> FeatureTable:
    """The table on the device of the training. Raises UserError if it does not fit into the memory of a GPU."""
    if device.type == "cuda":
        size, free = table.rows.nbytes, torch.cuda.mem_get_info(device)[0]
        if size > free:
            raise UserError(
                f"{size / 1e9:.1f} GB of features do not fit into {free / 1e9:.1f} GB: train on --device cpu"
            )
    return table.to(device)


def features_folder(
    options: TrainingOptions, store: FeatureStore, ids: Sequence[str], extra_bytes: int = 0
) -> Path | None:
    """Folder of the file that the features of the videos ``ids`` are mapped from; None keeps them in memory."""
    size = (np.dtype(store.dtype).itemsize + extra_bytes) * sum(stream_dims(store, options.streams))
    size *= sum(store.rows(video) for video in ids)
    mapped = options.features == "mapped" or (options.features == "auto" and not fits(size))
    return options.out if mapped else None


def _with_instances(dataset: Dataset, options: TrainingOptions) -> Dataset:
    """The videos to train on. Raises UserError if none has an instance."""
    annotated = [video.id for video in dataset.videos.values() if video.instances]
    if not annotated:
        raise UserError(
            f"none of the {counted(len(dataset.videos), f'{options.subset} video')} has an annotated instance"
        )
    return dataset if options.background_videos else dataset.only(annotated)


def _proposals(path: Path, dataset: Dataset, options: TrainingOptions) -> Proposals:
    proposals = Proposals.load(path)
    if not len(proposals):
        raise UserError(f"{path} has no proposal for any of its {counted(len(proposals.ids), 'video')}")
    return proposals.matched(dataset.videos, "the annotations", options.quiet)


def require_proposals(head: str, path: Path | None) -> Path:
    """``path`` itself. Raises UserError if there is none."""
    if path is None:
        raise UserError(
            f"the {head} head with these options learns from proposals: add --proposals FILE (train/propose.py "
            "makes one)"
        )
    return path


def digest_of(*arrays: NDArray[Any]) -> str:
    """SHA-256 of arrays: tells whether a resumed run has the same data."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


__all__ = ["JoinedData", "TrainingData", "digest_of", "join_data", "read_data", "require_proposals"]
