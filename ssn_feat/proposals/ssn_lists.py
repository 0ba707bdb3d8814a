"""SSN proposal lists: written to a file, made from proposals and annotations, and converted to seconds.

:mod:`ssn_feat.annotations.ssn_list_truth` reads lists and describes their format.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssn_feat.annotations.dataset import Dataset
from ssn_feat.annotations.ssn_list_truth import ListedBlock, ListedVideo, known_id, read_listed_videos, read_ssn_list
from ssn_feat.errors import UserError
from ssn_feat.files import write_text
from ssn_feat.proposals.collection import Proposals
from ssn_feat.proposals.labelling import label_proposals
from ssn_feat.terminal import counted

# A path that can be read back: one line of text, not like the start of a block, without space around it.
_LINE = re.compile(r"(?![\s#])[^\r\n\ud800-\udfff]+(?<!\s)")


def write_ssn_list(blocks: Iterable[ListedBlock], path: Path, normalised: bool) -> None:
    """Write a list; a list that is read and written again has the same bytes.

    ``normalised``: starts and ends are shares, written with 4 decimals; otherwise they are whole frames.
    Raises UserError if a path cannot be written as one line, a frame is not whole, or the file cannot be written.
    """
    text = "".join(_format(block, normalised) for block in blocks)
    write_text(path, text)


def _format(block: ListedBlock, normalised: bool) -> str:
    if not _LINE.fullmatch(block.path):
        raise UserError(f"the path {block.path!r} cannot stand in a proposal list")
    if not normalised and (block.truth[:, 1:] % 1 != 0).any() | (block.proposals[:, 3:] % 1 != 0).any():
        raise UserError(f"{block.path}: a list in frames needs whole frames; write it normalised")
    times = " %.4f %.4f\n" if normalised else " %d %d\n"
    return "".join(
        [
            f"# {block.number}\n{block.path}\n{_plain(block.length)}\n{_plain(block.factor)}\n",
            f"{len(block.truth)}\n",
            *map(("%d" + times).__mod__, map(tuple, block.truth.tolist())),
            f"{len(block.proposals)}\n",
            *map(("%d %.4f %.4f" + times).__mod__, map(tuple, block.proposals.tolist())),
        ]
    )


def _plain(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def list_blocks(proposals: Proposals, dataset: Dataset) -> list[ListedBlock]:
    """Normalised blocks of the videos that have proposals and annotations, in the order of the data set.

    A block holds the annotated instances and the proposals labelled by them; times are shares of the duration.
    Raises UserError if no video has both.
    """
    blocks: list[ListedBlock] = []
    for video in dataset.only(proposals.ids).videos.values():
        truth, classes, boxes = video.intervals(), dataset.classes(video), proposals.intervals[video.id]
        labels = label_proposals(boxes, truth, classes)
        instances = np.column_stack([classes + 1, truth / video.duration])
        rows = np.column_stack([labels.label, labels.tiou, labels.overlap, boxes / video.duration])
        blocks.append(ListedBlock(video.id, 1, 1, instances, rows, len(blocks)))
    if not blocks:
        raise UserError(
            f"none of the {counted(len(proposals.ids), 'video')} with proposals is in data set {dataset.name!r}"
        )
    return blocks


def listed_proposals(blocks: Iterable[ListedBlock], durations: Mapping[str, float]) -> Proposals:
    """The proposals of a list in seconds; ``durations`` are seconds by video id.

    Starts and ends are shares of the length of the block. The id of a block is its path, the last component of the
    path, or that without its suffix or a leading ``v_``: the first of these that ``durations`` has. Blocks of unknown
    videos and rows that end before they start are left out; ``parameters`` counts both. Lists have no scores: the order
    in a block is the rank (``score`` is "order": 0 for the first, then -1, -2, ...).

    Raises UserError if no video is known, two blocks are of one video, or a block has no length.
    """
    intervals, unknown, reversed_rows = dict[str, NDArray[np.float64]](), list[str](), 0
    for block in blocks:
        id = known_id(block.path, durations)
        if id is None:
            unknown.append(block.path)
            continue
        if id in intervals:
            raise UserError(f"block # {block.number} of the proposal list is of video {id!r}, as is an earlier block")
        length = block.length * block.factor
        if not length > 0:
            raise UserError(f"block # {block.number} of the proposal list ({block.path}): the length must be above 0")
        rows = block.proposals[:, 3:]
        forward = rows[rows[:, 0] <= rows[:, 1]]
        reversed_rows += len(rows) - len(forward)
        intervals[id] = forward * (durations[id] / length)
    if not intervals:
        raise UserError(f"no video of the proposal list is known: {', '.join(map(repr, unknown[:3]))}, ...")
    scores = {id: -np.arange(len(rows), dtype=np.float64) for id, rows in intervals.items()}
    parameters = {"unknown_videos": len(unknown), "reversed_rows": reversed_rows}
    return Proposals(intervals, scores, "ssn list", parameters, score="order")


__all__ = [
    "ListedBlock",
    "ListedVideo",
    "list_blocks",
    "listed_proposals",
    "read_listed_videos",
    "read_ssn_list",
    "write_ssn_list",
]
