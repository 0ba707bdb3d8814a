"""What a user may choose when extracting features."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from ssn_feat.errors import UserError
from ssn_feat.video import SnippetOptions

_DEFAULTS = SnippetOptions()


@dataclass(frozen=True)
class ExtractOptions:
    """Features of a folder of videos into a feature store. Run it again to resume: what is committed is skipped."""

    videos: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="VIDEOS")]
    """A folder of videos (or of folders of images), subfolders included; one video; or a .txt file of a path a line."""
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
    backbone: str = "bninception"
    """Network: bninception, inception_v3, efficientnet_lite0, torchvision:NAME or package.module:callable."""
    weights: tuple[str, ...] = ()
    """Per stream, as rgb=FILE flow=FILE, or one for all; default: the network's own. random:SEED is for tests."""
    snippets: SnippetOptions = field(default_factory=SnippetOptions)
    """What is cut out of a video. A crop of 224, the default, stands for the network's own input size, another gives
    the network inputs of that size; a short_side of 256, the default, is scaled in proportion to the crop."""
    keep_crops: bool = False
    """Store the features of each crop, not their mean."""
    fps: float | None = None
    """Frame rate of folders of images, which carry no times."""
    allow_incomplete: bool = False
    """Keep what could be decoded of a video that is cut short or damaged, instead of counting it as failed."""
    batch: int = 16
    """Snippets that go through the network at once. Does not change the features."""
    jobs: int = 0
    """Videos at once: 1 in this process, more in worker processes; 0: a process for each core, or one on a GPU."""
    shard: str = ""
    """I/N: only part I (from 1) of the videos dealt out to N runs, as in an array of cluster jobs."""
    device: str = "auto"
    """Where the networks run: cpu, cuda, cuda:1, ...; auto takes a GPU where there is one."""
    dry_run: bool = False
    """Print what would be done, and stop."""

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise UserError(f"batch must be at least 1, not {self.batch}")
        if self.jobs < 0:
            raise UserError(f"jobs must be at least 1, or 0 to choose, not {self.jobs}")
        if self.keep_crops and self.snippets.crops == "center":
            raise UserError("keep_crops needs crops ten or three: there is one crop only")
        if self.subsets and self.annotations is None:
            raise UserError("subsets need annotations that say which video belongs to which")
        if self.fps is not None and not self.fps > 0:
            raise UserError(f"fps must be positive, not {self.fps}")
        _ = self.part
        for stream in self.snippets.streams:
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

    @property
    def input_size(self) -> int | None:
        """Input size that the network shall have; None for its own."""
        return None if self.snippets.crop == _DEFAULTS.crop else self.snippets.crop

    def snippets_for(self, input_size: int) -> SnippetOptions:
        """How snippets are cut for a network with inputs of ``input_size`` pixels."""
        short_side = self.snippets.short_side
        if short_side == _DEFAULTS.short_side:
            short_side = round(input_size * _DEFAULTS.short_side / _DEFAULTS.crop)
        return replace(self.snippets, crop=input_size, short_side=short_side)

    def weights_of(self, stream: str) -> str | None:
        """The weights chosen for a stream; None for the network's own."""
        streams: tuple[str, ...] = self.snippets.streams
        chosen: dict[str, str] = {}
        for entry in self.weights:
            name, equals, value = entry.partition("=")
            named = bool(equals) and name in ("rgb", "flow", "rgbdiff", "clip")
            for target in (name,) if named else streams:
                if target in chosen:
                    raise UserError(f"weights name the stream {target} twice: {' '.join(self.weights)}")
                if target not in streams:
                    raise UserError(f"weights {entry!r} are for a stream that is not among {' '.join(streams)}")
                chosen[target] = value if named else entry
        return chosen.get(stream)
