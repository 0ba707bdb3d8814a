"""Writing SSN proposal lists, turning them into frames, and taking their proposals in seconds.

The format is described in :mod:`ssn_feat.annotations.ssn_list_truth`, which reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations.dataset import Dataset
from ssn_feat.annotations.ssn_list_truth import ListedBlock, ListedVideo, names_of, read_listed_videos, read_ssn_list
from ssn_feat.errors import UserError
from ssn_feat.files import replacing
from ssn_feat.proposals.collection import Proposals
from ssn_feat.proposals.labelling import label_proposals

# A path that reading a list gives back: one line of text that starts no block, without space around it.
_LINE = re.compile(r"(?![\s#])[^\r\n\ud800-\udfff]+(?<!\s)")


def write_ssn_list(blocks: Iterable[ListedBlock], path: Path, normalised: bool) -> None:
    """Write a list; reading it and writing it again gives the same bytes.

    ``normalised``: starts and ends are shares, written with 4 decimals; otherwise frames, written as whole numbers.
    Raises UserError where a path cannot stand in a line, a frame is not whole, or the file cannot be written.
    """
    text = "".join(_format(block, normalised) for block in blocks)
    with replacing(Path(path)) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def _format(block: ListedBlock, normalised: bool) -> str:
    if not _LINE.fullmatch(block.path):
        raise UserError(f"the path {block.path!r} cannot stand in a proposal list")
    if not normalised and (block.truth[:, 1:] % 1 != 0).any() | (block.proposals[:, 3:] % 1 != 0).any():
        raise UserError(f"{block.path}: a list in frames needs whole frames; write it normalised or convert it")
    place = " %.4f %.4f\n" if normalised else " %d %d\n"
    return "".join(
        [
            f"# {block.number}\n{block.path}\n{_plain(block.length)}\n{_plain(block.factor)}\n",
            f"{len(block.truth)}\n",
            *map(("%d" + place).__mod__, map(tuple, block.truth.tolist())),
            f"{len(block.proposals)}\n",
            *map(("%d %.4f %.4f" + place).__mod__, map(tuple, block.proposals.tolist())),
        ]
    )


def _plain(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def in_frames(
    blocks: Iterable[ListedBlock], frames: Mapping[str, int], paths: Mapping[str, str] | None = None
) -> list[ListedBlock]:
    """A normalised list in frames, as the original's ``process_proposal_list`` makes it.

    ``frames``: number of frames by path as it stands in the list; ``paths``: paths to put in its place. Shares times
    frames are cut to whole frames, tIoU and overlap stay as they are, blocks are numbered from 0.

    Raises UserError where ``frames`` lacks a video.
    """
    converted = []
    for number, block in enumerate(blocks):
        if block.path not in frames:
            raise UserError(f"the number of frames of {block.path!r} (block # {block.number}) is not known")
        scale = np.array([1, frames[block.path], frames[block.path]], dtype=np.float64)
        truth, proposals = np.trunc(block.truth * scale), block.proposals.copy()
        proposals[:, 3:] = np.trunc(proposals[:, 3:] * scale[1:])
        path = paths[block.path] if paths else block.path
        converted.append(ListedBlock(path, frames[block.path], 1, truth, proposals, number))
    return converted


def list_blocks(proposals: Proposals, dataset: Dataset, frames: Mapping[str, int] | None = None) -> list[ListedBlock]:
    """Blocks of the videos that are in both, in the data set's order: truth, and proposals labelled by it.

    Normalised by the durations of ``dataset``, or in frames where ``frames`` gives the number of each video (seconds
    times frames / duration, cut to whole frames; labels are of the seconds, before that).

    Raises UserError where no video is in both, or ``frames`` lacks one.
    """
    blocks: list[ListedBlock] = []
    for video in dataset.only(proposals.ids).videos.values():
        if frames is not None and video.id not in frames:
            raise UserError(f"the number of frames of video {video.id!r} is not known")
        length = 1 if frames is None else frames[video.id]
        truth, classes, boxes = video.intervals(), dataset.classes(video), proposals.intervals[video.id]
        found = label_proposals(boxes, truth, classes)
        places = [times * (length / video.duration) for times in (truth, boxes)]
        if frames is not None:
            places = [np.trunc(place) for place in places]
        rows = np.column_stack([found.label, found.tiou, found.overlap, places[1]])
        blocks.append(ListedBlock(video.id, length, 1, np.column_stack([classes + 1, places[0]]), rows, len(blocks)))
    if not blocks:
        raise UserError(f"none of the {len(proposals.ids)} videos with proposals is in data set {dataset.name!r}")
    return blocks


def listed_proposals(
    blocks: Iterable[ListedBlock],
    durations: Mapping[str, float] | None = None,
    fps: float | Mapping[str, float] | None = None,
) -> Proposals:
    """The proposals of a list in seconds.

    With ``fps`` (one for all videos or by id), frame / fps; otherwise ``durations`` by id, and start and end are taken
    as shares of the block's length. An id is the path of the block, its last component, or that without its ending or
    a leading ``v_``: the first of these that ``durations`` or ``fps`` knows; blocks of which they know none are left
    out, and so are rows that end before they start: ``parameters`` counts both. Lists carry no score: the order in a
    block is the rank (``score`` is "order", 0 for the first, then -1, -2, ...).

    Raises UserError where neither or both are given, no block's video is known, two blocks are of one video, or one
    has no length.
    """
    if (durations is None) == (fps is None):
        raise UserError("to place a proposal list in time, give either durations or frames per second")
    known: Mapping[str, float] | None = (
        durations if durations is not None else fps if isinstance(fps, Mapping) else None
    )
    intervals, unknown, reversed_rows = dict[str, NDArray[np.float64]](), list[str](), 0
    for block in blocks:
        names = names_of(block.path)
        id = next((name for name in names if name in known), None) if known is not None else names[1]
        if id is None:
            unknown.append(block.path)
            continue
        if id in intervals:
            raise UserError(f"block # {block.number} of the proposal list is of video {id!r}, and so is one before it")
        rows = block.proposals[:, 3:]
        forward = rows[rows[:, 0] <= rows[:, 1]]
        reversed_rows += len(rows) - len(forward)
        intervals[id] = forward * _unit(block, id, durations, fps)
    if not intervals:
        raise UserError(f"no video of the proposal list is known: {', '.join(map(repr, unknown[:3]))}, ...")
    scores = {id: -np.arange(len(rows), dtype=np.float64) for id, rows in intervals.items()}
    parameters = {"unknown_videos": len(unknown), "reversed_rows": reversed_rows}
    return Proposals(intervals, scores, "ssn list", parameters, score="order")


def _unit(
    block: ListedBlock, id: str, durations: Mapping[str, float] | None, fps: float | Mapping[str, float] | None
) -> float:
    """The seconds that starts and ends of a block are multiples of."""
    if durations is not None:
        seconds, parts, what = durations[id], block.length * block.factor, "length"
    else:
        seconds, parts, what = 1.0, fps[id] if isinstance(fps, Mapping) else float(fps or 0.0), "frames per second"
    if not parts > 0:
        raise UserError(f"block # {block.number} of the proposal list ({block.path}): the {what} must be above 0")
    return seconds / parts


__all__ = [
    "ListedBlock",
    "ListedVideo",
    "in_frames",
    "list_blocks",
    "listed_proposals",
    "read_listed_videos",
    "read_ssn_list",
    "write_ssn_list",
]
