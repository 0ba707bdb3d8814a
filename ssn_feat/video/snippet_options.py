"""How snippets are cut out of a video: every choice that decides what a feature means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ssn_feat.errors import UserError
from ssn_feat.video.flow import FlowMethod, resolved_method
from ssn_feat.video.frame_sources import Decoder
from ssn_feat.video.network_inputs import Crops, Resize

Stream = Literal["rgb", "flow", "rgbdiff", "clip"]
STREAMS: tuple[Stream, ...] = ("rgb", "flow", "rgbdiff", "clip")

_CROP, _SHORT_SIDE = 224, 256


@dataclass(frozen=True)
class SnippetOptions:
    """How snippets are cut out of a video. Every field decides what a feature means: all of them belong in a recipe."""

    stride: int = 6
    """Frames from one snippet to the next."""
    nominal_fps: float = 0.0
    """Frame rate of a grid by time: its frame k is on show at k / nominal_fps seconds; 0: the video's own frames."""
    flow_length: int = 5
    """Consecutive frame pairs of a snippet, whose flow makes one stack. It decides the grid of every stream."""
    streams: tuple[Stream, ...] = ("rgb", "flow")
    """What is made of a snippet: rgb (a frame), flow (flow_length fields), rgbdiff (flow_length differences of frames),
    clip (clip_length frames)."""
    rgb_frame: Literal["middle", "first"] = "middle"
    """The frame that rgb reads: the snippet's first, as the original, or number flow_length // 2, where its flow is."""
    clip_length: int = 0
    """Frames of a clip, with the snippet in their middle; 0: as many as the network takes (flow_length + 1 if none)."""
    clip_step: int = 1
    """Frames from one frame of a clip to the next."""
    flow_method: Literal[FlowMethod, "auto", "stored"] = "auto"
    """Optical flow algorithm, applied to resized frames; auto: tvl1_fixed on a GPU, else dis. stored reads a folder's
    flow_x_ and flow_y_ images instead."""
    flow_weights: str = ""
    """File of the weights of raft flow."""
    flow_bound: float = 20.0
    """Pixels of motion at which 8-bit flow saturates. Published flow networks expect 20."""
    flow_quantised: bool = True
    """Whether flow is clipped and rounded to 8 bits, as if kept in images: what published networks learned from."""
    short_side: int = -1
    """Pixels to which the shorter side of frames is scaled, up or down; 0 keeps the video's own size; -1: in proportion
    to the crop, 256 for 224."""
    stretch: int = 0
    """Width to which every frame is stretched at a height of short_side, as 340 of 256; 0 keeps the aspect ratio."""
    resize: Resize = "plain"
    """plain: bilinear, as frame extractors do. smooth: the filter widens when shrinking, as Pillow does; slower."""
    jpeg_quality: int = 0
    """Quality of the JPEG that resized frames and 8-bit flow pass through, as if kept in files; 0: none."""
    crop: int = 0
    """Side of the square crops, pixels; 0: the input size that the network was made for (224 if none)."""
    stream_crops: tuple[str, ...] = ()
    """Streams whose crops differ from crop, as clip=112; their short_side and stretch are scaled in proportion."""
    crops: Crops = "center"
    """center: one. three: along the longer side. ten: four corners and the centre, each also mirrored."""
    decoder: Decoder = "opencv"
    """What decodes video files; torchcodec needs the extra of that name."""

    def __post_init__(self) -> None:
        for name, least in (("stride", 1), ("flow_length", 1), ("clip_step", 1), ("clip_length", 0), ("crop", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not self.streams or len(set(self.streams)) != len(self.streams) or set(self.streams) - set(STREAMS):
            named = " ".join(self.streams) or "nothing"
            raise UserError(f"streams must be some of {', '.join(STREAMS)}, each once, not {named}")
        if not self.flow_bound > 0:
            raise UserError(f"flow_bound must be positive, not {self.flow_bound}")
        if not 0 <= self.nominal_fps < float("inf"):
            raise UserError(f"nominal_fps must be positive, or 0 for the video's own frames, not {self.nominal_fps}")
        if not 0 <= self.jpeg_quality <= 100:
            raise UserError(f"jpeg_quality must be 1 to 100, or 0 for none, not {self.jpeg_quality}")
        if self.short_side < -1 or 0 < self.short_side < self.crop:
            raise UserError(f"short_side must be 0 (no scaling) or at least {self.crop} (crop), not {self.short_side}")
        if self.stretch and (self.stretch < self.crop or self.stretch < 1 or self.short_side == 0):
            raise UserError(f"stretch needs a short_side and must be at least {self.crop} (crop), not {self.stretch}")
        if "flow" in self.streams and self.flow_method == "raft" and not self.flow_weights:
            raise UserError(
                "raft flow needs weights: give flow_weights, a file of torchvision's raft_large or raft_small"
            )
        if self.flow_weights and self.flow_method != "raft":
            raise UserError(f"flow_weights are for the flow_method raft, not for {self.flow_method}")
        if not self.flow_quantised and self.flow_method == "stored":
            raise UserError("stored flow is in 8 bits: leave flow_quantised on")
        if not self.flow_quantised and "flow" in self.streams and self.jpeg_quality:
            raise UserError("flow that is not flow_quantised cannot pass through JPEG: leave jpeg_quality at 0")
        if self.flow_method == "stored" and self.nominal_fps:
            raise UserError("stored flow belongs to the frames of its folder: it cannot be read at a nominal_fps")
        _ = self._own_crops()

    def _own_crops(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for entry in self.stream_crops:
            stream, _, size = entry.partition("=")
            if stream not in self.streams or stream in found or not size.isdecimal() or int(size) < 1:
                raise UserError(f"stream_crops must name streams once, as clip=112, not {entry!r}")
            found[stream] = int(size)
        return found

    def crop_of(self, stream: str) -> int:
        """Side of the crops of one stream, pixels; 0 while it is left open."""
        return self._own_crops().get(stream, self.crop)

    def resolved(
        self, sizes: Mapping[str, int] | None = None, clip_length: int | None = None, device: str = "cpu"
    ) -> SnippetOptions:
        """These options with nothing left open.

        ``sizes``: input size of the network of each stream, pixels; ``clip_length``: frames that the network of clips
        takes; ``device``: where flow is computed. Without networks: crops of 224, clips of flow_length + 1 frames.
        Raises UserError where the options do not fit each other.
        """
        sizes = sizes or {}
        crop = self.crop or max((sizes.get(stream, 0) for stream in self.streams), default=0) or _CROP
        own = {stream: self.crop_of(stream) or sizes.get(stream, crop) for stream in self.streams}
        short_side = round(crop * _SHORT_SIDE / _CROP) if self.short_side == -1 else self.short_side
        return replace(
            self,
            crop=crop,
            stream_crops=tuple(f"{stream}={size}" for stream, size in own.items() if size != crop),
            short_side=short_side,
            clip_length=self.clip_length or clip_length or self.flow_length + 1,
            flow_method="stored" if self.flow_method == "stored" else resolved_method(self.flow_method, device),
        )

    def by_crop(self) -> list[SnippetOptions]:
        """Resolved options, one set for the streams of each size of crop."""
        parts: dict[int, list[Stream]] = {}
        for stream in self.streams:
            parts.setdefault(self.crop_of(stream), []).append(stream)
        return [self._scaled(crop, tuple(streams)) for crop, streams in parts.items()]

    def _scaled(self, crop: int, streams: tuple[Stream, ...]) -> SnippetOptions:
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
        return 2 * self.flow_length if stream == "flow" else 3 * len(self.frame_offsets(stream))

    def frame_offsets(self, stream: Stream) -> tuple[int, ...]:
        """The frames whose pixels a stream reads, counted from the first of the snippet, ascending; none for flow.

        The frame in the middle of a clip (number (clip_length - 1) // 2 of it) is the snippet's number
        flow_length // 2, which rgb reads, too; a clip may begin before its snippet and end after it.
        """
        if stream == "flow":
            return ()
        middle = self.flow_length // 2
        if stream == "rgb":
            return (middle if self.rgb_frame == "middle" else 0,)
        if stream == "rgbdiff":
            return tuple(range(self.flow_length + 1))
        length = self.clip_length or self.flow_length + 1
        return tuple(middle + (k - (length - 1) // 2) * self.clip_step for k in range(length))
