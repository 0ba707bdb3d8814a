"""The stages of extraction on a CPU: decoding, flow, networks, all of them, the plain way, memory."""

from __future__ import annotations

import functools
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.speed import plain_extract
from bench.speed.extract import FPS, ExtractSpeedOptions, figure, made_up_frames, write_video
from bench.speed.figures import Figure
from bench.speed.timing import timed
from ssn_feat.backbones import Backbone, load_backbone
from ssn_feat.errors import UserError
from ssn_feat.extraction import ExtractedVideo, extract_video
from ssn_feat.extraction.worker_threads import limited_threads
from ssn_feat.video import FlowMethod, SnippetOptions, flow, frames, import_cv2, open_source, snippets, to_gray
from ssn_feat.video.grid import FLOW_LENGTH

_RGB_AND_FLOW = ("rgb", "flow")
_IMAGES = 8
_GEMM = 2048


def cpu_figures(options: ExtractSpeedOptions, folder: Path) -> Iterator[Figure]:
    """All figures of a CPU; files go to ``folder``."""
    video = write_video(folder / "video", options.seconds or 40)
    with limited_threads(1):
        yield from _decoding(video, options)
        yield from _flow(options)
        yield from _networks(options)
    yield from _end_to_end(video, options)
    if options.plain_seconds:
        yield from _plain_way(folder, options)
    if options.long_minutes:
        yield from _memory(folder, options)


def decode(video: Path) -> int:
    """Decode every frame and convert it to BGR; their number."""
    return sum(1 for _ in frames(video))


def _decoding(video: Path, options: ExtractSpeedOptions) -> Iterator[Figure]:
    count, seconds = timed(partial(decode, video), options.runs)
    yield figure("decoding", "340x256, 1 thread", count / seconds, "frames/s")


def grays(count: int) -> np.ndarray:
    """Gray made-up frames, uint8 (count, H, W)."""
    return np.stack([to_gray(image) for image in made_up_frames(count=count)])


def _flow(options: ExtractSpeedOptions) -> Iterator[Figure]:
    gray = grays(11)
    methods: tuple[tuple[FlowMethod, int], ...] = (("dis", 10), ("farneback", 10), ("tvl1", 2), ("tvl1_fixed", 2))
    ours = 0.0
    for method, pairs in methods:
        work = partial(flow, gray[:pairs], gray[1 : pairs + 1], method)
        _, seconds = timed(work, options.runs)
        ours = seconds / pairs if method == "tvl1" else ours
        yield figure(f"flow {method}", "340x256, 1 thread", 1000 * seconds / pairs, "ms/pair")
    cv2 = import_cv2()
    if not hasattr(cv2, "optflow"):
        print("note: this OpenCV has no TV-L1 of its own to compare with (pip install opencv-contrib-python has)")
        return
    solver = cv2.optflow.DualTVL1OpticalFlow_create()
    _, theirs = timed(partial(solver.calc, gray[0], gray[1], None))
    yield figure("flow tvl1 of OpenCV", "340x256, 1 thread", 1000 * theirs, "ms/pair")
    yield figure("flow tvl1", "times as fast as OpenCV's", theirs / ours, "x", bar=3)


