"""Expected videos versus files found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssn_feat.annotations import read_annotations
from ssn_feat.annotations.dataset import Dataset
from ssn_feat.annotations.matching import match_dataset
from ssn_feat.errors import UserError
from ssn_feat.terminal import counted
from ssn_feat.video.find_videos import IdFrom, find_videos
from ssn_feat.video.image_folders import ImageNames


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
    left_out: tuple[str, ...] = ()
    """Files that are not videos, sorted; see :class:`ssn_feat.video.find_videos.FoundVideos`."""
    dataset: Dataset | None = None
    """The annotations with the ids of the files; None without annotations."""


def list_video_files(
    where: Path,
    annotations: str | None = None,
    subsets: Sequence[str] = (),
    prefix: str = "",
    name: str = "",
    ids: IdFrom = "stem",
    names: ImageNames | None = None,
    quiet: bool = False,
) -> VideoFiles:
    """The videos at ``where``, compared with those that ``annotations`` (in ``subsets``) name.

    Ids are those of the files, with which the ids of the annotations are matched
    (:func:`ssn_feat.annotations.matching.match_ids`). Raises UserError if no video is found, or the annotations name
    none of them.
    """
    found = find_videos(where, prefix, ids, names)
    files = found.videos
    if annotations is None:
        return VideoFiles(name or where.stem or where.resolve().stem, files, left_out=found.left_out)
    dataset = match_dataset(read_annotations(annotations), files, f"the files in {where}", quiet)
    expected = _expected(dataset, subsets)
    wanted = {video_id: path for video_id, path in files.items() if video_id in expected}
    if not wanted:
        raise UserError(
            f"none of the {counted(len(expected), 'video')} of {annotations} is in {where}{_advice(files, expected)}"
        )
    return VideoFiles(
        name or dataset.name,
        wanted,
        tuple(sorted(expected - files.keys())),
        tuple(i for i in files if i not in expected),
        len(expected),
        found.left_out,
        dataset,
    )


def _expected(dataset: Dataset, subsets: Sequence[str]) -> set[str]:
    if not subsets:
        return set(dataset.videos)
    return {video_id for subset in subsets for video_id in dataset.subset(subset).videos}


def _advice(files: Mapping[str, Path], expected: set[str]) -> str:
    a, b = next(iter(files)), min(expected)
    return (
        f": files have ids such as {a!r}, the annotations such as {b!r}; a .csv file with lines id,path as VIDEOS "
        "gives each file its id"
    )


__all__ = ["VideoFiles", "list_video_files"]
