"""The stages of extraction on a GPU: TV-L1 flow, networks, both streams from end to end and how busy the GPU is."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from bench.speed.extract import SIZE, ExtractSpeedOptions, figure, write_video
from bench.speed.extract_stages import decode, flops_of, gemm_peak, grays, two_streams
from bench.speed.figures import Figure
from bench.speed.timing import timed
from ssn_feat.backbones import load_backbone
from ssn_feat.extraction import extract_video
from ssn_feat.video import SnippetOptions, snippets
from ssn_feat.video.tvl1 import fixed_traffic, tvl1

_PAIRS, _IMAGES, _BATCH = 64, 256, 64
_GEMM = 8192


def gpu_figures(options: ExtractSpeedOptions, folder: Path) -> Iterator[Figure]:
    """All figures of a GPU; files go to ``folder``."""
    device = torch.device(options.device)
    with torch.cuda.device(device):
        yield from _flow(device, options)
        yield from _networks(device, options)
        yield from _end_to_end(options, folder)


def _synchronised(work: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        work()
        torch.cuda.synchronize()

    return run


def _bandwidth(device: torch.device) -> float:
    """Bytes a second that a copy of a large tensor reads and writes."""
    source = torch.empty(1 << 28, device=device)
    target = torch.empty_like(source)
    copy = _synchronised(lambda: target.copy_(source))
    copy()
    return 2 * source.nbytes / timed(copy, 10)[1]


def _flow(device: torch.device, options: ExtractSpeedOptions) -> Iterator[Figure]:
    gray = torch.from_numpy(grays(_PAIRS + 1)).to(device)
    work = _synchronised(partial(tvl1, gray[:-1], gray[1:], fixed=True))
    work()
    _, seconds = timed(work, options.runs)
    width, height = SIZE
    bandwidth = _bandwidth(device)
    floor = bandwidth / fixed_traffic(height, width)
    yield figure("flow tvl1_fixed", f"340x256, {_PAIRS} pairs at once", _PAIRS / seconds, "pairs/s", bar=800)
    yield figure("bandwidth", "copy of 1 GiB", bandwidth / 1e12, "TB/s")
    traffic = fixed_traffic(height, width) / 1e9
    yield figure("flow tvl1_fixed", f"floor by bandwidth, {traffic:.2f} GB/pair", floor, "pairs/s")
    yield figure("flow tvl1_fixed", "of the floor", 100 * _PAIRS / seconds / floor, "%")


def _networks(device: torch.device, options: ExtractSpeedOptions) -> Iterator[Figure]:
    dtypes: tuple[tuple[Literal["float16", "bfloat16"], torch.dtype], ...] = (
        ("float16", torch.float16),
        ("bfloat16", torch.bfloat16),
    )
    for precision, dtype in dtypes:
        peak = gemm_peak(device, dtype, _GEMM, 10)
        yield figure("matrix peak", f"{_GEMM}x{_GEMM}, {precision}", peak / 1e12, "TFLOP/s")
        for compiled in (False, True):
            backbone = load_backbone(
                "bninception", "rgb", "random:0", str(device), precision=precision, compiled=compiled
            )
            pixels = torch.randint(0, 256, (_IMAGES, *backbone.pixel_shape), dtype=torch.uint8, device=device)
            work = _synchronised(partial(backbone, pixels))
            work()
            work()
            _, seconds = timed(work, 3 * options.runs)
            of = f"{precision}, {_IMAGES} images on the GPU{', compiled' if compiled else ''}"
            yield figure("network bninception", of, _IMAGES / seconds, "images/s", bar=8000)
            if not compiled:
                reached = flops_of(backbone) * _IMAGES / seconds
                yield figure("network bninception", f"{of}, of the matrix peak", 100 * reached / peak, "%")


def _end_to_end(options: ExtractSpeedOptions, folder: Path) -> Iterator[Figure]:
    """Two streams of one video in one process: it is decoded in a thread, so decoding alone is the other bound."""
    duration = options.seconds or 60.0
    video = write_video(folder / "video", duration)
    count, decoding = timed(partial(decode, video))
    yield figure("decoding", "340x256, 1 thread", count / decoding, "frames/s")
    cut = SnippetOptions().resolved(device="cuda")
    backbones = two_streams(options.device, precision="float16")
    work = partial(extract_video, video, backbones, cut, batch=_BATCH)
    extract_video(write_video(folder / "first", 15), backbones, cut, batch=_BATCH)
    with _watched_gpu(options.device) as used:
        found, seconds = timed(work)
    rows = len(found.spans)
    of = f"two streams, {cut.flow_method}, float16, centre crop, {duration:g} s of video"
    yield figure("end to end", of, rows / seconds, "snippets/s")
    yield figure("end to end", "times real time", duration / seconds, "x", bar=20)
    busy = used()
    if busy is not None:
        yield figure("end to end", "GPU busy, by nvidia-smi", busy, "%")
    produce = _synchronised(lambda: [None for _ in snippets(video, cut, _BATCH, options.device)])
    _, producing = timed(produce)
    yield figure("end to end", "decoding, flow and crops alone", rows / producing, "snippets/s")


@contextmanager
def _watched_gpu(device: str) -> Iterator[Callable[[], float | None]]:
    """Within the block a GPU's use is sampled five times a second; what is yielded gives the mean in percent after it.

    None where nvidia-smi is missing or says nothing.
    """
    samples: list[float] = []
    if shutil.which("nvidia-smi") is None:
        yield lambda: None
        return
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
    command += ["-i", str(torch.device(device).index or 0)]
    with tempfile.TemporaryFile("w+") as output:
        watcher = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
        try:
            yield lambda: sum(samples) / len(samples) if samples else None
        finally:
            watcher.terminate()
            watcher.wait()
            output.seek(0)
            samples += [float(line) for line in output.read().split() if line.replace(".", "").isdigit()]


__all__ = ["gpu_figures"]
