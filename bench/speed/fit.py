"""Speed of training from features: what ``python -m bench.speed fit`` does."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from bench.speed import plain_fit
from bench.speed.figures import Figure, machine_of, print_figures, write_figures
from bench.speed.made_up import ACTIVITYNET, THUMOS14, MadeUp, make_up
from bench.speed.timing import timed
from ssn_feat.annotations import read_annotations
from ssn_feat.devices import device_of
from ssn_feat.errors import UserError
from ssn_feat.heads.losses import Groups, LossOptions, Scores, ssn_loss
from ssn_feat.sampling.draws import epoch_candidates, epoch_generator
from ssn_feat.sampling.segments import choose_rows
from ssn_feat.training.fit import fit
from ssn_feat.training.fit_options import FitOptions
from ssn_feat.training.loop import threads_and_seed
from ssn_feat.training.prepare import prepare
from ssn_feat.training.presets import PRESETS
from ssn_feat.training.ssn_task import SSNTask
from ssn_feat.training.task import FeatureTask
from ssn_feat.training.training_state import Training

# Steps of the whole schedule: 45 epochs of 10 passes over 200 videos in batches of 16.
_SCHEDULE = 45 * (200 * 10 // 16)
_ANET_EPOCHS = 7
# Seconds that the original's losses took, forward and backward, on 16 x 8 proposals on one thread.
_ORIGINAL_LOSSES = 6.7e-3
_FRAMES = 16 * 8 * 9
# Numbers that are copied, and size of the matrices that are multiplied, to see what the machine can do.
_COPIED, _SQUARE = 1 << 26, 2048


@dataclass(frozen=True)
class FitSpeedOptions:
    """Time training at the size of THUMOS14 and ActivityNet, on made-up features, against what the machine can do and
    against the plain way."""

    videos: int = 200
    """Videos of the THUMOS14-shaped store."""
    width: int = 1024
    """Values of a snippet's feature."""
    annotations: str | None = None
    """Annotations (a path, or DIALECT:PATH) whose durations the videos take; none: drawn as THUMOS14's are spread."""
    schedule_steps: int = 600
    """Steps to run, in whole epochs; the time of the schedule is scaled from them to 5625."""
    full: bool = False
    """Run the whole schedule in place of schedule_steps."""
    plain_steps: int = 6
    """Steps to run of each plain way."""
    plain_workers: int = 2
    """Processes of the plain loaders."""
    seeds: int = 8
    """Heads to train at once, against one."""
    anet_videos: int = 200
    """Videos of the ActivityNet-shaped store, of which the time for 4819 is scaled."""
    end_to_end_frames: int = 4
    """Frames through bninception, of which a batch of 1152 is scaled; 0 leaves it out."""
    threads: int = 2
    """Threads of the training."""
    device: str = "cpu"
    """Where to train: cpu, cuda, ..."""
    folder: Path | None = None
    """Where the stores are made, and removed again; none: the system's folder for temporary files."""
    seed: int = 0
    """Decides everything that is made up."""
    json: Path | None = None
    """File to write, with the machine's name."""

    def __post_init__(self) -> None:
        for name in ("videos", "width", "schedule_steps", "plain_steps", "anet_videos", "threads"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.seeds < 2 or self.end_to_end_frames < 0 or self.plain_workers < 0:
            raise UserError("seeds must be at least 2, end_to_end_frames and plain_workers at least 0")


def measure_fit(options: FitSpeedOptions) -> list[Figure]:
    """Time everything, print a table, write JSON where asked. Raises UserError where that cannot be written."""
    device = device_of(options.device)
    durations = None
    if options.annotations is not None:
        durations = [
            video.duration for video in read_annotations(options.annotations).videos.values() if video.instances
        ]
    with tempfile.TemporaryDirectory(prefix="ssn_feat-speed-", dir=options.folder) as name:
        folder = Path(name)
        data = make_up(folder / "thumos14", THUMOS14, options.videos, options.width, options.seed, durations)
        run = _options("thumos14", data, folder / "run", options)
        figures, training = _schedule(run, data, options)
        with threads_and_seed(run, device):
            step = next(each.value for each in figures if each.unit == "steps/s")
            figures += _against_machine(training, 1 / step, options, device)
            figures += _plainly(training, data, 1 / step, options, device)
            figures += _losses(device)
            if options.end_to_end_frames:
                figures.append(_end_to_end(1 / step, options, device))
        figures.append(_several_seeds(run, 1 / step, options))
        del training
        figures.append(_activitynet(folder, options, device))
    named = machine_of(device, options.threads)
    print_figures(figures, named)
    if options.json is not None:
        write_figures(figures, named, options.json)
    return figures


def _options(preset: str, data: MadeUp, out: Path, options: FitSpeedOptions) -> FitOptions:
    return replace(
        PRESETS[preset],
        store=data.packed,
        annotations=str(data.annotations),
        proposals=data.proposals,
        out=out,
        subset="training",
        device=options.device,
        threads=options.threads,
        quiet=True,
    )


def _of_epochs(run: FitOptions, epochs: int) -> FitOptions:
    return replace(run, optimisation=replace(run.optimisation, epochs=epochs))


def _schedule(run: FitOptions, data: MadeUp, options: FitSpeedOptions) -> tuple[list[Figure], Training[FeatureTask]]:
    """The schedule as ``train/fit.py`` runs it, checkpoints and all; and a training to take apart."""
    training = prepare(run)
    assert isinstance(training.task, SSNTask)
    per_epoch, features = training.task.steps, training.task.table.rows.nbytes
    proposals = training.task.batch_videos * training.task.groups.size
    del training
    epochs = run.optimisation.epochs if options.full else max(1, round(options.schedule_steps / per_epoch))
    with _peak_memory() as peak:
        summary, total = timed(lambda: fit(_of_epochs(run, epochs)))
    rate = summary["steps"] / summary["seconds"]
    whole = _SCHEDULE / rate
    ran = f"{summary['steps']} steps run"
    ran += "" if summary["steps"] == _SCHEDULE else f", scaled to {_SCHEDULE}"
    bar = 10.0 if options.device.startswith("cuda") else 60.0
    drawn = f"{options.videos} videos, {data.rows} rows of {options.width}"
    figures = [
        Figure("training", rate, "steps/s", note=drawn),
        Figure("training", rate * proposals, "proposals/s"),
        Figure("THUMOS14 schedule", whole, "s", bar, note=ran),
        Figure("reading features and all else", total - summary["seconds"], "s", note="beside the steps"),
    ]
    if peak():
        beyond = (peak() - features) / 1e9
        figures.append(Figure("memory beyond the features", beyond, "GB", 3.0, note="at most, of the whole process"))
    return figures, prepare(run)


@contextmanager
def _peak_memory() -> Iterator[Callable[[], int]]:
    """Bytes of memory that this process held at most meanwhile, looked at often; 0 where the system does not say."""
    most, ended, page = 0, threading.Event(), os.sysconf("SC_PAGE_SIZE")

    def look() -> None:
        nonlocal most
        try:
            while not ended.wait(0.01):
                most = max(most, int(Path("/proc/self/statm").read_text().split()[1]) * page)
        except OSError:
            return

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lambda: most
    finally:
        ended.set()
        thread.join()


def _against_machine(
    training: Training[FeatureTask], step: float, options: FitSpeedOptions, device: torch.device
) -> Iterator[Figure]:
    """What a step moves and computes beside what the machine can, and the step beside gather and products alone."""
    task = training.task
    assert isinstance(task, SSNTask)
    plan = task.plan(0)
    rows = task.table.rows
    moved = plan.rows.shape[1] * rows.shape[1] * rows.element_size() / step
    source = torch.ones(_COPIED, device=device)
    target = torch.empty_like(source)
    copied = source.nbytes / _seconds(lambda: target.copy_(source), device)
    where = "" if device.type == "cuda" else f" of {torch.get_num_threads()} thread(s)"
    note = f"{moved / copied:.1%} of the copies' {copied / 1e9:.1f} GB/s{where}"
    yield Figure("gathered", moved / 1e9, "GB/s", note=note)
    products = _products(task)
    work = sum(2 * a.shape[0] * a.shape[1] * b.shape[1] for a, b in products)
    square = torch.ones(_SQUARE, _SQUARE, device=device)
    peak = 2 * _SQUARE**3 / _seconds(lambda: square @ square, device)
    note = f"{work / 1e6:.1f} MFLOP a step, {work / step / peak:.1%} of the products' {peak / 1e9:.0f} GFLOP/s{where}"
    yield Figure("computed", work / step / 1e9, "GFLOP/s", note=note)

    def floor() -> None:
        for own in plan.rows:
            rows.index_select(0, own).float()
            for a, b in products:
                a @ b

    least = _seconds(floor, device, 3) / len(plan.rows)
    note = f"{step * 1e3:.2f} ms against {least * 1e3:.2f} ms"
    bar = 2.0 if device.type == "cpu" else None
    yield Figure("step over its gather and products alone", step / least, "times", bar, note=note)
    note = "what as many sets of samples take at least, one after the other, without dropout and losses"
    floor_of_seeds = options.seeds * least / step
    yield Figure(f"gather and products of {options.seeds} seeds over one step", floor_of_seeds, "times", note=note)


def _products(task: SSNTask) -> list[tuple[Tensor, Tensor]]:
    """Operands of the matrix products of a step: scores of each layer, and the gradient of its weights."""
    pairs = []
    videos, groups, head = task.batch_videos, task.groups, task.head
    counts = (
        (head.activity_fc, groups.foreground + groups.background),
        (head.completeness_fc, groups.completeness_size),
        (head.regressor_fc, groups.foreground),
    )
    for layer, count in counts:
        inputs = torch.ones(videos * count, layer.in_features, device=task.device)
        gradient = torch.ones(videos * count, layer.out_features, device=task.device)
        pairs += [(inputs, layer.weight.detach().T), (gradient.T, inputs)]
    return pairs


def _seconds(work: Callable[[], Any], device: torch.device, runs: int = 5) -> float:
    """The least seconds of some runs after one that does not count."""

    def whole() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    whole()
    return timed(whole, runs)[1]


def _plainly(
    training: Training[FeatureTask], data: MadeUp, step: float, options: FitSpeedOptions, device: torch.device
) -> Iterator[Figure]:
    """The same steps through loaders of single proposals."""
    task = training.task
    assert isinstance(task, SSNTask)
    places, others = _items(task, options.plain_steps)
    batch = task.batch_videos * task.groups.size
    ways = (("whole videos", data.store, False, 6.0), ("single rows", data.packed, True, 20.0))
    for name, store, by_row, bar in ways:
        items = plain_fit.ProposalItems(store, "rgb", places, others, by_row)
        context = "spawn" if options.plain_workers else None
        loader = DataLoader(items, batch, num_workers=options.plain_workers, multiprocessing_context=context)
        head = plain_fit.PlainHead(options.width, task.head.classes).to(device)
        losses = plain_fit.steps(loader, head, device)
        # What starts the workers does not count, nor what they made before the clock started.
        ahead = 2 * options.plain_workers
        next(losses)
        started = time.perf_counter()
        count = sum(1 for _ in islice(losses, options.plain_steps + ahead))
        plain = (time.perf_counter() - started) / count
        note = f"{plain * 1e3:.0f} ms a step, {plain * _SCHEDULE / 60:.1f} min the schedule"
        yield Figure(f"faster than a loader that reads {name}", plain / step, "times", bar, "at least", note)


def _items(task: SSNTask, steps: int) -> tuple[list[tuple[str, list[int]]], list[Tensor]]:
    """Proposals of the first steps of an epoch: video and rows of each, and scaling, labels, targets."""
    generator = epoch_generator(0, 0)
    videos = len(task.table.ids)
    chosen = epoch_candidates(task.pools, videos, task.multiplier, task.batch_videos, task.groups, generator)
    chosen = np.resize(chosen.reshape(len(chosen), -1), (steps + 8, chosen[0].size)).reshape(-1)
    own = task.stage_rows
    rows = choose_rows(own.first[chosen], own.count[chosen], task.head.options.segments, generator)
    video = np.searchsorted(task.table.offsets, rows[:, 0], side="right") - 1
    inside = (rows - task.table.offsets[video][:, None]).tolist()
    places = [(task.table.ids[v], own_rows) for v, own_rows in zip(video.tolist(), inside, strict=True)]
    arrays = (own.scaling[chosen], np.maximum(task.labels[chosen], 1), task.targets[chosen])
    return places, [torch.from_numpy(array) for array in arrays]


def _losses(device: torch.device) -> Iterator[Figure]:
    """Losses of 16 x 8 proposals, forward and backward, ours and sample by sample."""
    generator, groups, classes = torch.Generator().manual_seed(0), Groups(), 20
    shapes = ((32, classes + 1), (112, classes), (16, classes, 2))
    scores = Scores(*(torch.randn(shape, generator=generator).to(device).requires_grad_() for shape in shapes))
    labels = torch.randint(1, classes + 1, (16, 8), generator=generator).to(device)
    labels[:, 7] = 0
    targets = torch.randn(16, 8, 2, generator=generator).to(device)

    def ours() -> Tensor:
        loss = ssn_loss(scores, labels, targets, groups, LossOptions()).total
        loss.backward()
        return loss.detach()

    found, seconds = ours(), _seconds(ours, device, 30)
    activity, completeness, regression = (torch.zeros(128, *shape[1:], device=device) for shape in shapes)
    activity.view(16, 8, -1)[:, [0, 7]] = scores.activity.detach().view(16, 2, -1)
    completeness.view(16, 8, -1)[:, :7] = scores.completeness.detach().view(16, 7, -1)
    regression.view(16, 8, classes, 2)[:, 0] = scores.regression.detach()
    for values in (activity, completeness, regression):
        values.requires_grad_()

    def theirs() -> Tensor:
        loss = plain_fit.losses(activity, completeness, regression, labels.view(-1), targets.view(-1, 2))
        loss.backward()
        return loss.detach()

    agrees = torch.allclose(found, theirs(), rtol=1e-5)
    plain = _seconds(theirs, device, 5)
    note = f"{seconds * 1e3:.2f} ms; {_ORIGINAL_LOSSES * 1e3} ms were measured of the original"
    times = _ORIGINAL_LOSSES / seconds
    yield Figure("losses faster than the original's", times, "times", 8.0, "at least", note)
    note = f"{plain * 1e3:.1f} ms; " + ("the same result" if agrees else "ANOTHER RESULT")
    yield Figure("losses faster than sample by sample", plain / seconds, "times", note=note)


def _end_to_end(step: float, options: FitSpeedOptions, device: torch.device) -> Figure:
    """A step that goes through the backbone for every frame, scaled from a few."""
    from ssn_feat.backbones import load_backbone

    backbone = load_backbone("bninception", "rgb", "random:0", options.device, trainable=True)
    frames = torch.zeros(options.end_to_end_frames, 3, 224, 224, device=device)
    seconds = _seconds(lambda: backbone.module(frames).sum().backward(), device, 2) * _FRAMES / len(frames)
    note = f"{seconds:.1f} s a step of {_FRAMES} frames, scaled from {len(frames)}"
    return Figure("faster than through bninception", seconds / step, "times", note=note)


def _several_seeds(run: FitOptions, step: float, options: FitSpeedOptions) -> Figure:
    several = replace(_of_epochs(run, 1), seeds=options.seeds, out=run.out.parent / "seeds")
    summary = fit(several)
    own = next(iter(summary["seeds"].values()))
    times = own["seconds"] / own["steps"] / step
    note = f"{own['seconds'] / own['steps'] * 1e3:.2f} ms a step"
    return Figure(f"{options.seeds} seeds over one", times, "times", 3.0, note=note)


def _activitynet(folder: Path, options: FitSpeedOptions, device: torch.device) -> Figure:
    """Seven epochs from a packed store on disk."""
    data = make_up(folder / "activitynet", ACTIVITYNET, options.anet_videos, options.width, options.seed)
    run = replace(_options("activitynet1.2", data, folder / "anet-run", options), features="mapped")
    summary, total = timed(lambda: fit(_of_epochs(run, 1)))
    videos = ACTIVITYNET.videos
    steps = videos * run.optimisation.epoch_multiplier // run.optimisation.batch_videos * _ANET_EPOCHS
    read = (total - summary["seconds"]) * videos / options.anet_videos
    learned = steps * summary["seconds"] / summary["steps"]
    note = f"scaled from {options.anet_videos} of {videos} videos: reading {read:.0f} s, {steps} steps {learned:.0f} s"
    return Figure("ActivityNet v1.2 schedule from disk", (read + learned) / 60, "min", 10.0, note=note)


__all__ = ["FitSpeedOptions", "measure_fit"]
