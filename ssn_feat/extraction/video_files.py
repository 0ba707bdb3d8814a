"""Which video files there are, which are expected, and what is missing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssn_feat.annotations import read_annotations
from ssn_feat.annotations.dataset import Dataset
from ssn_feat.errors import UserError

ENDINGS = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".ogv", ".avi", ".divx", ".mpg", ".mpeg", ".vob"),
    *(".ts", ".mts", ".m2ts", ".wmv", ".flv", ".f4v"),
)

_IMAGE = re.compile(r"img_\d+\.(jpg|jpeg|png)$", re.IGNORECASE)


def find_videos(where: Path, prefix: str = "") -> dict[str, Path]:
    """Videos by id, sorted by id. The id is the file's name without its ending and without ``prefix``.

    ``where``: a folder, whose subfolders are searched too; a ``.txt`` file with one path a line, relative to that file;
    or one video. A folder of images ``img_00001.jpg``, ... is a video, too, with the folder's name. Raises UserError
    where nothing is found or two files have one id.
    """
    found: dict[str, Path] = {}
    for path in sorted(_files(where)):
        video_id = (path.name if path.is_dir() else path.stem).removeprefix(prefix)
        if video_id in found:
            raise UserError(f"two videos have the id {video_id!r}: {found[video_id]} and {path}; keep one of them")
        if video_id:
            found[video_id] = path
    if not found:
        raise UserError(f"no videos in {where} (known endings: {' '.join(ENDINGS)})")
    return dict(sorted(found.items()))


def _files(where: Path) -> Iterable[Path]:
    if where.is_dir():
        for folder, folders, names in os.walk(where, followlinks=True):
            if any(_IMAGE.match(name) for name in names):
                folders.clear()
                yield Path(folder)
                continue
            for name in names:
                if os.path.splitext(name)[1].lower() in ENDINGS and not name.startswith("."):
                    yield Path(folder, name)
    elif where.suffix.lower() == ".txt" and where.is_file():
        lines = (line.strip() for line in where.read_text(encoding="utf-8").splitlines())
        yield from (where.parent / line for line in lines if line)
    elif where.is_file():
        yield where
    else:
        raise UserError(f"there is no folder or file of videos at {where}")


@dataclass(frozen=True)
class Coverage:
    """What is there of what is expected."""

    name: str
    """Of the data set."""
    videos: dict[str, Path]
    """Videos to have features of, by id."""
    missing: tuple[str, ...] = ()
    """Ids that the annotations name and that have no file, sorted."""
    others: tuple[str, ...] = ()
    """Ids of files that the annotations do not name, sorted."""
    expected: int | None = None
    """Number of videos that the annotations name; None without annotations."""


def coverage(
    where: Path, annotations: str | None = None, subsets: Sequence[str] = (), prefix: str = "", name: str = ""
) -> Coverage:
    """The videos at ``where`` beside those that ``annotations`` (in ``subsets``) name.

    Raises UserError where no video is found or none of them is among those named.
    """
    found = find_videos(where, prefix)
    if annotations is None:
        return Coverage(name or where.stem or where.resolve().stem, found)
    dataset = read_annotations(annotations)
    expected = _expected(dataset, subsets)
    wanted = {video_id: path for video_id, path in found.items() if video_id in expected}
    if not wanted:
        raise UserError(f"none of the {len(expected)} videos of {annotations} is in {where}{_advice(found, expected)}")
    return Coverage(
        name or dataset.name,
        wanted,
        tuple(sorted(expected - found.keys())),
        tuple(i for i in found if i not in expected),
        len(expected),
    )


def _expected(dataset: Dataset, subsets: Sequence[str]) -> set[str]:
    if not subsets:
        return set(dataset.videos)
    return {video_id for subset in subsets for video_id in dataset.subset(subset).videos}


def _advice(found: Mapping[str, Path], expected: set[str]) -> str:
    a, b = next(iter(found)), min(expected)
    hint = f": files have ids such as {a!r}, the annotations such as {b!r}"
    if any(video_id.removeprefix("v_") in expected for video_id in found):
        hint += "; --prefix v_ makes them match"
    return hint
