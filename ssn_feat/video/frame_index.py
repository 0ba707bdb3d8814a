"""Any frame of a video by its number, without decoding all that lies before it, and exactly the frame that it names.

Seeking is where decoders differ and err: containers round times, key frames lie elsewhere than asked for, and the
frames after one may refer to what was skipped. So a video is decoded once from start to end, and of every frame its
time and a checksum are kept (:func:`index_frames`). :class:`FrameAccess` then seeks, knows by the time of the first
frame that it gets which one that is, decodes on to the frame that was asked for, and compares the checksum. Where
anything disagrees it decodes from the start; where even that gives another image the file has changed, and it says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from ssn_feat.errors import UserError
from ssn_feat.files import write_npz
from ssn_feat.video.decode import VideoReader
from ssn_feat.video.frame_sources import decoder_versions
from ssn_feat.video.image_folders import FolderReader
from ssn_feat.video.opencv import import_cv2

# A frame this far ahead or nearer is reached by decoding on: a seek decodes from the key frame before it.
_NEAR = 48
# Milliseconds by which the time of one frame may differ between two passes.
_TOLERANCE = 0.01


@dataclass(frozen=True)
class FrameIndex:
    """What is known of every frame of a video after one pass over it."""

    times: NDArray[np.float64]
    """(F,) presentation times, seconds, as :func:`ssn_feat.video.frames` gives them."""
    stamps: NDArray[np.float64]
    """(F,) milliseconds as the decoder says them, by which a frame is recognised after a seek."""
    checksums: NDArray[np.uint32]
    """(F,) CRC-32C of the images; of a folder of images, whose files have names, (0,)."""
    duration: float
    """End of the last frame, seconds."""
    damage: str
    """Why the video is incomplete, in a few words; empty where nothing is known to be missing."""

    def __len__(self) -> int:
        return len(self.times)

    @property
    def seekable(self) -> bool:
        """Whether every frame is told by its stamp. AVI files with reordered frames have some without."""
        return bool((np.diff(self.stamps) > _TOLERANCE).all())

    def at(self, seconds: float, tolerance: float) -> int:
        """The number of the frame that is presented at ``seconds``.

        Raises UserError where the nearest one is further away than ``tolerance`` (seconds).
        """
        number = int(np.abs(self.times - seconds).argmin())
        if abs(self.times[number] - seconds) > tolerance:
            raise UserError(
                f"no frame within {tolerance:g} s of {seconds:.3f} s: the nearest of {len(self)} is number {number} at "
                f"{self.times[number]:.3f} s"
            )
        return number


class _Seeking(VideoReader):
    """A reader that can be moved. ``number`` is that of its current frame, -1 before the first."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        self.number = -1

    def stamp(self) -> float:
        """Time of the current frame in milliseconds, as the decoder says it."""
        return float(self._capture.get(import_cv2().CAP_PROP_POS_MSEC))

    def step(self) -> bool:
        """Decode the next frame, whatever its time."""
        moved = bool(self._capture.grab())
        self.number += moved
        return moved

    def seek(self, wanted: int, index: FrameIndex) -> bool:
        """Move to frame ``wanted`` or one shortly before it. False where that fails; the place is unknown then."""
        before = 1
        for _ in range(4):
            goal = max(wanted - before, 0)
            elapsed = (index.stamps[goal] - index.stamps[0]) / 1000.0
            if not self._capture.set(import_cv2().CAP_PROP_POS_FRAMES, int(elapsed * (self.probe.fps or 25.0))):
                return False
            if not self._capture.grab():
                return False
            found = int(np.abs(index.stamps - self.stamp()).argmin())
            if abs(index.stamps[found] - self.stamp()) > _TOLERANCE:
                return False
            if found <= wanted:
                self.number = found
                return True
            before += 2 * (found - wanted) + 16
        return False


def index_frames(path: Path | str, fps: float | None = None, folder: Path | None = None) -> FrameIndex:
    """Decode a video (or list a folder of images, whose rate is ``fps``) once and note every frame.

    ``folder`` keeps the indices of video files, by their path, size and date, from one run to the next. Raises
    UserError for what cannot be read, as :func:`ssn_feat.video.frames`.
    """
    path = Path(path)
    if folder is None or not path.is_file():
        return _index(path, fps)
    about = path.stat()
    name = f"{path.absolute()} {about.st_size} {about.st_mtime_ns} {decoder_versions()}"
    kept = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:40]}.npz"
    index = _read(kept)
    if index is None:
        index = _index(path, fps)
        write_npz(kept, {name: np.asarray(value) for name, value in vars(index).items()})
    return index


def _read(path: Path) -> FrameIndex | None:
    try:
        with np.load(path, allow_pickle=False) as held:
            times, stamps, checksums = (held[name] for name in ("times", "stamps", "checksums"))
            return FrameIndex(times, stamps, checksums, float(held["duration"]), str(held["damage"]))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def _index(path: Path, fps: float | None) -> FrameIndex:
    times, stamps, checksums = [], [], []
    if path.is_dir():
        source = FolderReader(path, fps)
        while source.advance():
            times.append(source.time)
        summary = source.decoded()
        stamps = [1000.0 * time for time in times]
    else:
        reader = _Seeking(path)
        with reader:
            while reader.advance():
                times.append(reader.time)
                stamps.append(reader.stamp())
                checksums.append(_checksum(reader.image()))
            summary = reader.decoded()
    return FrameIndex(
        np.array(times), np.array(stamps), np.array(checksums, dtype=np.uint32), summary.duration, summary.damage
    )


class FrameAccess:
    """Frames of one video by number. ``index`` is what :func:`index_frames` gave of the same file.

    ``seeks`` and ``restarts`` count how often it jumped, and how often it had to begin at the start.
    """

    def __init__(self, path: Path | str, index: FrameIndex, fps: float | None = None) -> None:
        self.path, self.index = Path(path), index
        self._folder = FolderReader(path, fps) if self.path.is_dir() else None
        self._reader = None if self._folder else _Seeking(path)
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
            # One seek that went wrong makes all others of this file suspect.
            self._trusted = False
            self._restart()
            image = self._decoded(number)
        if image is None:
            raise UserError(
                f"frame {number} of {self.path} (at {self.index.times[number]:.3f} s) is not what it was when the "
                f"video was indexed: the file or the version of OpenCV changed"
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
        """The frame, or None where its checksum is not the one that was noted."""
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
        self._reader = _Seeking(self.path)

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
