"""Folders of images as disks and earlier extractions leave them: holes, unreadable images, other sizes, lost flow."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
from extraction import small

from ssn_feat.errors import UserError
from ssn_feat.extraction import extract
from ssn_feat.store import open_store, verify

from .outcome import Outcome, unforeseen

Fault = Callable[[np.random.Generator, Path, list[Path]], tuple[str, str]]

_FRAMES = 16


def rounds(generator: np.random.Generator, folder: Path) -> Iterator[Outcome]:
    """Each fault in turn: the folder fails with a reason that names it, and the whole folder beside it is extracted."""
    faults: tuple[Fault, ...] = (_hole, _lost_flow, _lost_direction, _unreadable, _other_size, _twice, _no_images)
    while True:
        for fault in faults:
            here = folder / "round"
            for name in ("broken", "whole"):
                _write(here / "videos" / name)
            images = sorted((here / "videos" / "broken").iterdir())
            what, named = fault(generator, here / "videos" / "broken", images)
            yield Outcome(f"{fault.__name__.strip('_').replace('_', ' ')}: {what}", _failing(here, named))
            shutil.rmtree(here)


def _write(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, image in enumerate(small.pictures(_FRAMES, seed=1), start=1):
        cv2.imwrite(str(folder / f"img_{number:05d}.png"), image)
        if number < _FRAMES:
            for axis, plane in zip("xy", (image[..., 0], image[..., 1]), strict=True):
                cv2.imwrite(str(folder / f"flow_{axis}_{number:05d}.png"), plane)


def _failing(here: Path, named: str) -> str:
    """What went wrong with an extraction after which the broken folder has failed by a reason that says ``named``."""
    options = small.options(here / "videos", here / "s.zarr", fps=25.0, flow_method="stored", quiet=True)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            extract(options)
    except UserError as error:
        return f"the whole run was refused: {error}"
    except Exception as error:
        return unforeseen(error)
    store = open_store(here / "s.zarr")
    if "whole" not in store or verify(store).damage:
        return "the whole folder beside it was not extracted"
    if not named:
        return "extracted although it is no video" if "broken" in store else ""
    if "broken" in store:
        return "extracted without a word"
    reason = store.failures()["broken"].reason if "broken" in store.failures() else "no failure was recorded"
    return "" if named in reason and len(reason.splitlines()) == 1 else f"the reason does not name {named!r}: {reason}"


def _any(generator: np.random.Generator, images: list[Path], prefix: str, ends: bool = True) -> Path:
    """One of the images whose name begins with ``prefix``; without ``ends``, neither the first nor the last.

    Of the frames, one that a snippet reads: others are not opened.
    """
    chosen = [path for path in images if path.name.startswith(prefix)]
    if prefix == "img_" and ends:
        return chosen[2 + 4 * int(generator.integers(3))]
    return chosen[int(generator.integers(*((0, len(chosen)) if ends else (1, len(chosen) - 1))))]


def _hole(generator: np.random.Generator, folder: Path, images: list[Path]) -> tuple[str, str]:
    path = _any(generator, images, str(generator.choice(["img_", "flow_x_", "flow_y_"])), ends=False)
    path.unlink()
    return f"{path.name} is missing", f"number {int(path.stem[-5:])} is missing"


def _lost_flow(generator: np.random.Generator, folder: Path, images: list[Path]) -> tuple[str, str]:
    kept = int(generator.integers(1, _FRAMES - 1))
    for path in images:
        if path.name.startswith("flow_") and int(path.stem[-5:]) > kept:
            path.unlink()
    return f"flow for {kept} of {_FRAMES - 1} pairs", f"{_FRAMES} frames but only {kept} flow images"


def _lost_direction(generator: np.random.Generator, folder: Path, images: list[Path]) -> tuple[str, str]:
    axis, kept = str(generator.choice(["x", "y"])), int(generator.integers(0, _FRAMES - 1))
    for path in images:
        if path.name.startswith(f"flow_{axis}_") and int(path.stem[-5:]) > kept:
            path.unlink()
    counts = {"x": _FRAMES - 1, "y": _FRAMES - 1, axis: kept}
    return f"{kept} flow_{axis} images", f"{counts['x']} flow_x images but {counts['y']} flow_y images"


def _unreadable(generator: np.random.Generator, folder: Path, images: list[Path]) -> tuple[str, str]:
    path = _any(generator, images, str(generator.choice(["img_", "flow_x_", "flow_y_"])))
    content = {
        "empty": b"",
        "noise": generator.bytes(200),
        "cut off": path.read_bytes()[: int(generator.integers(8, 60))],
    }
    kind = str(generator.choice(list(content)))
    path.write_bytes(content[kind])
    return f"{path.name} is {kind}", path.name


def _other_size(generator: np.random.Generator, folder: Path, images: list[Path]) -> tuple[str, str]:
    path = _any(generator, images, str(generator.choice(["img_", "flow_x_", "flow_y_"])))
    height, width = (int(side) for side in generator.integers([40, 40], [47, 63]))
    cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))
    # Where the first flow image has another size, it is the next that differs from the usual size.
    first = path.name.startswith("flow_") and path.stem.endswith("00001")
    return f"{path.name} is {width}x{height}", "other flow images of its folder" if first else path.name


def _twice(generator: np.random.Generator, folder: Path, images: list[Path]) -> tuple[str, str]:
    path = _any(generator, images, "img_")
    other = path.with_name(f"img_{int(path.stem[-5:]):06d}.png")
    shutil.copy(path, other)
    return f"{path.name} and {other.name}", "have the same number"


def _no_images(generator: np.random.Generator, folder: Path, images: list[Path]) -> tuple[str, str]:
    for path in images:
        path.unlink()
    (folder / "notes.txt").write_text("nothing here")
    return "a folder without images", ""
