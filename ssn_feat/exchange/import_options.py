"""Options for importing the features of other projects."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ssn_feat.annotations.dataset import Video
from ssn_feat.annotations.joining import JoinOptions
from ssn_feat.errors import UserError
from ssn_feat.exchange.layouts import LAYOUTS, LayoutName, Orientation
from ssn_feat.exchange.patterns import ID, Pattern
from ssn_feat.exchange.time_base import FrameGrid, Rescaled, TimeBase
from ssn_feat.store import Compression

FROM_ANNOTATIONS = "annotations"


@dataclass(frozen=True)
class ImportFeaturesOptions(JoinOptions):
    """Features of other projects into a feature store. Run it again to resume: committed videos are skipped."""

    features: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FEATURES")]
    """A folder of features, or one HDF5 file."""
    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """The feature store to write, NAME.zarr; created if it does not exist."""
    annotations: str
    """Annotations (a path or DIALECT:PATH), which define the videos and their durations."""
    layout: LayoutName | None = None
    """Project that extracted the features: sets file names and order of axes, but not the time base."""
    files: tuple[str, ...] = ()
    """Files of each stream, e.g. rgb={id}_rgb.npy flow={id}_flow.npy; rgb=rgb.h5:{id} for data sets of an HDF5 file,
    NAME.npz:KEY for one of several arrays."""
    split: tuple[str, ...] = ()
    """Columns of one array that are separate streams, e.g. rgb=0:1024 flow=1024:2048."""
    orientation: Orientation = "auto"
    """Axes of the arrays: TD (one row per snippet), DT (one column per snippet) or CTD (crops first). auto: that of the
    layout, otherwise the one that fits duration and time base; an error if both or neither do."""
    id: str = ID
    """The id in the annotations in terms of the id in the files: v_{id} adds the prefix v_."""
    fps: str = ""
    """Time base: frames per second at extraction, or "annotations" for the frame rate of each video there."""
    stride: float | None = None
    """Time base: frames from one row to the next."""
    window: float | None = None
    """Time base: frames that one row was computed from."""
    offset: float | None = None
    """Time base: frames before the window of the first row."""
    rows_per_video: int | None = None
    """Instead of the four options above: features were rescaled to this number of rows for each video."""
    whole_windows: int = 0
    """Rescaled features cover only whole windows of this number of frames (BSN and BMN: 16); 0: the whole video."""
    tolerance: float = 2.0
    """Seconds by which the rows may miss the end of the video before the time base is considered wrong."""
    shortest: bool = False
    """Cut the streams of a video to the shortest one instead of refusing videos whose streams differ in length."""
    dtype: Literal["float16", "float32"] = "float16"
    """Type of the stored features. A video whose values overflow float16 is refused."""
    origin: str = ""
    """Description of the network, e.g. "I3D, Kinetics-400"; a store takes features of one origin only."""
    name: str = ""
    """Name of the data set; default: name of the annotations."""
    compress: Compression | None = None
    """Compression of a new store, none (default) or zstd. Does not change the features."""
    allow_pickle: bool = False
    """Read .pkl files, but only arrays, lists and plain values in them; their code is never executed."""
    dry_run: bool = False
    """Print the plan and stop."""

    def __post_init__(self) -> None:
        if not self.layout and not self.files:
            raise UserError(
                f"name the files of the features: --layout {'|'.join(LAYOUTS)}, or --files rgb={ID}.npy "
                "(see docs/features-of-others.md)"
            )
        _ = self.rescaled or self.grid(1.0 if self.fps == FROM_ANNOTATIONS else None)
        patterns = self.patterns
        if len({pattern.stream for pattern in patterns}) < len(patterns):
            raise UserError(f"files name a stream twice: {' '.join(self.files)}")
        if any(pattern.is_pickle for pattern in patterns) and not self.allow_pickle:
            raise UserError("pickle files are read only with --allow-pickle")
        if self.split and len(patterns) != 1:
            raise UserError(f"split needs one array for each video, but there are {len(patterns)} streams")
        if ID not in self.id:
            raise UserError(f"id must contain {ID}, e.g. v_{ID}, not {self.id!r}")
        if self.whole_windows and not self.rescaled:
            raise UserError("whole_windows needs --rows-per-video: it describes rescaled features")
        _ = self.columns

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        """The patterns of ``files`` or ``layout``."""
        texts = self.files or (LAYOUTS[self.layout].files if self.layout else ())
        return tuple(Pattern.parse(text) for text in texts)

    @property
    def axes(self) -> Orientation:
        """The given order of axes, or "auto"."""
        return LAYOUTS[self.layout].orientation if self.layout and self.orientation == "auto" else self.orientation

    @property
    def columns(self) -> dict[str, tuple[int, int]]:
        """First and last + 1 column of each stream of ``split``."""
        columns: dict[str, tuple[int, int]] = {}
        for text in self.split:
            match = re.fullmatch(r"([^=]+)=(\d+):(\d+)", text)
            if not match or int(match[2]) >= int(match[3]):
                raise UserError(f"split must be STREAM=FIRST:END, e.g. rgb=0:1024, not {text!r}")
            first, last = int(match[2]), int(match[3])
            if match[1] in columns or any(first < end and start < last for start, end in columns.values()):
                raise UserError(f"split names a stream or a column twice: {' '.join(self.split)}")
            columns[match[1]] = first, last
        return columns

    @property
    def rescaled(self) -> bool:
        """Whether the features were rescaled. Raises UserError if both kinds of time base are given."""
        if self.rows_per_video is None:
            return False
        given = [n for n in ("fps", "stride", "window", "offset") if getattr(self, n) not in ("", None)]
        if given:
            raise UserError(f"rows_per_video is a complete time base: leave out {', '.join(given)}")
        return True

    def grid(self, fps: float | None = None) -> FrameGrid:
        """The grid of frames; ``fps`` if from the annotations. Raises UserError naming missing options."""
        missing = [f"--{n}" for n in ("fps", "stride", "window", "offset") if getattr(self, n) in ("", None)]
        if missing:
            raise UserError(
                f"the time base is not known: {', '.join(missing)} missing (in frames; it is never inferred, "
                "see docs/features-of-others.md), or give --rows-per-video for rescaled features"
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
        """The time base common to all videos, as plain values."""
        if self.rescaled:
            return {"rows": self.rows_per_video, "whole_windows": self.whole_windows}
        if self.fps == FROM_ANNOTATIONS:
            return {**self.grid(1.0).describe(), "fps": FROM_ANNOTATIONS}
        return self.grid().describe()

    def time_base(self, video: Video) -> TimeBase:
        """The time base of one video. Raises UserError if the annotations lack the frame rate or number of frames."""
        if self.rows_per_video is None:
            return self.grid(fps_of(video) if self.fps == FROM_ANNOTATIONS else None)
        if not self.whole_windows:
            return Rescaled(self.rows_per_video)
        if not video.frames:
            raise UserError(
                f"the annotations lack the number of frames of video {video.id!r}, which whole_windows needs"
            )
        whole = video.frames // self.whole_windows * self.whole_windows
        return Rescaled(self.rows_per_video, whole / video.frames * video.duration)


def fps_of(video: Video) -> float:
    """Frame rate from the annotations. Raises UserError if they have neither it nor the number of frames."""
    if video.fps:
        return video.fps
    if video.frames and video.duration:
        return video.frames / video.duration
    raise UserError(f"the annotations have neither fps nor the number of frames of video {video.id!r}: give --fps")


__all__ = ["FROM_ANNOTATIONS", "ImportFeaturesOptions", "fps_of"]