def gemm_peak(device: torch.device, dtype: torch.dtype, side: int = _GEMM, runs: int = 5) -> float:
    """FLOP/s of a large matrix product: what the machine can do at most."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    def product() -> None:
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    product()
    return 2 * side**3 / timed(product, runs)[1]


def flops_of(backbone: Backbone) -> int:
    """FLOP of one input, a multiplication and an addition counted as two."""
    parameter = next(backbone.module.parameters())
    example = torch.zeros((1, *backbone.input_shape), device=parameter.device, dtype=parameter.dtype)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone.module(example)
    return int(counter.get_total_flops())


def _networks(options: ExtractSpeedOptions) -> Iterator[Figure]:
    peak = gemm_peak(torch.device("cpu"), torch.float32)
    for name in options.backbones:
        try:
            backbone = load_backbone(name, "rgb", None if name == "efficientnet_lite0" else "random:0")
        except UserError as error:
            print(f"note: {name} is left out: {error}")
            continue
        pixels = torch.randint(0, 256, (_IMAGES, *backbone.pixel_shape), dtype=torch.uint8)
        backbone(pixels)
        _, seconds = timed(partial(backbone, pixels), options.runs)
        peak = max(peak, gemm_peak(torch.device("cpu"), torch.float32))
        reached = flops_of(backbone) * _IMAGES / seconds
        of = f"{backbone.input_size} pixels, float32, 1 thread"
        yield figure(f"network {name}", of, _IMAGES / seconds, "images/s")
        yield figure(f"network {name}", of, reached / 1e12, "TFLOP/s")
        bar = 85.0 if name == "bninception" else None
        yield figure(f"network {name}", "of the matrix peak", 100 * reached / peak, "%", bar=bar)
    yield figure("matrix peak", f"{_GEMM}x{_GEMM}, float32, 1 thread", peak / 1e12, "TFLOP/s")


def two_streams(device: str = "cpu", **changes: object) -> dict[str, Backbone]:
    """bninception for rgb and flow."""
    return {s: load_backbone("bninception", s, "random:0", device, **changes) for s in _RGB_AND_FLOW}  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Stages:
    """Seconds of each stage over one video, alone and on one thread."""

    decode: float
    flow: float
    crops: float
    network: float

    @property
    def total(self) -> float:
        return self.decode + self.flow + self.crops + self.network

    @property
    def slowest(self) -> float:
        return max(self.decode, self.flow, self.crops, self.network)


def _end_to_end(video: Path, options: ExtractSpeedOptions) -> Iterator[Figure]:
    """Each stage alone against all at once; both with one thread a stage, as ``extract/run.py`` has on two cores."""
    cut, backbones = SnippetOptions().resolved(), two_streams()
    with limited_threads(1):
        stages, rows = _stages_alone(video, cut, backbones)
        _, seconds = timed(partial(extract_video, video, backbones, cut))
    of = f"two streams, {cut.flow_method}, centre crop, {rows} snippets"
    for name, alone in vars(stages).items():
        yield figure(f"stage {name}", of, 1000 * alone / rows, "ms/snippet")
    yield figure("end to end", of, rows / seconds, "snippets/s")
    yield figure("end to end", "of the slowest stage's own time", seconds / stages.slowest, "x", bar=1.15, at_most=True)
    yield figure("end to end", "as fast as its stages in turn", stages.total / seconds, "x")


def _stages_alone(video: Path, cut: SnippetOptions, backbones: dict[str, Backbone]) -> tuple[_Stages, int]:
    _, decoding = timed(partial(decode, video))
    batches, producing = timed(lambda: list(snippets(video, cut)))
    rows = sum(len(batch) for batch in batches)
    kept = np.stack([to_gray(image) for _, image in frames(video)])
    pairs = sorted({row * cut.stride + k for row in range(rows) for k in range(FLOW_LENGTH)})
    _, flowing = timed(lambda: flow(kept[pairs], kept[[pair + 1 for pair in pairs]], "dis"))

    def network() -> None:
        for batch in batches:
            for stream, pixels in batch.streams.items():
                backbones[stream](pixels)

    _, networking = timed(network)
    return _Stages(decoding, flowing, max(producing - decoding - flowing, 0.0), networking), rows


def _plain_way(folder: Path, options: ExtractSpeedOptions) -> Iterator[Figure]:
    """The same network and crops: ours a process for each core, theirs through files with all threads at every step."""
    video = write_video(folder / "short", options.plain_seconds)
    start, theirs = write_video(folder / "start", 0.3), _as_trained()
    files = folder / "files"
    files.mkdir()
    count, decoding = timed(lambda: plain_extract.frames_to_files(video, files))
    _, flowing = timed(lambda: plain_extract.flow_to_files(files, count))
    for crops, ten in (("center", False), ("ten", True)):
        cut = SnippetOptions(stretch=340, crops="ten" if ten else "center").resolved()
        features, rest = timed(partial(plain_extract.snippet_features, files, count, theirs, cut.stride, cut.crop, ten))
        found, seconds = _on_all_cores(video, start, cut)
        rows, plain = len(found.spans), decoding + flowing + rest
        of = f"two streams, dis, {crops} crop, {rows} snippets"
        yield figure("the plain way", of, rows / plain, "snippets/s")
        yield figure("end to end", of, rows / seconds, "snippets/s")
        yield figure("end to end", f"as fast as the plain way, {crops} crop", plain / seconds, "x", bar=3)
        alike = np.corrcoef(features["rgb"].ravel(), found.features["rgb"].ravel())[0, 1]
        yield figure("the plain way", f"correlation of its rgb features with ours, {crops} crop", float(alike), "")


def _on_all_cores(video: Path, start: Path, cut: SnippetOptions) -> tuple[ExtractedVideo, float]:
    """What a process for each core makes of two copies of a video each, and seconds for one copy of all, start-up over.

    As ``extract/run.py`` does with many videos.
    """
    cores = joblib.cpu_count()
    with joblib.Parallel(n_jobs=cores, backend="loky", pre_dispatch="all", batch_size=1) as parallel:
        parallel(joblib.delayed(_extracted)(start, cut, pause=2.0) for _ in range(cores))
        found, seconds = timed(lambda: parallel(joblib.delayed(_extracted)(video, cut) for _ in range(2 * cores)))
    return found[0], seconds / (2 * cores)


def _extracted(video: Path, cut: SnippetOptions, pause: float = 0.0) -> ExtractedVideo:
    """One video in a process that keeps its networks; with a ``pause`` each process of a pool gets one."""
    with limited_threads(1):
        found = extract_video(video, _kept_networks(), cut)
    time.sleep(pause)
    return found


@functools.cache
def _kept_networks() -> dict[str, Backbone]:
    return two_streams()


def _as_trained() -> dict[str, Backbone]:
    """Batch norm as it is, planes in memory."""
    return {stream: load_backbone("bninception", stream, "random:0", trainable=True) for stream in _RGB_AND_FLOW}


# Not getrusage: a process begins with the peak of the one that started it.
_MEASURE = """
import sys
from bench.speed.extract_stages import pass_through
pass_through(sys.argv[1])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


