"""How snippets are cut out of a video: every choice that decides what a feature means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import ClassVar, Literal

from ssn_feat.errors import UserError
from ssn_feat.video.flow import FlowMethod, default_flow_method
from ssn_feat.video.grid import FLOW_LENGTH
from ssn_feat.video.network_inputs import Crops, Resize

Stream = Literal["rgb", "flow", "rgbdiff", "clip"]
STREAMS: tuple[Stream, ...] = ("rgb", "flow", "rgbdiff", "clip")

_CROP, _SHORT_SIDE = 224, 256


@dataclass(frozen=True)
class SnippetOptions:
    """How snippets are cut out of a video. Every field decides what a feature means, so all of them are in a recipe.

    A snippet covers 5 pairs of consecutive frames, that is 6 frames.
    """

    REMOVED: ClassVar[Mapping[str, str]] = {
        "decoder": "PyAV decodes every video",
        "flow_length": "a snippet always has 5 flow fields",
        "jpeg_quality": "frames are not compressed",
        "stream_crops": "each stream is cropped to the input size of its network",
    }
    """Options of earlier versions, and why they were removed."""

    stride: int = 6
    """Frames from one snippet to the next."""
    nominal_fps: float = 0.0
    """Sample frames at this rate: frame k is the one shown at k / nominal_fps seconds; 0: take the video's frames."""
    streams: tuple[Stream, ...] = ("rgb", "flow")
    """Inputs made of a snippet: rgb (one frame), flow (5 flow fields), rgbdiff (5 differences of frames), clip
    (clip_length frames)."""
    rgb_frame: Literal["middle", "first"] = "middle"
    """The frame that rgb reads: the third of the snippet, in the middle of its flow, or the first, as in the original
    code."""
    clip_length: int = 0
    """Frames of a clip, which is centred on the snippet; 0: as many as the network takes."""
    clip_step: int = 1
    """Frames from one frame of a clip to the next."""
    flow_method: Literal[FlowMethod, "auto", "stored"] = "auto"
    """Optical flow algorithm, applied to resized frames; auto: tvl1_fixed on a GPU, else dis; stored: read the flow_x_
    and flow_y_ images of a folder instead."""
    flow_weights: str = ""
    """Weights file of raft flow."""
    flow_bound: float = 20.0
    """Motion in pixels at which 8-bit flow saturates. Published flow networks expect 20."""
    flow_quantised: bool = True
    """Clip and round flow to 8 bits, as in flow images: what published networks were trained on."""
    short_side: int = -1
    """Scale frames so that their shorter side has this many pixels; 0: keep the size; -1: in proportion to the crop,
    256 for 224."""
    stretch: int = 0
    """Stretch every frame to this width at a height of short_side, e.g. 340 for 256; 0: keep the aspect ratio."""
    resize: Resize = "plain"
    """plain: bilinear, as in frame extraction tools. smooth: antialiased when shrinking, as in Pillow; slower."""
    crop: int = 0
    """Side of the square crops, pixels; 0: the input size of the network."""
    crops: Crops = "center"
    """center: one. three: along the longer side. ten: four corners and the centre, each also mirrored."""
    deinterlace: Literal["auto", "off"] = "auto"
    """auto: make interlaced frames progressive (bwdif); off: leave the two fields in one picture."""
    video_stream: int = -1
    """Number of the video stream of files with several, counted from 0; -1: the one that players show."""

    def __post_init__(self) -> None:
        for name, least in (("stride", 1), ("clip_step", 1), ("clip_length", 0), ("crop", 0), ("video_stream", -1)):
            if getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not self.streams or len(set(self.streams)) != len(self.streams) or set(self.streams) - set(STREAMS):
            named = " ".join(self.streams) or "nothing"
            raise UserError(f"streams must be some of {', '.join(STREAMS)}, each once, not {named}")
        if not self.flow_bound > 0:
            raise UserError(f"flow_bound must be positive, not {self.flow_bound}")
        if not 0 <= self.nominal_fps < float("inf"):
            raise UserError(f"nominal_fps must be positive, or 0 for the video's own frames, not {self.nominal_fps}")
        if self.short_side < -1 or 0 < self.short_side < self.crop:
            raise UserError(f"short_side must be 0 (no scaling) or at least {self.crop} (crop), not {self.short_side}")
        if self.stretch and (self.stretch < self.crop or self.stretch < 1 or self.short_side == 0):
            raise UserError(f"stretch needs a short_side and must be at least {self.crop} (crop), not {self.stretch}")
        self._check_flow()

    def _check_flow(self) -> None:
        if "flow" in self.streams and self.flow_method == "raft" and not self.flow_weights:
            raise UserError(
                "raft flow needs weights: give flow_weights, a file of torchvision's raft_large or raft_small"
            )
        if self.flow_weights and self.flow_method != "raft":
            raise UserError(f"flow_weights are for the flow_method raft, not for {self.flow_method}")
        if not self.flow_quantised and self.flow_method == "stored":
            raise UserError("stored flow has 8 bits: leave flow_quantised on")
        if self.flow_method == "stored" and self.nominal_fps:
            raise UserError("stored flow belongs to the frames of its folder: it cannot be read at a nominal_fps")

    def crop_of(self, stream: str) -> int:
        """Side of the crops of one stream, pixels; 0 where the network decides."""
        return self.crop

    def resolved(
        self, sizes: Mapping[str, int] | None = None, clip_length: int | None = None, device: str = "cpu"
    ) -> ResolvedSnippets:
        """These options with every default filled in.

        ``sizes``: input size of the network of each stream, pixels; ``clip_length``: frames that the network of clips
        takes; ``device``: where flow is computed. Without networks: crops of 224 and clips of 6 frames.
        Raises UserError if the options do not fit each other.
        """
        sizes = sizes or {}
        crop = self.crop or max((sizes.get(stream, 0) for stream in self.streams), default=0) or _CROP
        crops = {stream: self.crop_of(stream) or sizes.get(stream, crop) for stream in self.streams}
        filled = {
            "crop": crop,
            "stream_crops": tuple(f"{stream}={size}" for stream, size in crops.items() if size != crop),
            "short_side": round(crop * _SHORT_SIDE / _CROP) if self.short_side == -1 else self.short_side,
            "clip_length": self.clip_length or clip_length or FLOW_LENGTH + 1,
            "flow_method": default_flow_method(device) if self.flow_method == "auto" else self.flow_method,
        }
        return ResolvedSnippets(**(asdict(self) | filled))


