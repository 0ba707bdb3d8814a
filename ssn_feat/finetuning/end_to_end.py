"""End-to-end training: an SSN head and a backbone are trained together on pixels, with the same proposals, segments and
losses as in training from features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from torch import Tensor

from ssn_feat.backbones import Backbone, load_backbone, require_trusted
from ssn_feat.cli import to_dict
from ssn_feat.errors import UserError
from ssn_feat.extraction.recipes import recipe_of, snippet_options_of
from ssn_feat.files import file_sha256
from ssn_feat.finetuning.distributed import Processes, processes
from ssn_feat.finetuning.feature_network import TuningOptions
from ssn_feat.finetuning.pixel_runs import BACKBONE, PixelFolder, train
from ssn_feat.finetuning.pixel_training import PixelSteps, PixelTraining, begin_training
from ssn_feat.finetuning.pixels import PixelOptions, PixelSource, Request, index_videos, reader_of
from ssn_feat.heads.features import Standardisation, stream_dims
from ssn_feat.heads.ssn import SSNHead, group_features
from ssn_feat.runs.checkpoints import Run, describe_head, load_run, scoring_facts
from ssn_feat.sampling.pools import make_pools
from ssn_feat.store import FeatureStore
from ssn_feat.store.recipe import differences, fingerprint, plain_recipe
from ssn_feat.training.fit_options import FitOptions
from ssn_feat.training.presets import PRESETS as FIT_PRESETS
from ssn_feat.training.run_inputs import require_same_inputs
from ssn_feat.training.ssn_task import SSNTask
from ssn_feat.training.task import EpochPlan
from ssn_feat.training.training_data import TrainingData, digest_of, join_data, read_data, require_proposals
from ssn_feat.video.find_videos import IdFrom, find_videos
from ssn_feat.video.random_access import IndexedVideo
from ssn_feat.video.snippet_options import ResolvedSnippets


@dataclass(frozen=True)
class EndToEndOptions:
    """Learn an SSN head and the backbone of one stream together, from videos."""

    videos: Path
    """Folder of the videos, as for extract/run.py."""
    fit: FitOptions
    """Options as for a head alone. The store defines how snippets are cut out and which rows proposals have."""
    end_to_end: bool = True
    """Marks the configuration of this command."""
    init_head: Path | None = None
    """Run of an SSN head on the same store, whose weights and regression statistics to start from; default: a new
    head."""
    weights: str | None = None
    """Weights of the backbone, as they were given to extract/run.py for the store; default: those of the network."""
    trust_modules: tuple[str, ...] = ()
    """Backbones package.module:callable that the store names and that may be imported, which runs their code."""
    flow_weights: str = ""
    """File of the weights of raft flow, if the store was made with raft."""
    ids: IdFrom = "stem"
    """Ids of the videos, as for extract/run.py."""
    prefix: str = ""
    """Prefix of file names before the video id."""
    save_every: float = 300.0
    """Seconds between two checkpoints during training."""
    pixels: PixelOptions = field(default_factory=PixelOptions)
    """Decoding and data augmentation."""
    tuning: TuningOptions = field(default_factory=TuningOptions)
    """Training of the backbone."""

    def __post_init__(self) -> None:
        fit = self.fit
        if not self.end_to_end:
            raise UserError("this configuration is of fit.py end-to-end: it cannot be switched off")
        if fit.head != "ssn" or len(fit.streams) != 1 or fit.streams[0] not in ("rgb", "flow"):
            raise UserError(
                "fit.py end-to-end trains the ssn head and the backbone of one stream, rgb or flow, not head "
                f"{fit.head} and --streams {' '.join(fit.streams)}"
            )
        if fit.sampling != "segments":
            raise UserError(f"fit.py end-to-end reads sampled segments: --sampling {fit.sampling} is for features")
        if fit.seeds != 1:
            raise UserError("fit.py end-to-end trains one seed at a time: leave --seeds out")
        if fit.eval is not None:
            raise UserError("--eval needs features, which change while the backbone learns: measure after extracting")
        if fit.standardise:
            raise UserError("--standardise needs features that do not change: give --init-head a run that did so")
        if fit.tensorboard:
            raise UserError("--tensorboard is for training from features: see log.jsonl of the run")

    @property
    def stream(self) -> Literal["rgb", "flow"]:
        """The stream of the trained backbone."""
        return "rgb" if self.fit.streams[0] == "rgb" else "flow"

    @property
    def resume(self) -> bool:
        """As in ``fit``."""
        return self.fit.resume

    @property
    def overwrite(self) -> bool:
        """As in ``fit``."""
        return self.fit.overwrite


PRESETS: dict[str, EndToEndOptions] = {
    name: EndToEndOptions(videos=tyro.MISSING, fit=preset) for name, preset in FIT_PRESETS.items()
}
"""Options for known data sets by name."""


class EndToEndTask:
    """Training of the SSN head with gradients for its features, with the samples of :class:`SSNTask`."""

    terms = SSNTask.terms

    def __init__(self, task: SSNTask, standardisation: Standardisation | None, seed: int) -> None:
        """``task``: that of the head alone; the features of its table are not used."""
        self.head, self.steps = task.head, task.steps
        self._task, self._seed, self._standardisation = task, seed, standardisation
        self._plan = EpochPlan(torch.zeros(0), ())
        size, segments = task.groups.size, sum(task.head.options.segments)
        # Order the batch by video, so that it can be divided between processes; the task has background at the end.
        self._order = np.argsort(task.needed // (size * segments), kind="stable")
        self._places = torch.from_numpy(task.needed[self._order]).to(task.device)
        self._group = task.needed[self._order] // segments % size

    def requests(self, epoch: int) -> Sequence[Sequence[Request]]:
        self._plan = self._task.plan(epoch)
        rows = self._plan.rows.cpu().numpy()[:, self._order]
        offsets = self._task.table.offsets
        video = np.searchsorted(offsets, rows, side="right") - 1
        rows_in_video = rows - offsets[video]
        count, each = self._task.batch_videos, rows.shape[1] // self._task.batch_videos
        parts = [slice(at * each, (at + 1) * each) for at in range(count)]
        return [
            [
                Request(video[step, part], rows_in_video[step, part], self._group[part], (self._seed, epoch, step, at))
                for at, part in enumerate(parts)
            ]
            for step in range(len(rows))
        ]

    def losses(self, features: Tensor, step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        task, head = self._task, self.head
        rows = features.flatten(0, 1)
        if self._standardisation is not None:
            rows = (rows - self._standardisation.mean) * self._standardisation.scale
        scaling, labels, targets = (tensor[step] for tensor in self._plan.others)
        segments = sum(head.options.segments)
        every = rows.new_zeros(labels.numel() * segments, rows.shape[1]).index_copy(0, self._places, rows)
        # No loss uses the parts of background proposals: their scaling does not matter.
        whole = scaling.new_ones(*labels.shape, 2)
        whole[:, : task.groups.completeness_size] = scaling.view(len(labels), -1, 2)
        pooled = head.pool(every.view(-1, segments, rows.shape[1]), whole.flatten(0, 1), generator)
        return task.losses(head, *group_features(pooled, task.groups), labels, targets, *task.class_weights)


def fit_end_to_end(options: EndToEndOptions) -> dict[str, Any]:
    """Learn an SSN head and the backbone of one stream together, from videos; start it with torchrun for several GPUs.

    The run folder OUT has the same files as after training from features, and backbone.pt for extract/run.py --weights.
    The head fits features that are extracted with this backbone. Returns the summary of the run. Raises UserError for
    input that is missing or does not fit together.
    """
    with processes(options.fit.device) as group:
        folder = PixelFolder(options.fit.out, group.first)
        saved = folder.checkpoint_to_resume(options)
        if saved is not None and saved["finished"]:
            if "inputs" in saved:
                proposals = require_proposals(options.fit.head, options.fit.proposals)
                inputs = join_data(options.fit, proposals).inputs(options.fit, values=False)
                require_same_inputs(options.fit.out, saved["inputs"], inputs)
            return folder.read_summary(options.fit.quiet or not group.first)
        training, backbone, source, task = prepare_end_to_end(options, group)
        if saved is not None:
            training.restore([saved])
        else:
            folder.create(replace(options, fit=replace(options.fit, resume=False, overwrite=False)))
        steps = PixelSteps(training, task, source, options.pixels.workers, options.tuning, group)
        summary = train(training, folder, group, steps, options.save_every)
        if group.first:
            _finish(training, folder, backbone, source.reader.options)
            folder.summarise(summary)
            return folder.read_summary(options.fit.quiet)
        return summary


def prepare_end_to_end(
    options: EndToEndOptions, group: Processes
) -> tuple[PixelTraining, Backbone, PixelSource, EndToEndTask]:
    """Read and check all input. Raises UserError for input that does not fit together or the recipe of the store."""
    fit = replace(options.fit, quiet=options.fit.quiet or not group.first, device="cpu")
    group.require_shares(fit.optimisation.batch_videos, "--batch-videos")
    start = None if options.init_head is None else load_run(options.init_head)
    data = read_data(fit, require_proposals(fit.head, fit.proposals), values=False)
    snippets, backbone = _as_extracted(options, data.store, group.device)
    videos = _videos(options, data, snippets, group)
    task, stats, used = _task(fit, data, start, group.device)
    fixed = None if start is None else start.standardisation
    standardisation = None if fixed is None else _on_device(fixed, group.device)
    pixels = options.pixels
    source = PixelSource(
        videos, reader_of(pixels, snippets, options.stream, group), backbone.input_size, pixels.variation
    )
    facts = {
        **scoring_facts(data.labels, fit.streams, fixed, data.store),
        "augmentation": list(fit.augmentation),
        "head": describe_head(task.head),
        "reg_stats": stats,
        "config": to_dict(options.fit),
        "options": to_dict(options),
        "videos": len(data.table.ids),
        "inputs": data.inputs,
        "data": used,
    }
    end_to_end = EndToEndTask(task, standardisation, fit.seed)
    return begin_training(end_to_end, backbone, fit, options.tuning, facts, group), backbone, source, end_to_end


def _on_device(standardisation: Standardisation, device: torch.device) -> Standardisation:
    return Standardisation(standardisation.mean.to(device), standardisation.scale.to(device))


def _as_extracted(
    options: EndToEndOptions, store: FeatureStore, device: torch.device
) -> tuple[ResolvedSnippets, Backbone]:
    """How snippets were cut out for the store, and the backbone that computed its features.

    Raises UserError if the features were not extracted by this program, or with another backbone or other weights.
    """
    stream, recipe = options.stream, store.recipe
    snippets = snippet_options_of(recipe, options.flow_weights)
    recorded = recipe["streams"][stream]["backbone"]
    require_trusted(recorded["name"], options.trust_modules, f"the store {store.path}")
    size = next(part.crop for part in snippets.by_crop() if stream in part.streams)
    backbone = load_backbone(recorded["name"], stream, options.weights, str(device), trainable=True, input_size=size)
    # The precision of extraction does not identify the backbone: training has its own option for it.
    extracted = {name: value for name, value in recorded.items() if name != "precision"}
    changes = differences({"backbone": extracted}, {"backbone": plain_recipe(backbone.recipe())})
    if changes:
        changed = "; ".join(f"{name} was {was} and is {now}" for name, was, now in changes)
        raise UserError(
            f"the backbone is not the one that computed the features of {store.path}: {changed}; give the same "
            "--weights as to extract/run.py"
        )
    return snippets, backbone


def _videos(
    options: EndToEndOptions, data: TrainingData, snippets: ResolvedSnippets, group: Processes
) -> list[IndexedVideo]:
    """The files of the training videos, from which the features of the store were extracted.

    Raises UserError if a file differs from the extracted one or gives other snippets.
    """
    table, store, quiet = data.table, data.store, options.fit.quiet or not group.first
    bytes_of = {name: store.read(name, ()).info.get("source", {}).get("bytes") for name in table.ids}
    files = find_videos(options.videos, options.prefix, options.ids, options.pixels.names).videos
    check = partial(_same_file, bytes_of)
    videos = index_videos(files, table.ids, options.pixels, snippets, group, quiet, check)
    for at, video in enumerate(videos):
        spans, stored = video.grid(snippets).spans, table.spans[table.rows_of(at)]
        if spans.shape != stored.shape or not np.allclose(spans, stored, atol=1e-3):
            raise UserError(
                f"video {video.id!r} gives {len(spans)} snippets to {spans[-1, 1]:.3f} s, the store has "
                f"{len(stored)} to {stored[-1, 1]:.3f} s: {video.path} is not the extracted video, or PyAV changed"
            )
    return videos


def _same_file(bytes_of: Mapping[str, int | None], name: str, path: Path) -> str:
    wanted = bytes_of[name]
    if wanted is None or path.is_dir() or path.stat().st_size == wanted:
        return ""
    return f"{path} has {path.stat().st_size} bytes, the file that was extracted had {wanted}"


def _task(
    options: FitOptions, data: TrainingData, start: Run | None, device: torch.device
) -> tuple[SSNTask, Tensor, str]:
    """The training of the head alone, its regression statistics, and the digest of its data."""
    candidates = data.candidates(options.random_windows, options.seed)
    pools = make_pools(candidates, options.pools, options.groups)
    width = sum(stream_dims(data.store, options.streams))
    head = SSNHead(width, len(data.labels), options.ssn, torch.Generator().manual_seed(options.seed))
    if start is not None:
        head = _started(start, head, data)
        assert start.reg_stats is not None
        pools = replace(pools, target_stats=start.reg_stats)
    task = SSNTask(head.to(device), data.table.to(device), candidates, pools, options)
    return task, torch.from_numpy(np.array(pools.target_stats)), digest_of(candidates.intervals, candidates.labels)


def _started(start: Run, head: SSNHead, data: TrainingData) -> SSNHead:
    """The head of a run. Raises UserError if it has other features, classes or another shape."""
    if not isinstance(start.head, SSNHead) or start.reg_stats is None:
        raise UserError("--init-head must be a run of the ssn head")
    start.require_features(data.store.fingerprints, str(data.store.path))
    for name, given, wanted in (
        ("classes", start.labels, data.labels),
        ("streams", start.streams, data.table.streams),
        ("shape", start.head.options.stpp, head.options.stpp),
        ("regression", start.head.options.class_agnostic, head.options.class_agnostic),
    ):
        if given != wanted:
            raise UserError(f"--init-head has other {name} than this training: {given}, not {wanted}")
    head.load_state_dict(start.head.state_dict())
    return head


def _finish(training: PixelTraining, folder: PixelFolder, backbone: Backbone, snippets: ResolvedSnippets) -> None:
    """Write the backbone, and record in the checkpoint that the head takes features of this backbone."""
    folder.save_backbone(training.weights(), backbone)
    backbone.weights_sha256 = file_sha256(folder.path / BACKBONE)
    (facts,) = training.facts
    before = facts["store"]["recipe"]
    # Assume that features will be extracted in the same precision as before.
    backbone.precision = before["streams"][backbone.stream]["backbone"].get("precision", "float32")
    recipe = plain_recipe(recipe_of({backbone.stream: backbone}, snippets, fps=before.get("fps_of_images")))
    store = {"name": facts["store"]["name"], "recipe": recipe, "fingerprint": fingerprint(recipe)}
    training.facts = ({**facts, "store": store},)
    folder.save(training.states()[0])


__all__ = ["PRESETS", "EndToEndOptions", "EndToEndTask", "fit_end_to_end", "prepare_end_to_end"]
