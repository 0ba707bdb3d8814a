"""What must be told of features of others, and may be chosen, when they are imported."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ssn_feat.annotations.dataset import Video
from ssn_feat.errors import UserError
from ssn_feat.exchange.layouts import LAYOUTS, LayoutName, Orientation
from ssn_feat.exchange.patterns import ID, Pattern
from ssn_feat.exchange.time_base import FrameGrid, Rescaled, TimeBase
from ssn_feat.store import Compression

FROM_ANNOTATIONS = "annotations"


@dataclass(frozen=True)
class ImportOptions:
    """Features that others extracted, into a feature store. Run it again to resume: what is committed is skipped."""

    features: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FEATURES")]
    """A folder of features, or one HDF5 file."""
    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """The feature store to write, NAME.zarr; made where there is none."""
    annotations: str
    """Annotations (a path or DIALECT:PATH): they say which videos there are and how long each one is."""
    layout: LayoutName | None = None
    """Whose features they are: sets the names of files and the order of axes, never the time base."""
    files: tuple[str, ...] = ()
    """Where each stream is, as rgb={id}_rgb.npy flow={id}_flow.npy, or rgb=rgb.h5:{id} for data sets of HDF5 files;
    NAME.npz:KEY for one of several arrays."""
    split: tuple[str, ...] = ()
    """Columns of one array that are streams of their own, as rgb=0:1024 flow=1024:2048."""
    orientation: Orientation = "auto"
    """Axes of the arrays: TD (a row a snippet), DT (a column a snippet) or CTD (crops first); auto: that of the layout,
    else what fits the duration and the time base, refused where both do or none does."""
    id: str = ID
    """What a video's id in the annotations is made of, where that is not the id in the files: v_{id} puts v_ before."""
    fps: str = ""
    """Time base: frames per second that features were extracted at, or "annotations" for those of each video there."""
    stride: float | None = None
    """Time base: frames from one row to the next."""
    window: float | None = None
    """Time base: frames that one row was computed from."""
    offset: float | None = None
    """Time base: frames before the first row's window."""
    rows_per_video: int | None = None
    """In place of the four: features were rescaled to this many rows a video."""
    whole_windows: int = 0
    """Rescaled features cover only whole windows of this many frames (BSN and BMN: 16); 0: they cover the video."""
    tolerance: float = 2.0
    """Seconds by which the rows may miss the end of the video before the time base counts as wrong."""
    shortest: bool = False
    """Cut the streams of a video to the shortest one, instead of refusing videos whose streams differ in length."""
    dtype: Literal["float16", "float32"] = "float16"
    """Type of the stored features. float16 is refused where it overflows."""
    origin: str = ""
    """What made the features, in words, as "I3D, Kinetics-400": part of the recipe, so that no others are added."""
    name: str = ""
    """Name of the data set; default: that of the annotations."""
    compress: Compression | None = None
    """How the store keeps its arrays: none (the default of a new one) or zstd. Does not change the features."""
    allow_pickle: bool = False
    """Read .pkl files. Only arrays, lists and plain values are read from them; nothing in them is run."""
    dry_run: bool = False
    """Print what would be done, and stop."""

    def __post_init__(self) -> None:
        if not self.layout and not self.files:
            raise UserError(
                f"say where the features are: --layout {'|'.join(LAYOUTS)}, or --files rgb={ID}.npy "
                "(docs/features-of-others.md says more)"
            )
        _ = self.rescaled or self.grid(1.0 if self.fps == FROM_ANNOTATIONS else None)
        patterns = self.patterns
        if len({pattern.stream for pattern in patterns}) < len(patterns):
            raise UserError(f"files name a stream twice: {' '.join(self.files)}")
        if any(pattern.is_pickle for pattern in patterns) and not self.allow_pickle:
            raise UserError("pickle files are read only with --allow-pickle")
        if self.split and len(patterns) != 1:
            raise UserError(f"split needs one array a video, but there are {len(patterns)} streams")
        if ID not in self.id:
            raise UserError(f"id must hold {ID}, as v_{ID}, not {self.id!r}")
        if self.whole_windows and not self.rescaled:
            raise UserError("whole_windows are those of rescaled features: --rows-per-video is missing")
        _ = self.columns

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        """Where the arrays are."""
        texts = self.files or (LAYOUTS[self.layout].files if self.layout else ())
        return tuple(Pattern.parse(text) for text in texts)

    @property
    def axes(self) -> Orientation:
        """Order of axes, as far as it is said."""
        return LAYOUTS[self.layout].orientation if self.layout and self.orientation == "auto" else self.orientation

    @property
    def columns(self) -> dict[str, tuple[int, int]]:
        """First and last + 1 column of each stream of ``split``."""
        found: dict[str, tuple[int, int]] = {}
        for text in self.split:
            match = re.fullmatch(r"([^=]+)=(\d+):(\d+)", text)
            if not match or int(match[2]) >= int(match[3]):
                raise UserError(f"split must be STREAM=FIRST:END, as rgb=0:1024, not {text!r}")
            if match[1] in found or any(int(match[2]) < end and start < int(match[3]) for start, end in found.values()):
                raise UserError(f"split names a stream or a column twice: {' '.join(self.split)}")
            found[match[1]] = int(match[2]), int(match[3])
        return found

    @property
    def rescaled(self) -> bool:
        """Whether the features were rescaled. Raises UserError where both time bases are given."""
        if self.rows_per_video is None:
            return False
        given = [n for n in ("fps", "stride", "window", "offset") if getattr(self, n) not in ("", None)]
        if given:
            raise UserError(f"rows_per_video is a time base by itself: leave out {', '.join(given)}")
        return True

    def grid(self, fps: float | None = None) -> FrameGrid:
        """The grid of frames, at ``fps`` where the annotations have it. Raises UserError naming what is not said."""
        missing = [f"--{n}" for n in ("fps", "stride", "window", "offset") if getattr(self, n) in ("", None)]
        if missing:
            raise UserError(
                f"the time base is not known: {', '.join(missing)} missing (frames; it is never guessed, "
                "docs/features-of-others.md lists that of well-known features), or give --rows-per-video for rescaled "
                "features"
            )
        assert self.stride is not None
        assert self.window is not None
        assert self.offset is not None
        if fps is None:
            try:
                fps = float(self.fps)
            except ValueError:
                raise UserError(f"fps must be a number or {FROM_ANNOTATIONS!r}, not {self.fps!r}") from None
        return FrameGrid(fps, self.stride, self.window, self.offset)

    @property
    def described(self) -> dict[str, Any]:
        """The time base as plain values, as far as it is that of all videos."""
        if self.rescaled:
            return {"rows": self.rows_per_video, "whole_windows": self.whole_windows}
        if self.fps == FROM_ANNOTATIONS:
            return {**self.grid(1.0).describe(), "fps": FROM_ANNOTATIONS}
        return self.grid().describe()

    def time_base(self, video: Video) -> TimeBase:
        """That of one video. Raises UserError where the annotations lack what it takes."""
        if self.rows_per_video is None:
            return self.grid(fps_of(video) if self.fps == FROM_ANNOTATIONS else None)
        if not self.whole_windows:
            return Rescaled(self.rows_per_video)
        if not video.frames:
            raise UserError(f"the annotations do not say how many frames video {video.id!r} has: whole_windows need it")
        whole = video.frames // self.whole_windows * self.whole_windows
        return Rescaled(self.rows_per_video, whole / video.frames * video.duration)


def fps_of(video: Video) -> float:
    """Frames per second by the annotations. Raises UserError where they say neither that nor the number of frames."""
    if video.fps:
        return video.fps
    if video.frames and video.duration:
        return video.frames / video.duration
    raise UserError(f"the annotations say neither fps nor the number of frames of video {video.id!r}: give --fps")
