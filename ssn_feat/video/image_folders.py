"""Folders of images that were extracted earlier as a source of frames, and of flow: img_00001.jpg, flow_x_00001.jpg."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ssn_feat.errors import UserError
from ssn_feat.video.containers import Probe
from ssn_feat.video.decode import Decoded
from ssn_feat.video.opencv import import_cv2

_NAME = re.compile(r"(img|flow_x|flow_y)_(\d+)\.(?:jpg|jpeg|png)", re.IGNORECASE)


class FolderReader:
    """One pass over a folder with ``img_%05d.jpg`` and, for stored flow, ``flow_x_%05d.jpg`` and ``flow_y_%05d.jpg``.

    Numbers start at 0 or 1 and have no gaps; any number of digits, also .png. Flow image number k is the flow from
    frame k to the next, 8 bits, as dense_flow and its kin write it. ``fps`` gives the images their times. It offers
    what :class:`ssn_feat.video.VideoReader` does.

    Raises UserError where the folder holds no images, numbers are missing, x and y flow images differ in number, or
    there are fewer of them than pairs of frames.
    """

    def __init__(self, path: Path | str, fps: float | None) -> None:
        self.path = Path(path)
        if fps is None or not fps > 0:
            raise UserError(f"{self.path} is a folder of images, which carry no times: give their frame rate (fps)")
        self._files = _numbered(self.path)
        self._fps = fps
        if not self._files["img"]:
            raise UserError(f"{self.path} holds neither a video nor images named img_00001.jpg, img_00002.jpg, ...")
        self._check_flow()
        height, width = _read(self._files["img"][0], colour=True).shape[:2]
        count = len(self._files["img"])
        self.probe = Probe(width, height, fps, count, count / fps, count / fps, "images", 0.0)
        self.frames = 0

    def _check_flow(self) -> None:
        images, x, y = (len(self._files[kind]) for kind in ("img", "flow_x", "flow_y"))
        if x != y:
            raise UserError(f"{self.path} holds {x} flow_x images but {y} flow_y images: extract its flow again")
        if 0 < x < images - 1:
            raise UserError(f"{self.path} holds {images} frames but only {x} flow images: extract its flow again")

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
        if self.frames == len(self._files["img"]):
            return False
        self.frames += 1
        return True

    def image(self) -> np.ndarray:
        """The current frame: BGR uint8 (H, W, 3)."""
        return self._sized(_read(self._files["img"][self.frames - 1], colour=True))

    def stored_flow(self) -> np.ndarray | None:
        """The stored 8-bit flow (2, H, W) from the current frame to the next; None after the last pair.

        Raises UserError if the folder holds no flow images.
        """
        if not self._files["flow_x"] and len(self._files["img"]) > 1:
            raise UserError(f"{self.path} holds no flow images (flow_x_00001.jpg, flow_y_00001.jpg, ...)")
        if self.frames > len(self._files["flow_x"]):
            return None
        return np.stack([_read(self._files[kind][self.frames - 1], colour=False) for kind in ("flow_x", "flow_y")])

    def _sized(self, image: np.ndarray) -> np.ndarray:
        if image.shape[:2] != (self.probe.height, self.probe.width):
            raise UserError(
                f"{self._files['img'][self.frames - 1]} is {image.shape[1]}x{image.shape[0]}, the first image of its "
                f"folder {self.probe.width}x{self.probe.height}"
            )
        return image

    def decoded(self) -> Decoded:
        """The summary; known from the start."""
        count = len(self._files["img"])
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


def _numbered(folder: Path) -> dict[str, list[Path]]:
    """The images of each kind in the order of their numbers, which must start at 0 or 1 and have no gaps."""
    found: dict[str, dict[int, Path]] = {"img": {}, "flow_x": {}, "flow_y": {}}
    for path in folder.iterdir():
        if match := _NAME.fullmatch(path.name):
            found[match.group(1).lower()][int(match.group(2))] = path
    base = min(found["img"], default=1)
    for kind, files in found.items():
        start = min(files, default=base)
        missing = sorted(set(range(start, start + len(files))) - set(files))
        if start != base or base > 1 or missing:
            what = f"number {missing[0]} is missing" if missing else f"they start at {start}"
            raise UserError(f"{folder}: {kind} images must be numbered from 0 or 1 on like the frames, but {what}")
    return {kind: [files[number] for number in sorted(files)] for kind, files in found.items()}


def _read(path: Path, colour: bool) -> np.ndarray:
    cv2 = import_cv2()
    image = cv2.imread(str(path), cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise UserError(f"{path} cannot be read as an image")
    return np.asarray(image)
