"""What a user may choose when extracting features."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ssn_feat.backbones import Backbone
from ssn_feat.errors import UserError
from ssn_feat.store import Compression
from ssn_feat.video import STREAMS, SnippetOptions


@dataclass(frozen=True)
class ExtractOptions:
    """Features of a folder of videos into a feature store. Run it again to resume: what is committed is skipped."""

    videos: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="VIDEOS")]
    """A folder of videos (or of folders of images), subfolders included; one video; or a .txt file of a path a line."""
    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """The feature store to write, NAME.zarr or a URL as s3://BUCKET/NAME.zarr; made where there is none."""
    annotations: str | None = None
    """Annotations (a path or DIALECT:PATH). Restricts extraction to the videos that they name and reports coverage."""
    subsets: tuple[str, ...] = ()
    """Subsets of the annotations to extract, as training validation; default: all."""
    prefix: str = ""
    """What file names have before the video's id; v_ for most copies of ActivityNet."""
    name: str = ""
    """Name of the data set, recorded in the store; default: that of the annotations, or of the folder."""
    backbone: tuple[str, ...] = ("bninception",)
    """Network: bninception, inception_v3, efficientnet_lite0, torchvision:NAME or package.module:callable; one for all
    streams, or one for each, as rgb=bninception clip=torchvision:r2plus1d_18."""
    weights: tuple[str, ...] = ()
    """Per stream, as rgb=FILE flow=FILE, or one for all; default: the network's own. random:SEED is for tests."""
    snippets: SnippetOptions = field(default_factory=SnippetOptions)
    """What is cut out of a video."""
    keep_crops: bool = False
    """Store the features of each crop, not their mean."""
    fps: float | None = None
    """Frame rate of folders of images, which carry no times."""
    compress: Compression | None = None
    """How the store keeps its arrays: none (the default of a new one) or zstd. Does not change the features."""
    allow_incomplete: bool = False
    """Keep what could be decoded of a video that is cut short or damaged, instead of counting it as failed."""
    batch: int = 0
    """Snippets that go through the network at once; 0: 16 on a CPU, 64 on a GPU. Does not change the features."""
    jobs: int = 0
    """Videos at once: 1 in this process, more in worker processes; 0: a process for each core, or for each GPU."""
    dask: str = ""
    """Address of a dask scheduler, as tcp://host:8786, whose workers extract the videos; needs the extra dask."""
    shard: str = ""
    """I/N: only part I (from 1) of the videos dealt out to N runs, as in an array of cluster jobs."""
    device: tuple[str, ...] = ("auto",)
    """Where the networks run: cpu, or GPUs, as cuda:0 cuda:1, to which the processes are dealt out; auto takes a GPU
    where there is one."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What the networks compute in; auto: float16 on a GPU, else float32."""
    compile: bool = False
    """Compile the networks by torch.compile; takes a minute or so at the start."""
    resume: bool = False
    """Go on with a store that is there; where there is none, stop instead of making one, as after a mistyped name."""
    dry_run: bool = False
    """Print what would be done, and stop."""

    def __post_init__(self) -> None:
        for name in ("batch", "jobs"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must be at least 1, or 0 to choose, not {getattr(self, name)}")
        if not self.device or (len(self.device) > 1 and "auto" in self.device):
            raise UserError(f"device must be auto, or name devices, not {' '.join(self.device) or 'nothing'}")
        if self.keep_crops and self.snippets.crops == "center":
            raise UserError("keep_crops needs crops ten or three: there is one crop only")
        if self.subsets and self.annotations is None:
            raise UserError("subsets need annotations that say which video belongs to which")
        if self.fps is not None and not self.fps > 0:
            raise UserError(f"fps must be positive, not {self.fps}")
        _ = self.part
        for stream in self.snippets.streams:
            self.backbone_of(stream)
            self.weights_of(stream)

    @property
    def part(self) -> tuple[int, int]:
        """``shard`` as (index from 0, number of parts)."""
        if not self.shard:
            return 0, 1
        match = re.fullmatch(r"(\d+)/(\d+)", self.shard)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f"shard must be I/N with I from 1 to N, as 3/8, not {self.shard!r}")
        return int(match[1]) - 1, int(match[2])

    def snippets_for(self, backbones: Mapping[str, Backbone]) -> SnippetOptions:
        """How snippets are cut for these networks, one per stream: what the options leave open is settled."""
        clip = backbones.get("clip")
        return self.snippets.resolved(
            {stream: backbone.input_size for stream, backbone in backbones.items()},
            clip.clip_length if clip is not None else None,
            self.device[0],
        )

    def backbone_of(self, stream: str) -> str:
        """The network of a stream. Raises UserError where none is chosen."""
        chosen = self._chosen("backbone", self.backbone).get(stream)
        if chosen is None:
            raise UserError(f"no backbone for the stream {stream}: name one, as {stream}=bninception")
        return chosen

    def weights_of(self, stream: str) -> str | None:
        """The weights chosen for a stream; None for the network's own."""
        return self._chosen("weights", self.weights).get(stream)

    def _chosen(self, what: str, entries: tuple[str, ...]) -> dict[str, str]:
        """Values by stream of entries STREAM=VALUE, or VALUE for all streams."""
        streams: tuple[str, ...] = self.snippets.streams
        chosen: dict[str, str] = {}
        for entry in entries:
            name, equals, value = entry.partition("=")
            named = bool(equals) and name in STREAMS
            for target in (name,) if named else streams:
                if target in chosen:
                    raise UserError(f"{what} name the stream {target} twice: {' '.join(entries)}")
                if target not in streams:
                    raise UserError(f"{what} {entry!r} are for a stream that is not among {' '.join(streams)}")
                chosen[target] = value if named else entry
        return chosen
