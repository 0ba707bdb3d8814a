"""What a user may choose when extracting features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ssn_feat.errors import UserError
from ssn_feat.video import SnippetOptions

# The original scales frames to a short side of 256 for crops of 224; other input sizes keep the proportion.
_SHORT_SIDE_PER_CROP = 256 / 224


@dataclass(frozen=True)
class ExtractOptions:
    """Features of a folder of videos into a feature store. Run it again to resume: what is committed is skipped."""

    videos: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="VIDEOS")]
    """Folder of videos (searched with its subfolders), one video file, or a .txt file that lists a path per line."""
    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """The feature store to write, NAME.zarr; made where there is none."""
    annotations: str | None = None
    """Annotations (a path or DIALECT:PATH). Restricts extraction to the videos that they name and reports coverage."""
    subsets: tuple[str, ...] = ()
    """Subsets of the annotations to extract, as training validation; default: all."""
    prefix: str = ""
    """What file names have before the video's id; v_ for most copies of ActivityNet."""
    name: str = ""
    """Name of the data set, recorded in the store; default: that of the annotations, or of the folder."""
    streams: tuple[Literal["rgb", "flow"], ...] = ("rgb", "flow")
    """Streams to extract, in one pass over each video."""
    backbone: str = "bninception"
    """Network: bninception, inception_v3, efficientnet_lite0, torchvision:NAME or package.module:callable."""
    weights: tuple[str, ...] = ()
    """Weights per stream as rgb=FILE flow=FILE, or one value for all streams; default: the network's own.
    random:SEED is for tests."""
    stride: int = 6
    """Frames from one snippet to the next."""
    rgb_frame: Literal["middle", "first"] = "middle"
    """Frame of a snippet that rgb reads; first is the original's choice."""
    flow_method: Literal["dis", "farneback"] = "dis"
    """Optical flow algorithm."""
    flow_bound: float = 20.0
    """Pixels of motion at which 8-bit flow saturates; published flow networks expect 20."""
    short_side: int | None = None
    """Pixels to which the shorter side of frames is scaled; default: 256 for an input of 224, and in proportion.
    0 keeps the video's size."""
    crops: Literal["center", "ten"] = "center"
    """center: one crop. ten: corners and centre, each also mirrored, features averaged; ten times the cost."""
    keep_crops: bool = False
    """Store the features of each of the ten crops, not their mean."""
    batch: int = 16
    """Snippets that go through the network at once. Does not change the features."""
    jobs: int = 1
    """Videos at once. 1: in this process; more: that many worker processes, which divide the cores among them."""
    device: str = "auto"
    """Where the networks run: cpu, cuda, cuda:1, ...; auto takes a GPU where there is one."""
    dry_run: bool = False
    """Print what would be done, and stop."""

    def __post_init__(self) -> None:
        for name in ("batch", "jobs"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.keep_crops and self.crops != "ten":
            raise UserError("keep_crops needs crops ten: there is one crop only")
        if self.subsets and self.annotations is None:
            raise UserError("subsets need annotations that say which video belongs to which")
        self.weights_of("rgb")
        self.snippets(1)  # checks what does not depend on the network

    def snippets(self, input_size: int) -> SnippetOptions:
        """How snippets are cut for a network with inputs of ``input_size`` pixels."""
        short_side = self.short_side
        return SnippetOptions(
            stride=self.stride,
            streams=self.streams,
            rgb_frame=self.rgb_frame,
            flow_method=self.flow_method,
            flow_bound=self.flow_bound,
            short_side=round(input_size * _SHORT_SIDE_PER_CROP) if short_side is None else short_side,
            crop=input_size,
            crops=self.crops,
        )

    def weights_of(self, stream: str) -> str | None:
        """The weights chosen for a stream; None for the network's own."""
        chosen: dict[str, str] = {}
        for entry in self.weights:
            name, equals, value = entry.partition("=")
            targets = (name,) if equals and name in ("rgb", "flow") else self.streams
            for target in targets:
                if target in chosen:
                    raise UserError(f"weights name the stream {target} twice: {' '.join(self.weights)}")
                if target not in self.streams:
                    raise UserError(f"weights {entry!r} are for a stream that is not among {' '.join(self.streams)}")
                chosen[target] = value if targets == (name,) else entry
        return chosen.get(stream)
