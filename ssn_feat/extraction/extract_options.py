"""The options of extraction."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ssn_feat.errors import UserError
from ssn_feat.store import Compression
from ssn_feat.video import STREAMS, ImageNames, SnippetOptions
from ssn_feat.video.find_videos import IdFrom


@dataclass(frozen=True)
class ExtractOptions:
    """Extract features of videos into a feature store. Run it again to resume: committed videos are skipped."""

    videos: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="VIDEOS")]
    """A folder of videos or of folders of images, including subfolders; one video; a .txt file with one path per line;
    or a .csv file with lines id,path."""
    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """The feature store to write, NAME.zarr or a URL such as s3://BUCKET/NAME.zarr; created if it does not exist."""
    annotations: str | None = None
    """Annotations (a path or DIALECT:PATH). Only the videos that they name are extracted; missing ones are reported."""
    subsets: tuple[str, ...] = ()
    """Subsets of the annotations to extract, e.g. training validation; default: all."""
    ids: IdFrom = "stem"
    """Ids of the videos: the file name without its ending, or path: the path below VIDEOS without the ending, such as
    day1/cam2."""
    prefix: str = ""
    """Prefix of file names before the video's id; v_ for most copies of ActivityNet."""
    name: str = ""
    """Name of the data set, recorded in the store; default: the name of the annotations, or of the folder."""
    backbone: tuple[str, ...] = ("bninception",)
    """Network: bninception, inception_v3, efficientnet_lite0, torchvision:NAME or package.module:callable; one for all
    streams, or one for each, e.g. rgb=bninception clip=torchvision:r2plus1d_18."""
    weights: tuple[str, ...] = ()
    """Weights per stream, rgb=FILE flow=FILE, or one for all; default: the network's own. random:SEED is for tests."""
    snippets: SnippetOptions = field(default_factory=SnippetOptions)
    """How snippets are cut out of a video."""
    keep_crops: bool = False
    """Store the features of each crop instead of their mean."""
    fps: float | None = None
    """Frame rate of folders of images, which have no times."""
    frames: str = ImageNames.frames
    """Names of the frames in folders of images, e.g. frame_{:010d}.jpg: {:010d} stands for the number, of any number of
    digits; without an ending .jpg, .jpeg and .png match. Does not change the features."""
    flow_frames: str = ImageNames.flow
    """Names of the flow images in folders of images, e.g. flow/{axis}/{:05d}.jpg; {axis} stands for x and y, or u and
    v."""
    compress: Compression | None = None
    """Compression of the store: none (the default of a new store) or zstd. Does not change the features."""
    allow_incomplete: bool = False
    """Keep the decodable part of a truncated or damaged video instead of counting the video as failed."""
    batch: int = 0
    """Snippets per batch of the network; 0: 16 on a CPU, 64 on a GPU. Does not change the features."""
    jobs: int = 0
    """Videos extracted at the same time: 1 in this process, more in worker processes; 0: one process for each core, or
    for each GPU."""
    dask: str = ""
    """Address of a dask scheduler, e.g. tcp://host:8786, whose workers extract the videos; needs the extra dask."""
    shard: str = ""
    """I/N: extract only part I (from 1) of N parts of the videos, e.g. in an array of cluster jobs."""
    device: tuple[str, ...] = ("auto",)
    """Devices of the networks: cpu, or GPUs, e.g. cuda:0 cuda:1, over which the processes are distributed; auto: a GPU
    if there is one."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Floating-point type of the networks; auto: float16 on a GPU, else float32."""
    compile: bool = False
    """Compile the networks with torch.compile, which takes about a minute at the start."""
    resume: bool = False
    """Resume an existing store. --resume never creates a store, so a typo in its name is an error."""
    update: bool = False
    """Extract videos again whose files changed since they were extracted; without it they are only named."""
    dry_run: bool = False
    """Print what would be done and stop."""
    quiet: bool = False
    """Print nothing."""

    def __post_init__(self) -> None:
        for name in ("batch", "jobs"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must be at least 1, or 0 for the default, not {getattr(self, name)}")
        if not self.device or (len(self.device) > 1 and "auto" in self.device):
            raise UserError(f"device must be auto or names of devices, not {' '.join(self.device) or 'nothing'}")
        if self.keep_crops and self.snippets.crops == "center":
            raise UserError("keep_crops needs crops ten or three: center is only one crop")
        if self.subsets and self.annotations is None:
            raise UserError("subsets need annotations that assign videos to subsets")
        if self.fps is not None and not self.fps > 0:
            raise UserError(f"fps must be positive, not {self.fps}")
        _ = self.names
        _ = self.part
        for stream in self.snippets.streams:
            self.backbone_of(stream)
            self.weights_of(stream)

    @property
    def names(self) -> ImageNames:
        """Names of the images in folders."""
        return ImageNames(self.frames, self.flow_frames)

    @property
    def part(self) -> tuple[int, int]:
        """``shard`` as (index from 0, number of parts)."""
        if not self.shard:
            return 0, 1
        match = re.fullmatch(r"(\d+)/(\d+)", self.shard)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f"shard must be I/N with I from 1 to N, e.g. 3/8, not {self.shard!r}")
        return int(match[1]) - 1, int(match[2])

    def backbone_of(self, stream: str) -> str:
        """The network of a stream. Raises UserError if none is chosen."""
        chosen = self._chosen("backbone", self.backbone).get(stream)
        if chosen is None:
            raise UserError(f"no backbone for the stream {stream}: name one, e.g. {stream}=bninception")
        return chosen

    def weights_of(self, stream: str) -> str | None:
        """The weights chosen for a stream; None for the network's own weights."""
        return self._chosen("weights", self.weights).get(stream)

    def _chosen(self, what: str, entries: tuple[str, ...]) -> dict[str, str]:
        """The value of each stream, from entries STREAM=VALUE or VALUE (for all streams)."""
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
