"""What a training run reads: annotations, proposals and the features of the videos that all of them have."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch

from ssn_feat.annotations import Dataset, read_annotations
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
from ssn_feat.training.fit_options import FitOptions


@dataclass(frozen=True)
class TrainingData:
    """The training videos: ``dataset`` and ``table`` hold the same ones in the same order.

    ``labels``: class names of the whole annotations, of which the training videos may lack some; ``proposals``: None
    where none were asked for; ``standardisation``: what the rows of the table went through, None for nothing;
    ``folder``: where the rows are mapped, None for memory.
    """

    store: FeatureStore
    labels: tuple[str, ...]
    dataset: Dataset
    proposals: Proposals | None
    table: FeatureTable
    standardisation: Standardisation | None
    folder: Path | None = None

    @cached_property
    def sums(self) -> BlockSums:
        """What means of all rows of a stage come from; kept where the rows are."""
        rows = self.table.rows
        inner = allocate((len(rows) + 1, rows.shape[1]), torch.float32, self.folder)
        return BlockSums(rows, inner.to(rows.device))

    def candidates(self, windows: int, seed: int) -> Candidates:
        """Proposals and instances of the training videos with what decides their use.

        ``windows``: random windows that join the proposals of each video, drawn by ``seed``.
        """
        assert self.proposals is not None
        durations = dict(zip(self.table.ids, self.table.durations.tolist(), strict=True))
        own = self.proposals.intervals
        if windows:
            drawn = random_windows(self.dataset, durations, windows, np.random.default_rng(seed))
            own = {video: np.concatenate((own[video], added)) for video, added in drawn.items()}
        return candidates_of(self.dataset, own, durations)


def read_data(options: FitOptions, values: bool = True) -> TrainingData:
    """Read everything once; without ``values`` all but the features, whose rows then have no columns.

    Raises UserError for whatever is missing or does not fit together.
    """
    store = open_store(options.store)
    stream_dims(store, options.streams)
    annotations = read_annotations(options.annotations)
    dataset = _with_instances(annotations.subset(options.subset), options)
    proposals = _proposals(options)
    intersect = partial(intersect_ids, missing=options.missing, quiet=options.quiet)
    ids = intersect(tuple(dataset.videos), store.ids, what=f"the store {store.path}")
    if proposals is not None:
        ids = intersect(ids, proposals.ids, what=f"the file of proposals {options.proposals}")
    folder = features_folder(options, store, ids) if values else None
    what = "reading features" if values else "reading the store"
    with nullcontext(None) if options.quiet else progress_bar(what, len(ids)) as advance:
        table = FeatureTable.load(store, ids, options.streams, advance or (lambda: None), folder, values)
    standardisation = Standardisation.of(table.rows) if options.standardise else None
    if standardisation is not None:
        table = table.standardised(standardisation)
    table = _on_device(table, device_of(options.device))
    return TrainingData(store, annotations.labels, dataset.only(ids), proposals, table, standardisation, folder)


def _on_device(table: FeatureTable, device: torch.device) -> FeatureTable:
    """The table where it is trained on. Raises UserError where a GPU has no room for it."""
    if device.type == "cuda":
        size, free = table.rows.nbytes, torch.cuda.mem_get_info(device)[0]
        if size > free:
            raise UserError(
                f"{size / 1e9:.1f} GB of features do not fit into {free / 1e9:.1f} GB: train on --device cpu"
            )
    return table.to(device)


def features_folder(options: FitOptions, store: FeatureStore, ids: Sequence[str]) -> Path | None:
    """Where the features of the videos ``ids`` are kept in a mapped file; None: in memory."""
    # What a value takes in the store, and four bytes more for sums.
    value = np.dtype(store.dtype).itemsize + (4 if options.sampling == "dense" else 0)
    size = value * sum(stream_dims(store, options.streams))
    size *= sum(store.rows(video) for video in ids)
    mapped = options.features == "mapped" or (options.features == "auto" and not fits(size))
    return options.out if mapped else None


def _with_instances(dataset: Dataset, options: FitOptions) -> Dataset:
    """The videos to train on. Raises UserError where none has an instance."""
    annotated = [video.id for video in dataset.videos.values() if video.instances]
    if not annotated:
        raise UserError(f"none of the {len(dataset.videos)} {options.subset} videos has an annotated instance")
    return dataset if options.background_videos else dataset.only(annotated)


def _proposals(options: FitOptions) -> Proposals | None:
    if options.head == "actionness" and options.actionness.actionness_sampling == "rows":
        return None
    if options.proposals is None:
        what = "the ssn head" if options.head == "ssn" else "--actionness-sampling proposals"
        raise UserError(f"{what} learns from proposals: add --proposals FILE (train/propose.py makes one)")
    proposals = Proposals.load(options.proposals)
    if not len(proposals):
        raise UserError(f"{options.proposals} holds no proposal of its {len(proposals.ids)} videos")
    return proposals


__all__ = ["TrainingData", "read_data"]