class _Small(torch.nn.Module):
    """A network of no cost."""

    input_size = 56
    feature_dim = 16

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(channels, 16, 7, stride=7)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.convolution(image).mean(dim=(2, 3))
        return features


def small_network(channels: int) -> torch.nn.Module:
    """What memory is measured with, where only the frames on their way count."""
    return _Small(channels)


def pass_through(video: str) -> None:
    """Extract two streams of a video by a network of no cost."""
    backbones = {stream: load_backbone(f"{__name__}:small_network", stream) for stream in _RGB_AND_FLOW}
    sizes = {stream: backbone.input_size for stream, backbone in backbones.items()}
    with limited_threads(1):
        extract_video(video, backbones, SnippetOptions().resolved(sizes))


def _memory(folder: Path, options: ExtractSpeedOptions) -> Iterator[Figure]:
    peaks = []
    for seconds in (10.0, 60 * options.long_minutes):
        video = write_video(folder / f"of-{seconds:g}", seconds, (128, 96))
        done = subprocess.run([sys.executable, "-c", _MEASURE, str(video)], capture_output=True, text=True, check=True)
        with closing(open_source(video)) as source:
            declared = source.probe.declared_frames
        peaks.append(int(done.stdout) / 1024)
        of = f"{declared / FPS / 60:.3g} min of video, whole process"
        yield figure("peak memory", of, peaks[-1], "MB")
    yield figure("peak memory", "of the long video to the short one's", peaks[1] / peaks[0], "x", bar=1.1, at_most=True)


__all__ = ["cpu_figures", "decode", "flops_of", "gemm_peak", "grays", "pass_through", "small_network"]
