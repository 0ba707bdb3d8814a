"""The snippets of one video as network inputs: one sequential pass, each flow field computed once, bounded memory."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ssn_feat.errors import UserError
from ssn_feat.video.containers import Probe
from ssn_feat.video.decode import Decoded
from ssn_feat.video.frame_sources import FrameSource, open_source
from ssn_feat.video.grid import SnippetGrid, snippet_grid, snippet_starts
from ssn_feat.video.image_folders import ImageNames
from ssn_feat.video.resampled import ResampledSource
from ssn_feat.video.snippet_options import ResolvedSnippets, SnippetOptions
from ssn_feat.video.window import Window


@dataclass(frozen=True)
class SnippetBatch:
    """Consecutive snippets of one video."""

    row: int
    """Grid row of the first snippet of the batch."""
    streams: dict[str, torch.Tensor]
    """uint8 (B, C, crop, crop) per stream, (B, crops, C, crop, crop) with three or ten crops; flow that is not
    flow_quantised is float32.

    rgb: B G R. flow: x0 y0 x1 y1 ... rgbdiff and clip: B G R of each frame in turn (differences are the network's).
    """

    def __len__(self) -> int:
        return len(next(iter(self.streams.values())))


class Snippets(Iterator[SnippetBatch]):
    """The result of :func:`snippets`: an iterator of batches; ``grid`` and ``decoded`` after the last."""

    def __init__(self, source: FrameSource, options: ResolvedSnippets, batch_size: int, device: torch.device) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, not {batch_size}")
        self._source = source
        self.probe = source.probe
        self._options, self._batch_size, self._device = options, batch_size, device
        self._times: list[float] = []
        self._gaps: list[int] = []
        self._batches = self._generate(self._windows())

    def __next__(self) -> SnippetBatch:
        return next(self._batches)

    @property
    def decoded(self) -> Decoded:
        """The summary of decoding. Only after the last batch."""
        return self._source.decoded()

    @property
    def grid(self) -> SnippetGrid:
        """The video's snippet grid; row t belongs to snippet t. Only after the last batch."""
        return snippet_grid(self._times, self.decoded.duration, self._options.stride, self._gaps)

    def close(self) -> None:
        """Stop early and free the decoder."""
        self._batches.close()
        self._source.close()

    def _windows(self) -> list[Window]:
        return [Window(self._source, options, self._device) for options in self._options.by_crop()]

    def _generate(self, windows: list[Window]) -> Generator[SnippetBatch]:
        try:
            row, more = 0, self._advance()
            while more:
                row, more = yield from self._part(row, windows)
                windows = self._windows() if more else windows
        finally:
            self._source.close()
        if not self._times:
            self._source.decoded()

    def _advance(self) -> bool:
        if not self._source.advance():
            return False
        self._times.append(self._source.time)
        return True

    def _part(self, row: int, windows: Sequence[Window]) -> Generator[SnippetBatch, None, tuple[int, bool]]:
        """Batches of the part of the video from the current frame to the next gap, whose first snippet is ``row``.

        Returns the row after the last one and whether another part follows.
        """
        options, begin, done, ready = self._options, len(self._times) - 1, 0, 0
        reach = max(window.reach for window in windows)
        more = True
        while more:
            index = len(self._times) - 1 - begin
            image = functools.cache(self._source.image)
            for window in windows:
                window.add(index, image)
            # A snippet is certain to be on the grid once the last of its frames has been decoded.
            ready += (done + ready) * options.stride + reach <= index
            if ready == self._batch_size:
                yield self._taken(windows, row, done, ready)
                done, ready = done + ready, 0
            more = self._advance()
            if more and self._source.gap:
                break
        frames = len(self._times) - begin - more
        for window in windows:
            window.end(frames)
        rows = len(snippet_starts(frames, options.stride))
        for start in range(done, rows, self._batch_size):
            yield self._taken(windows, row, start, min(self._batch_size, rows - start))
        if more:
            self._gaps.append(begin + frames)
        return row + rows, more

    def _taken(self, windows: Sequence[Window], row: int, start: int, count: int) -> SnippetBatch:
        """``count`` snippets of a part, from its snippet ``start`` on; the part begins at ``row``."""
        taken: dict[str, torch.Tensor] = {}
        for window in windows:
            taken |= window.take(start, count)
        return SnippetBatch(row + start, {stream: taken[stream] for stream in self._options.streams})


def expected_snippets(about: Probe, options: SnippetOptions) -> int:
    """How many snippets a video has if its container tells the truth; 0 where it says nothing."""
    frames = 0 if options.nominal_fps else about.declared_frames
    frames = frames or round(about.duration * (options.nominal_fps or about.fps))
    return len(snippet_starts(frames, options.stride)) if frames else 0


def snippets(
    path: Path | str,
    options: SnippetOptions,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    fps: float | None = None,
    names: ImageNames | None = None,
) -> Snippets:
    """The snippets of a video, in order, as batches of network inputs; the last batch may be smaller.

    ``path`` is a video file, or a folder of images whose frame rate is ``fps``, named as ``names`` says. What
    ``options`` leave open is resolved as without networks (see :meth:`SnippetOptions.resolved`). With a
    ``nominal_fps`` everything is counted in frames of that rate, each of which is the one on show at its time. The
    video is decoded once; the flow of a frame pair is computed once however snippets overlap; memory is bounded by
    ``batch_size * stride`` frames whatever the length of the video. Rows do not depend on ``batch_size``. There is
    always at least one row: a video of fewer than 6 frames has one, made by repeating its last frame and its last flow
    field (no motion if it has a single frame). A clip that reaches beyond an end of the video repeats its own first or
    last frame inside.

    Flow of the methods that can is computed on ``device`` and stays there. On a GPU frames are resized and cropped
    there, too, unless a flow method of the CPU needs them; single pixels then differ by one gray level.

    After the last batch, ``.grid`` gives the spans of all rows in seconds and ``.decoded`` what decoding found. Raises
    UserError on what cannot be read (see :func:`ssn_feat.video.frames`) and on frames smaller than the crop.
    """
    device = torch.device(device)
    cut = options.resolved(device=device.type)
    source = open_source(
        path,
        fps,
        stream=cut.video_stream,
        deinterlace=cut.deinterlace == "auto",
        untimed_fps=cut.nominal_fps,
        names=names,
    )
    if cut.nominal_fps:
        source = ResampledSource(source, cut.nominal_fps)
    return Snippets(source, cut, batch_size, device)


__all__ = ["SnippetBatch", "Snippets", "expected_snippets", "snippets"]
