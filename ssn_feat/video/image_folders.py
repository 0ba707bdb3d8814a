"""Folders of images that were extracted earlier as a source of frames, and of flow: img_00001.jpg, flow_x_00001.jpg."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ssn_feat.errors import UserError
from ssn_feat.video.containers import Probe
from ssn_feat.video.decode import Decoded
from ssn_feat.video.opencv import import_cv2

_NUMBER = re.compile(r"\{(?::0?(\d*)d)?\}|%0?(\d*)d")
_AXIS = "{axis}"
# Names of the two directions of flow: left to right, top to bottom.
_AXES = (("x", "y"), ("u", "v"))
_ANY_ENDING = r"\.(?:jpg|jpeg|png)"


@dataclass(frozen=True)
class ImageNames:
    """Names of the images in the folder of a video, as templates.

    ``{:05d}``, ``{}`` or ``%05d`` stands for the number, of any number of digits; ``{axis}`` for x and y, or u and v.
    Upper and lower case are the same. A template without an ending matches .jpg, .jpeg and .png. A template may begin
    with subfolders, as in ``flow/{axis}/{:05d}.jpg``. Raises UserError if the number or the axis is not there once.
    """

    frames: str = "img_{:05d}"
    """The frames."""
    flow: str = "flow_{axis}_{:05d}"
    """The 8-bit flow images in both directions."""

    def __post_init__(self) -> None:
        for option, template, axes in (("frames", self.frames, 0), ("flow_frames", self.flow, 1)):
            numbers = [len(_NUMBER.findall(part)) for part in (template, template.rpartition("/")[2])]
            if numbers != [1, 1] or template.count(_AXIS) != axes:
                needed = "{axis} and the number of the image once each, as in flow_{axis}_{:05d}.jpg"
                needed = needed if axes else "the number of the image once, as in frame_{:010d}.jpg, and no {axis}"
                raise UserError(f"{option} is a template of file names and must contain {needed}, not {template!r}")

    def example(self) -> str:
        """The name of a first frame."""
        number = _NUMBER.sub(lambda match: f"{1:0{match[1] or match[2] or 1}d}", self.frames)
        return number if "." in number.rpartition("/")[2] else f"{number}.jpg"

    def in_folder(self, folder: Path, names: Iterable[str]) -> bool:
        """Whether ``folder``, which contains the files ``names``, is a video made of frames with these names."""
        head, _, name = self.frames.rpartition("/")
        pattern = _pattern(name)
        if head:
            names = os.listdir(folder / head) if (folder / head).is_dir() else ()
        return any(pattern.fullmatch(name) for name in names)


class FolderReader:
    """One pass over a folder of images, named as ``names`` says, and of stored flow images.

    Numbers start anywhere and have no gaps. Flow images have 8 bits, as dense_flow and its kin write them. Flow image k
    is the flow from frame k to the next; where frames start at 1 and flow at 0, as denseflow numbers them, the first
    flow image belongs to the first pair. ``fps`` gives the images their times. The reader offers what
    :class:`ssn_feat.video.VideoReader` does.

    Raises UserError if the folder holds no images, numbers are missing or occur twice, x and y flow images differ
    in number, or there are fewer of them than pairs of frames.
    """

    def __init__(self, path: Path | str, fps: float | None, names: ImageNames | None = None) -> None:
        self.path = Path(path)
        self._names = names or ImageNames()
        if fps is None or not fps > 0:
            raise UserError(f"{self.path} is a folder of images, which carry no times: give their frame rate (fps)")
        self._frames, self._flow = _files(self.path, self._names)
        self._flow_shape: tuple[int, ...] | None = None
        self._fps = fps
        height, width = _read(self._frames[0], colour=True).shape[:2]
        count = len(self._frames)
        self.probe = Probe(width, height, fps, count, count / fps, count / fps, "images", 0.0)
        self.frames = 0

    @property
    def time(self) -> float:
        """Time of the current frame, seconds."""
        return (self.frames - 1) / self._fps

    @property
    def gap(self) -> bool:
        """Images follow each other without gaps."""
        return False

    def advance(self) -> bool:
        """Go to the next frame. False after the last one."""
        if self.frames == len(self._frames):
            return False
        self.frames += 1
        return True

    def image(self) -> np.ndarray:
        """The current frame: BGR uint8 (H, W, 3)."""
        return self.deferred_image()()

    def deferred_image(self) -> Callable[[], np.ndarray]:
        """A function that returns :meth:`image` of the current frame, also after the reader has advanced."""
        return partial(self._image, self._frames[self.frames - 1])

    def stored_flow(self) -> np.ndarray | None:
        """The stored 8-bit flow (2, H, W) from the current frame to the next; None after the last pair.

        Raises UserError if the folder holds no flow images, and if they differ in size.
        """
        if not self._flow and len(self._frames) > 1:
            raise UserError(f"{self.path} holds no flow images named {self._names.flow}")
        if self.frames > len(self._flow):
            return None
        return np.stack([self._flow_image(path) for path in self._flow[self.frames - 1]])

    def _flow_image(self, path: Path) -> np.ndarray:
        image = _read(path, colour=False)
        self._flow_shape = self._flow_shape or image.shape
        if image.shape != self._flow_shape:
            (height, width), (usual_height, usual_width) = image.shape, self._flow_shape
            raise UserError(f"{path} is {width}x{height}, other flow images of its folder {usual_width}x{usual_height}")
        return image

    def _image(self, path: Path) -> np.ndarray:
        image = _read(path, colour=True)
        if image.shape[:2] != (self.probe.height, self.probe.width):
            raise UserError(
                f"{path} is {image.shape[1]}x{image.shape[0]}, the first image of its "
                f"folder {self.probe.width}x{self.probe.height}"
            )
        return image

    def decoded(self) -> Decoded:
        """The summary; known from the start."""
        count = len(self._frames)
        return Decoded(
            frames=count,
            declared_frames=count,
            width=self.probe.width,
            height=self.probe.height,
            last_time=(count - 1) / self._fps,
            duration=count / self._fps,
            fps=self._fps,
        )

    def close(self) -> None:
        """Nothing to free."""


def _files(folder: Path, names: ImageNames) -> tuple[list[Path], list[tuple[Path, Path]]]:
    """The frames, and the (x, y) flow images of each pair of frames, in the order of their numbers."""
    frames = _numbered(folder, names.frames)
    if not frames:
        raise UserError(f"{folder} holds neither a video nor images named {names.example()}, ...")
    for axes in _AXES:
        x, y = (_numbered(folder, names.flow.replace(_AXIS, axis)) for axis in axes)
        if x or y:
            _check_flow(folder, frames, x, y)
            return list(frames.values()), list(zip(x.values(), y.values(), strict=True))
    return list(frames.values()), []


def _check_flow(folder: Path, frames: dict[int, Path], x: dict[int, Path], y: dict[int, Path]) -> None:
    if len(x) != len(y):
        raise UserError(f"{folder} holds {len(x)} flow_x images but {len(y)} flow_y images: extract its flow again")
    first = min(frames)
    if min(x) != min(y) or (min(x) != first and (first, min(x), len(x)) != (1, 0, len(frames) - 1)):
        raise UserError(
            f"{folder}: the frames start at {first}, flow_x images at {min(x)} and flow_y images at {min(y)}; flow "
            "must be numbered as the frames, or from 0 beside frames from 1 with one image for each pair of frames"
        )
    if len(x) < len(frames) - 1:
        raise UserError(f"{folder} holds {len(frames)} frames but only {len(x)} flow images: extract its flow again")


def _numbered(folder: Path, template: str) -> dict[int, Path]:
    """The images of a template by number, ascending. Raises UserError if a number is missing or occurs twice."""
    head, _, name = template.rpartition("/")
    pattern = _pattern(name)
    images: dict[int, Path] = {}
    for path in (folder / head).iterdir() if (folder / head).is_dir() else ():
        if match := pattern.fullmatch(path.name):
            other = images.setdefault(int(match[1]), path)
            if other != path:
                raise UserError(f"{folder}: {other.name} and {path.name} have the same number: keep one of them")
    if images and (missing := set(range(min(images), max(images))) - images.keys()):
        raise UserError(f"{folder}: of the images named {template} number {min(missing)} is missing")
    return {number: images[number] for number in sorted(images)}


def _pattern(name: str) -> re.Pattern[str]:
    """The names that a template without folders stands for; the group is the number."""
    match = _NUMBER.search(name)
    assert match is not None, "ImageNames has checked its templates"
    before, after = name[: match.start()], name[match.end() :]
    ending = "" if "." in after else _ANY_ENDING
    return re.compile(f"{re.escape(before)}(\\d+){re.escape(after)}{ending}", re.IGNORECASE)


def _read(path: Path, colour: bool) -> np.ndarray:
    cv2 = import_cv2()
    image = cv2.imread(str(path), cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise UserError(f"{path} cannot be read as an image")
    return np.asarray(image)


__all__ = ["FolderReader", "ImageNames"]
