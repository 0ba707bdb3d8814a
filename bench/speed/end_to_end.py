"""Speed and memory of training from pixels, without decoding: what ``python -m bench.speed end-to-end`` does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bench.speed.figures import Figure, machine_of, print_figures, write_figures
from bench.speed.timing import timed
from ssn_feat.backbones import Backbone, load_backbone
from ssn_feat.devices import device_of
from ssn_feat.errors import UserError
from ssn_feat.finetuning.feature_network import FeatureNetwork, Precision, TuningOptions, learning_groups
from ssn_feat.finetuning.pixel_training import peak_memory
from ssn_feat.heads.losses import Groups, LossOptions, ssn_loss
from ssn_feat.heads.ssn import SSNHead, SSNOptions
from ssn_feat.training.fit_options import OptimisationOptions
from ssn_feat.training.optimisation import optimiser_of, set_rate

_CLASSES = 20


@dataclass(frozen=True)
class EndToEndSpeedOptions:
    """Time steps of SSN from pixels, and see how much memory they take, beside what the machine multiplies at best."""

    device: str = "auto"
    """Where to train: cpu, cuda, cuda:1, ...; auto takes a GPU if there is one."""
    videos: int = 0
    """Videos of a batch, with 8 proposals of 9 segments each; 0: 16 on a GPU, 1 on a CPU."""
    backbone: str = "bninception"
    """Network, with random weights."""
    side: int = 0
    """Side of the pictures, pixels; 0: the network's own on a GPU, 64 on a CPU."""
    precisions: tuple[Precision, ...] = ("bfloat16", "float32")
    """Numbers to compute with, in turn."""
    kept: tuple[int, ...] = (0, 192)
    """Images whose activations are kept at once, in turn; 0: all."""
    steps: int = 5
    """Steps to time, after one that is not; the least time counts."""
    matrix: int = 0
    """Side of the square matrices that show the peak; 0: 8192 on a GPU, 1024 on a CPU."""
    json: Path | None = None
    """File to write, with the machine's name."""

    def __post_init__(self) -> None:
        if min(self.videos, self.side, self.matrix, *self.kept) < 0 or self.steps < 1:
            raise UserError("videos, side, matrix and kept must not be negative, steps at least 1")


def measure_end_to_end(options: EndToEndSpeedOptions) -> list[Figure]:
    """Time everything, print a table, write JSON where asked. Raises UserError where that cannot be written."""
    device = device_of(options.device)
    gpu = device.type == "cuda"
    videos, side = options.videos or (16 if gpu else 1), options.side or (None if gpu else 64)
    figures = []
    for precision in options.precisions:
        peak = _peak(precision, options.matrix or (8192 if gpu else 1024), device)
        figures.append(Figure(f"matrix product, {precision}", peak / 1e12, "TFLOP/s"))
        for kept in options.kept:
            backbone = load_backbone(options.backbone, "rgb", "random:0", str(device), trainable=True, input_size=side)
            tuning = TuningOptions(precision=precision, checkpoint_activations=kept)
            figures += _one(backbone, tuning, videos, peak, options.steps)
    named = machine_of(device, torch.get_num_threads())
    print_figures(figures, named)
    if options.json is not None:
        write_figures(figures, named, options.json)
    return figures


def _peak(precision: Precision, side: int, device: torch.device) -> float:
    """Floating-point operations a second of a product of square matrices."""
    a, b = (torch.randn(side, side, device=device, dtype=getattr(torch, precision)) for _ in range(2))
    return 2.0 * side**3 / _least(lambda: a @ b, device, 10)


def _least(function: Callable[[], object], device: torch.device, runs: int) -> float:
    """Least seconds of ``runs`` calls after two that are not counted."""

    def finished() -> None:
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    timed(finished, 2)
    return timed(finished, runs)[1]


def _one(backbone: Backbone, tuning: TuningOptions, videos: int, peak: float, steps: int) -> list[Figure]:
    """Speed, share of the peak and memory of one way to do the step."""
    device, images = backbone.device, videos * 8 * 9
    name = f"{backbone.name} {videos}x8x9 at {backbone.input_size}, {tuning.precision}"
    name += f", {tuning.checkpoint_activations} kept" if tuning.checkpoint_activations else ", all kept"
    operations = _operations(backbone) * images
    step = _step(backbone, tuning, videos)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        seconds = _least(step, device, steps)
    except torch.OutOfMemoryError:
        total = torch.cuda.get_device_properties(device).total_memory / 1e9
        return [Figure(f"{name}: memory", total, "GB", note="does NOT fit; this is what the GPU has")]
    share = operations / seconds / peak
    return [
        Figure(f"{name}: speed", images / seconds, "images/s"),
        Figure(f"{name}: of the matrix product", 100 * share, "%", note="a second forward pass is not counted"),
        Figure(
            f"{name}: memory", peak_memory(device) / 1e9, "GB", note="" if device.type == "cuda" else "of the process"
        ),
    ]


def _operations(backbone: Backbone) -> float:
    """Floating-point operations of one image, forward and backward."""
    pixels = torch.zeros((1, *backbone.input_shape), dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter:
        FeatureNetwork(backbone, TuningOptions()).train()(pixels).sum().backward()
    backbone.module.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())


def _step(backbone: Backbone, tuning: TuningOptions, videos: int) -> Callable[[], Tensor]:
    """One step of training on pixels that lie on the device."""
    backbone.module.to(memory_format=torch.channels_last)
    device, groups, options = backbone.device, Groups(), OptimisationOptions()
    network = FeatureNetwork(backbone, tuning).train()
    head = SSNHead(backbone.feature_dim, _CLASSES, SSNOptions()).to(device)
    optimiser = optimiser_of(learning_groups(backbone.module, head, options), options)
    set_rate(optimiser, 1e-4)
    proposals = videos * groups.size
    pixels = torch.randint(256, (proposals * 9, *backbone.input_shape), dtype=torch.uint8, device=device)
    labels = torch.ones((videos, groups.size), dtype=torch.int64, device=device)
    labels[:, -1] = 0
    scaling, targets = (torch.ones((*shape, 2), device=device) for shape in ((proposals,), (videos, groups.size)))

    def step() -> Tensor:
        features = network(pixels).view(proposals, 9, -1)
        loss = ssn_loss(head.group_scores(features, scaling, groups), labels, targets, groups, LossOptions()).total
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        return loss.detach()

    return step


__all__ = ["EndToEndSpeedOptions", "measure_end_to_end"]
