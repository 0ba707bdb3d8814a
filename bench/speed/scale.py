"""What a data set of so many hours of video costs: bytes, files, GPU-hours, requests. ``python -m bench.speed scale``.

Arithmetic on constants that were measured (``bench/results``) or counted; nothing is timed here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Literal, NamedTuple

from ssn_feat.drawing.tables import show, table_of
from ssn_feat.errors import UserError

_FLOW_LENGTH = 5
_HALF, _SPANS = 2, 16  # bytes of a float16, and of the times of a row
_SHARD = 128 << 20
_LISTED = 1000  # objects that one request lists
_AT_ONCE = 16  # requests under way when a store far away is read


@dataclass(frozen=True)
class Measured:
    """Constants of one machine: of the files in ``bench/results`` by default, or one's own."""

    two_streams: float = 531.5
    """Pairs of frames a second on one GPU, end to end: 106.3 snippets/s of 5 pairs (extract-h100: tvl1_fixed)."""
    images: float = 15473.0
    """Images a second through the network on one GPU (extract-h100: bninception, float16, not compiled)."""
    decoding: float = 5781.0
    """Frames a second that one core decodes (extract-h100: 340x256)."""
    dis_ms: float = 59.1
    """Milliseconds of one core for a snippet's 5 fields of dis flow (extract-epyc)."""
    crops_ms: float = 18.1
    """Milliseconds of one core to resize and crop a snippet of two streams (extract-epyc)."""
    network_ms: float = 57.1
    """Milliseconds of one core for an image through bninception (extract-epyc: 114.2 for two streams)."""
    gpu_steps: float = 2054.0
    """Training steps a second with the features in a GPU's memory (fit-h100)."""
    cpu_steps: float = 320.8
    """Training steps a second with the features in memory, on two cores (fit-xeon-2cores)."""
    detect_ms: float = 10.9
    """Milliseconds of one core to score and suppress a video of 700 proposals (detect-epyc: 8.4 + 2.5)."""

    def __post_init__(self) -> None:
        _above_zero(self)


@dataclass(frozen=True)
class ScaleOptions:
    """What data sets of some sizes cost: bytes, files, GPU-hours, requests, memory. Nothing is measured."""

    hours: tuple[float, ...] = (1e3, 1e5, 1e7)
    """Hours of video, one column for each."""
    video_seconds: float = 200.0
    """Mean length of a video."""
    fps: float = 30.0
    """Frames a second."""
    stride: int = 6
    """Frames from one snippet to the next."""
    widths: tuple[int, ...] = (1024, 1024)
    """Values of a feature, one number for each stream."""
    instances: float = 15.0
    """Annotated instances of a video."""
    classes: int = 20
    """Classes that are told apart."""
    proposals: float = 300.0
    """Proposals of a video."""
    round_trip_ms: float = 30.0
    """Time of one request to an object store: an assumption, not measured."""
    measured: Measured = field(default_factory=Measured)

    def __post_init__(self) -> None:
        _above_zero(self)


def _above_zero(options: Measured | ScaleOptions) -> None:
    for each in fields(options):
        value = getattr(options, each.name)
        if value == () or any(isinstance(v, int | float) and not 0 < v < math.inf for v in _several(value)):
            raise UserError(f"{each.name} must be above zero, not {value}")


def _several(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)


class Quantity(NamedTuple):
    """One number of a plan: what of, how it comes about, whether it is of bytes."""

    name: str
    formula: str
    value: float
    unit: Literal["", "bytes"] = ""


def plan(options: ScaleOptions, hours: float) -> list[Quantity]:
    """All quantities for so many hours of video, in the same order for any number of them."""
    videos = hours * 3600 / options.video_seconds
    snippets = hours * 3600 * options.fps / options.stride
    return [
        Quantity("videos", f"3600 s / {options.video_seconds:g} s an hour", videos),
        Quantity("snippets", f"3600 s x {options.fps:g} / {options.stride} an hour", snippets),
        *_stored(options, videos, snippets),
        *_extracted(options, hours, snippets),
        *_learned(options, videos, snippets),
        *_detected(options, videos),
        *_looked_at(options, videos),
    ]


def _stored(options: ScaleOptions, videos: float, snippets: float) -> Iterator[Quantity]:
    streams, width = len(options.widths), sum(options.widths)
    wide = 1408
    yield Quantity("features", f"snippets x ({width} x 2 + 16) B", snippets * (width * _HALF + _SPANS), "bytes")
    yield Quantity(
        "features, ten crops kept",
        f"snippets x ({width} x 20 + 16) B",
        snippets * (10 * width * _HALF + _SPANS),
        "bytes",
    )
    yield Quantity(
        f"features, one stream of {wide}",
        f"snippets x ({wide} x 2 + 16) B",
        snippets * (wide * _HALF + _SPANS),
        "bytes",
    )
    files, folders = 1 + 2 * (streams + 1), 1 + 3 * (streams + 1)
    yield Quantity("growing: files or objects", f"{files} a video", files * videos)
    yield Quantity(
        "growing: inodes of a folder", f"{files} files + {folders} folders a video", (files + folders) * videos
    )
    shards = sum(math.ceil(snippets * w * _HALF / _SHARD) for w in options.widths) + math.ceil(
        snippets * _SPANS / _SHARD
    )
    yield Quantity("packed: files", "one each 128 MiB of an array, and a few", shards + streams + 6)


