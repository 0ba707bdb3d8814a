"""Random access to the frames of a video: exactly the frame of a number, without decoding everything before it.

Seeking is where files and decoders err: containers round times, key frames lie elsewhere than asked for, and frames may
refer to others before the key frame. So a video is decoded once from start to end, and the timestamp and a checksum of
every frame are kept (:func:`index_frames`). :class:`FrameAccess` then seeks, recognises the first frame that it gets by
its timestamp, decodes on to the frame that was asked for, and compares the checksum. If anything disagrees it decodes
from the start; if even that gives another image, the file has changed, which is an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from ssn_feat.errors import UserError
from ssn_feat.files import write_npz
from ssn_feat.safe_loading import load_npz
from ssn_feat.video.decode import VideoReader
from ssn_feat.video.decoding import StreamDecoder
from ssn_feat.video.frame_sources import FrameSource, decoder_versions, open_source
from ssn_feat.video.image_folders import FolderReader, ImageNames
from ssn_feat.video.pictures import PictureConverter

# A frame this many frames ahead or fewer is reached by decoding on: a seek decodes from the key frame before it.
_NEAR = 48
# Stands for a frame without a timestamp.
_NO_STAMP = -(2**63)


@dataclass(frozen=True)
class FrameIndex:
    """What is known of every frame of a video after one pass over it."""

    times: NDArray[np.float64]
    """(F,) seconds, as :func:`ssn_feat.video.frames` gives them."""
    stamps: NDArray[np.int64]
    """(F,) timestamps in the file, by which a frame is recognised after a seek; of a folder of images, numbers."""
    checksums: NDArray[np.uint32]
    """(F,) CRC-32C of the images; (0,) for a folder of images, whose files have names."""
    gaps: NDArray[np.int64]
    """Numbers of the frames before which the timestamps jump."""
    duration: float
    """End of the last frame, seconds."""
    damage: str
    """Why the video is incomplete, in a few words; empty where nothing is known to be missing."""

    def __len__(self) -> int:
        return len(self.times)

    @property
    def seekable(self) -> bool:
        """Whether every frame can be recognised by its timestamp. In some AVI files not all have one."""
        return bool((np.diff(self.stamps) > 0).all()) and _NO_STAMP not in self.stamps[:1]

    def at(self, seconds: float, tolerance: float) -> int:
        """The number of the frame nearest to ``seconds``.

        Raises UserError if it is further away than ``tolerance`` (seconds).
        """
        number = int(np.abs(self.times - seconds).argmin())
        if abs(self.times[number] - seconds) > tolerance:
            raise UserError(
                f"no frame within {tolerance:g} s of {seconds:.3f} s: the nearest of {len(self)} is number {number} at "
                f"{self.times[number]:.3f} s"
            )
        return number


class _Seeker:
    """A decoder that can be moved. ``number`` is that of its current frame, -1 before the first."""

    def __init__(self, path: Path, stream: int, deinterlace: bool) -> None:
        self._decoder = StreamDecoder(path, stream, deinterlace)
        self._converter = PictureConverter.of(self._decoder.stream)
        self._frames = self._decoder.frames()
        self._frame: Any = None
        self.number = -1

    def step(self) -> bool:
        """Decode the next frame."""
        item = next(self._frames, None)
        if item is None:
            return False
        self._frame = item[0]
        self.number += 1
        return True

    def seek(self, wanted: int, index: FrameIndex) -> bool:
        """Move to frame ``wanted`` or one shortly before it. False where that fails; the position is unknown then."""
        before = 1
        for _ in range(4):
            if not self._decoder.seek(int(index.stamps[max(wanted - before, 0)])):
                return False
            self._frames = self._decoder.frames()
            item = next(self._frames, None)
            if item is None or item[1] is None:
                return False
            number = int(np.searchsorted(index.stamps, item[1]))
            if number == len(index) or index.stamps[number] != item[1]:
                return False
            if number <= wanted:
                self._frame, self.number = item[0], number
                return True
            before += 2 * (number - wanted) + 16
        return False

    def image(self) -> NDArray[np.uint8]:
        """The current frame, BGR uint8 (H, W, 3)."""
        return self._converter.bgr(self._frame)

    def close(self) -> None:
        """Free the decoder."""
        self._decoder.close()


def index_frames(
    path: Path | str,
    fps: float | None = None,
    folder: Path | None = None,
    names: ImageNames | None = None,
    *,
    stream: int = -1,
    deinterlace: bool = True,
    untimed_fps: float = 0.0,
) -> FrameIndex:
    """Decode a video once, or list a folder of images with the frame rate ``fps``, and index every frame.

    ``folder`` keeps the indices of video files for later runs, by path, size and date. The other arguments are those of
    :func:`ssn_feat.video.open_source`, which also describes the errors.
    """
    path = Path(path)

    def make() -> FrameIndex:
        return _index(
            open_source(path, fps, stream=stream, deinterlace=deinterlace, untimed_fps=untimed_fps, names=names)
        )

    if folder is None or not path.is_file():
        return make()
    about = path.stat()
    read = f"{stream} {deinterlace} {untimed_fps} {decoder_versions()}"
    name = f"{path.absolute()} {about.st_size} {about.st_mtime_ns} {read}"
    kept = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:40]}.npz"
    index = _read(kept)
    if index is None:
        index = make()
        write_npz(kept, {name: np.asarray(value) for name, value in vars(index).items()})
    return index


def _read(path: Path) -> FrameIndex | None:
    try:
        held = load_npz(path)
        times, stamps, checksums, gaps = (held[name] for name in ("times", "stamps", "checksums", "gaps"))
        return FrameIndex(times, stamps, checksums, gaps, float(held["duration"]), str(held["damage"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _index(source: FrameSource) -> FrameIndex:
    times: list[float] = []
    stamps: list[int] = []
    checksums: list[int] = []
    gaps: list[int] = []
    try:
        while source.advance():
            gaps += [len(times)] * source.gap
            times.append(source.time)
            if isinstance(source, VideoReader):
                stamps.append(_NO_STAMP if source.stamp is None else source.stamp)
                checksums.append(_checksum(source.image()))
        summary = source.decoded()
    finally:
        source.close()
    return FrameIndex(
        np.array(times),
        np.array(stamps if checksums else range(len(times)), dtype=np.int64),
        np.array(checksums, dtype=np.uint32),
        np.array(gaps, dtype=np.int64),
        summary.duration,
        summary.damage,
    )


class FrameAccess:
    """Frames of one video by number. ``index``: the result of :func:`index_frames` for the same file and arguments.

    ``seeks`` and ``restarts`` count how often it jumped, and how often it had to start from the beginning.
    """

    def __init__(
        self,
        path: Path | str,
        index: FrameIndex,
        fps: float | None = None,
        names: ImageNames | None = None,
        *,
        stream: int = -1,
        deinterlace: bool = True,
    ) -> None:
        self.path, self.index = Path(path), index
        self._folder = FolderReader(path, fps, names) if self.path.is_dir() else None
        self._open = partial(_Seeker, self.path, stream, deinterlace)
        self._reader = None if self._folder else self._open()
        self._trusted = index.seekable
        self.seeks = self.restarts = 0

    def read(self, numbers: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """The frames of the given numbers, each once and in rising order: (number, BGR uint8 (H, W, 3), upright).

        Raises UserError for a number that the video does not have, and where decoding gives another image than when
        the video was indexed.
        """
        for number in sorted(set(numbers)):
            if not 0 <= number < len(self.index):
                raise UserError(f"{self.path} has frames 0 to {len(self.index) - 1}, not {number}")
            yield number, self.frame(number)

    def frame(self, number: int) -> NDArray[np.uint8]:
        """One frame; see :meth:`read`."""
        if self._folder is not None:
            self._folder.frames = number + 1
            return np.asarray(self._folder.image())
        image = self._decoded(number)
        if image is None and self._trusted:
            # After one wrong seek, all others in this file are suspect.
            self._trusted = False
            self._restart()
            image = self._decoded(number)
        if image is None:
            raise UserError(
                f"frame {number} of {self.path} (at {self.index.times[number]:.3f} s) is not what it was when the "
                f"video was indexed: the file or the version of PyAV changed"
            )
        return image

    def stored_flow(self, number: int) -> NDArray[np.uint8] | None:
        """The 8-bit flow (2, H, W) from frame ``number`` to the next that a folder of images holds; None after the
        last pair. Raises UserError for a video file."""
        if self._folder is None:
            raise UserError(f"{self.path} is a video file and holds no stored flow: choose another flow_method")
        self._folder.frames = number + 1
        return self._folder.stored_flow()

    def _decoded(self, number: int) -> NDArray[np.uint8] | None:
        """The frame, or None where its checksum is not the one in the index."""
        assert self._reader is not None
        if not 0 <= number - self._reader.number <= _NEAR and self._trusted and number > _NEAR:
            self.seeks += 1
            if not self._reader.seek(number, self.index):
                self._trusted = False
                self._restart()
        elif number < self._reader.number:
            self._restart()
        while self._reader.number < number:
            if not self._reader.step():
                return None
        image = np.asarray(self._reader.image())
        return image if _checksum(image) == self.index.checksums[number] else None

    def _restart(self) -> None:
        self.restarts += 1
        if self._reader is not None:
            self._reader.close()
        self._reader = self._open()

    def close(self) -> None:
        """Free the decoder."""
        if self._reader is not None:
            self._reader.close()

    def __enter__(self) -> FrameAccess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _checksum(image: NDArray[np.uint8]) -> int:
    return int(google_crc32c.value(np.ascontiguousarray(image).tobytes()))


__all__ = ["FrameAccess", "FrameIndex", "index_frames"]