@dataclass(frozen=True)
class ResolvedSnippets(SnippetOptions):
    """Snippet options in which nothing is left open: what a recipe holds and what workers execute."""

    stream_crops: tuple[str, ...] = ()
    """Crops of streams whose networks take inputs of another size than ``crop``, e.g. ``clip=112``. Their short_side
    and stretch are scaled in proportion."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for entry in self.stream_crops:
            stream, _, size = entry.partition("=")
            if stream not in self.streams or not size.isdecimal() or int(size) < 1:
                raise UserError(f"stream_crops must name streams, as clip=112, not {entry!r}")

    def resolved(
        self, sizes: Mapping[str, int] | None = None, clip_length: int | None = None, device: str = "cpu"
    ) -> ResolvedSnippets:
        """These options: they are resolved already."""
        return self

    def crop_of(self, stream: str) -> int:
        """Side of the crops of one stream, pixels."""
        return int(dict(entry.split("=") for entry in self.stream_crops).get(stream, self.crop))

    def by_crop(self) -> list[ResolvedSnippets]:
        """One set of options for the streams of each crop size."""
        groups: dict[int, list[Stream]] = {}
        for stream in self.streams:
            groups.setdefault(self.crop_of(stream), []).append(stream)
        return [self._scaled(crop, tuple(streams)) for crop, streams in groups.items()]

    def _scaled(self, crop: int, streams: tuple[Stream, ...]) -> ResolvedSnippets:
        if crop == self.crop:
            return replace(self, streams=streams, stream_crops=())
        return replace(
            self,
            streams=streams,
            stream_crops=(),
            crop=crop,
            short_side=round(self.short_side * crop / self.crop),
            stretch=round(self.stretch * crop / self.crop),
        )

    def channels(self, stream: Stream) -> int:
        """Channels of a stream's input: 3 for every frame it reads, 2 for every flow field."""
        return 2 * FLOW_LENGTH if stream == "flow" else 3 * len(self.frame_offsets(stream))

    def frame_offsets(self, stream: Stream) -> tuple[int, ...]:
        """The frames whose pixels a stream reads, counted from the first of the snippet, ascending; none for flow.

        Frame (clip_length - 1) // 2 of a clip is frame 2 of the snippet, which rgb reads too. A clip may begin before
        its snippet and end after it.
        """
        if stream == "flow":
            return ()
        middle = FLOW_LENGTH // 2
        if stream == "rgb":
            return (middle if self.rgb_frame == "middle" else 0,)
        if stream == "rgbdiff":
            return tuple(range(FLOW_LENGTH + 1))
        length = self.clip_length or FLOW_LENGTH + 1
        return tuple(middle + (k - (length - 1) // 2) * self.clip_step for k in range(length))


__all__ = ["STREAMS", "ResolvedSnippets", "SnippetOptions", "Stream"]