def _extracted(options: ScaleOptions, hours: float, snippets: float) -> Iterator[Quantity]:
    known = options.measured
    pairs = min(options.stride, _FLOW_LENGTH)
    frames = hours * 3600 * options.fps
    streams = len(options.widths)
    decoding = frames / known.decoding
    flow = snippets * known.dis_ms * pairs / _FLOW_LENGTH / 1e3
    crops = snippets * known.crops_ms / 1e3
    image = known.network_ms / 1e3
    yield Quantity(
        "rgb + flow, tvl1_fixed: GPU-hours",
        f"snippets x {pairs} pairs / {known.two_streams:g} a s",
        snippets * pairs / known.two_streams / 3600,
    )
    yield Quantity("rgb alone: GPU-hours", f"snippets / {known.images:g} images a s", snippets / known.images / 3600)
    yield Quantity("rgb alone, ten crops: GPU-hours", "ten times as many images", 10 * snippets / known.images / 3600)
    yield Quantity("decoding: core-hours", f"{options.fps:g} frames a s / {known.decoding:g} a s", decoding / 3600)
    yield Quantity(
        "pixels with dis flow: core-hours",
        f"decoding + snippets x ({known.dis_ms * pairs / _FLOW_LENGTH:.3g} + {known.crops_ms:g}) ms",
        (decoding + flow + crops) / 3600,
    )
    yield Quantity(
        "all on CPUs with dis: core-hours",
        f"and {streams} images of {known.network_ms:g} ms a snippet",
        (decoding + flow + crops + streams * snippets * image) / 3600,
    )


def _learned(options: ScaleOptions, videos: float, snippets: float) -> Iterator[Quantity]:
    known, width = options.measured, options.widths[0]
    steps = 7 * 10 * videos / 16
    yield Quantity(
        "training, one stream: memory", f"snippets x ({width} x 2 + 16) B", snippets * (width * _HALF + _SPANS), "bytes"
    )
    yield Quantity("training: steps", "7 epochs x 10 x videos / 16", steps)
    yield Quantity("training, in GPU memory: hours", f"steps / {known.gpu_steps:g} a s", steps / known.gpu_steps / 3600)
    yield Quantity("training, 2 cores: hours", f"steps / {known.cpu_steps:g} a s", steps / known.cpu_steps / 3600)


def _detected(options: ScaleOptions, videos: float) -> Iterator[Quantity]:
    columns = 4 * options.classes + 1
    ms = options.measured.detect_ms
    yield Quantity("detection: core-hours", f"{ms:g} ms a video", videos * ms / 3.6e6)
    yield Quantity(
        "detection: raw scores in memory",
        f"{options.proposals:g} x ({columns} x 4 + 16) B a video",
        videos * options.proposals * (columns * 4 + 16),
        "bytes",
    )
    yield Quantity(
        "detections as JSON", f"{options.proposals:g} x 103 B a video", videos * options.proposals * 103, "bytes"
    )


def _looked_at(options: ScaleOptions, videos: float) -> Iterator[Quantity]:
    objects = 1 + 2 * (len(options.widths) + 1)
    instances = options.instances
    yield Quantity(
        "annotations as JSON", f"113 + {instances:g} x 50 B a video", videos * (113 + 50 * instances), "bytes"
    )
    yield Quantity(
        "annotations, most memory", f"712 + {instances:g} x 562 B a video", videos * (712 + 562 * instances), "bytes"
    )
    yield Quantity("S3: requests of extraction", "14 a video, of which 8 puts", 14 * videos)
    yield Quantity("S3: puts only where there is none", "2 a video: claim and commit", 2 * videos)
    yield Quantity("S3: requests to list a store", f"{objects} objects a video / {_LISTED}", objects * videos / _LISTED)
    yield Quantity("S3: requests to read or verify", f"{objects} a video", objects * videos)
    yield Quantity(
        "S3: status, hours",
        f"videos x {options.round_trip_ms:g} ms / {_AT_ONCE} at once",
        videos * options.round_trip_ms / 3.6e6 / _AT_ONCE,
    )


def told(quantity: Quantity) -> str:
    """The value in three digits, of bytes in powers of a thousand."""
    value = quantity.value
    if quantity.unit == "bytes":
        power = min(6, max(0, int(math.log10(max(value, 1)) // 3)))
        return f"{value / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB')[power]}"
    if value >= 1000:
        return f"{round(value, 2 - math.floor(math.log10(value))):,.0f}"
    return f"{value:.{3 if value >= 1 else 2}g}"


def print_scale(options: ScaleOptions) -> None:
    """What data sets of some sizes cost, by constants measured elsewhere: a row a quantity, a column a size."""
    plans = [plan(options, hours) for hours in options.hours]
    table = table_of("", "formula", *(f"{hours:,.0f} h" for hours in options.hours), names=("formula",))
    for same in zip(*plans, strict=True):
        table.add_row(same[0].name, same[0].formula, *(told(each) for each in same))
    show(table)


__all__ = ["Measured", "Quantity", "ScaleOptions", "plan", "print_scale", "told"]
