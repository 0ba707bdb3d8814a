"""Expected videos versus files found."""

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
    """Videos by id, sorted by id. The id is the file name without its ending and without ``prefix``.

    ``where``: a folder, whose subfolders are searched too; a ``.txt`` file with one path per line, relative to that
    file; or one video. A folder of images ``img_00001.jpg``, ... is a video too; its id is the folder's name. Raises
    UserError if nothing is found or two files have the same id.
    """
    files: dict[str, Path] = {}
    for path in sorted(_files(where)):
        video_id = (path.name if path.is_dir() else path.stem).removeprefix(prefix)
        if video_id in files:
            raise UserError(f"two videos have the id {video_id!r}: {files[video_id]} and {path}; keep one of them")
        if video_id:
            files[video_id] = path
    if not files:
        raise UserError(f"no videos in {where} (known endings: {' '.join(ENDINGS)})")
    return dict(sorted(files.items()))


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
class VideoFiles:
    """The video files of a data set."""

    name: str
    """Name of the data set."""
    videos: dict[str, Path]
    """Videos to extract, by id."""
    missing: tuple[str, ...] = ()
    """Ids in the annotations without a file, sorted."""
    others: tuple[str, ...] = ()
    """Ids of files that are not in the annotations, sorted."""
    expected: int | None = None
    """Number of videos that the annotations name; None without annotations."""


def list_video_files(
    where: Path, annotations: str | None = None, subsets: Sequence[str] = (), prefix: str = "", name: str = ""
) -> VideoFiles:
    """The videos at ``where``, compared with those that ``annotations`` (in ``subsets``) name.

    Raises UserError if no video is found, or the annotations name none of them.
    """
    files = find_videos(where, prefix)
    if annotations is None:
        return VideoFiles(name or where.stem or where.resolve().stem, files)
    dataset = read_annotations(annotations)
    expected = _expected(dataset, subsets)
    wanted = {video_id: path for video_id, path in files.items() if video_id in expected}
    if not wanted:
        raise UserError(f"none of the {len(expected)} videos of {annotations} is in {where}{_advice(files, expected)}")
    return VideoFiles(
        name or dataset.name,
        wanted,
        tuple(sorted(expected - files.keys())),
        tuple(i for i in files if i not in expected),
        len(expected),
    )


def _expected(dataset: Dataset, subsets: Sequence[str]) -> set[str]:
    if not subsets:
        return set(dataset.videos)
    return {video_id for subset in subsets for video_id in dataset.subset(subset).videos}


def _advice(files: Mapping[str, Path], expected: set[str]) -> str:
    a, b = next(iter(files)), min(expected)
    hint = f": files have ids such as {a!r}, the annotations such as {b!r}"
    if any(video_id.removeprefix("v_") in expected for video_id in files):
        hint += "; --prefix v_ makes them match"
    return hint


__all__ = ["ENDINGS", "VideoFiles", "find_videos", "list_video_files"]
