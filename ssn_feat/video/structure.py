"""Checks whether the structure of a file is intact, which FFmpeg does not report.

FFmpeg skips bytes that it cannot parse in a Matroska, WebM or MPEG-TS file, looks for something that it knows, and
continues without an error or a damaged packet, and not always with a message in its log. PyAV gives no access to the
structure.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

_HEADER, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_ANYWHERE = frozenset({0xEC, 0xBF})  # Void, CRC-32
# Elements allowed in a file, in a segment and in a cluster (RFC 9559, section 5.1).
_LEVELS = (
    _ANYWHERE | {_HEADER, _SEGMENT},
    # SeekHead, Info, Tracks, Cluster, Cues, Attachments, Chapters, Tags
    _ANYWHERE | {0x114D9B74, 0x1549A966, 0x1654AE6B, _CLUSTER, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367},
    # Timestamp, Position, PrevSize, SimpleBlock, BlockGroup, SilentTracks, EncryptedBlock
    _ANYWHERE | {0xE7, 0xA7, 0xAB, 0xA3, 0xA0, 0x5854, 0xAF},
)
# Bytes of a transport packet, and of what precedes its first byte: plain, with a time code (.m2ts), with a checksum.
_TRANSPORT_PACKETS = ((188, 0), (192, 4), (204, 0))
_SYNC = 0x47  # first byte of every transport packet


def find_break(path: Path, container: str) -> str:
    """Describe where the structure of a file breaks; return "" if it is intact or the container has no check.

    ``container``: FFmpeg's name of the format.
    """
    if "matroska" in container:
        return _matroska_break(path)
    return _transport_break(path) if container == "mpegts" else ""


def _matroska_break(path: Path) -> str:
    """Elements of the file, its segments and their clusters must follow each other and end within their parent.

    Reads a few bytes of each block. Unknown sizes, as written by live recordings, are accepted.
    """
    total = path.stat().st_size
    with path.open("rb") as file:
        at, ends = 0, [total]
        while at < total:
            while len(ends) > 1 and at == ends[-1]:
                ends.pop()
            number, start, size = _element(file, at)
            while len(ends) > 1 and number not in _LEVELS[len(ends) - 1] and ends[-1] == total:
                ends.pop()  # a cluster or segment of unknown size ends at the first element not allowed in it
            parent = number in (_SEGMENT, _CLUSTER)
            end = total if size is None and parent else start + (size or 0)
            if number == _SEGMENT and end > total:
                return f"{end - total:,} bytes of the file are missing"
            if number not in _LEVELS[len(ends) - 1] or end > ends[-1]:
                return f"its structure breaks at byte {at:,} of {total:,}"
            if parent:
                ends.append(end)
            at = start if parent else end
    return ""


def _element(file: BinaryIO, at: int) -> tuple[int, int, int | None]:
    """Return kind, content offset and size of the element at ``at``; size None if unknown, kind 0 if there is none."""
    file.seek(at, os.SEEK_SET)
    head = file.read(12)
    length = 9 - head[0].bit_length() if head else 9
    if length > 4 or len(head) <= length:
        return 0, at, 0
    number, width = int.from_bytes(head[:length], "big"), 9 - head[length].bit_length()
    if width > 8 or len(head) < length + width:
        return 0, at, 0
    mask = (1 << 7 * width) - 1
    size = int.from_bytes(head[length : length + width], "big") & mask
    return number, at + length + width, None if size == mask else size


def _transport_break(path: Path) -> str:
    """Packets must have one size, the same first byte, and no part of one at the end of the file."""
    content = np.memmap(path, np.uint8, "r")
    for size, before in _TRANSPORT_PACKETS:
        firsts = content[before::size]
        if len(firsts) > 1 and (firsts[:2] == _SYNC).all():
            wrong = np.flatnonzero(firsts != _SYNC)
            if len(wrong):
                return f"its structure breaks at byte {wrong[0] * size:,} of {len(content):,}"
            return "the end of its last packet is missing" if len(content) % size else ""
    return ""


__all__ = ["find_break"]
