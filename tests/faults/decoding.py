"""Videos of several codecs and containers that are cut, flipped, mixed, emptied, or lie about lengths."""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import films
import google_crc32c
import numpy as np

from ssn_feat.errors import UserError
from ssn_feat.video import VideoReader

from .outcome import Outcome, unforeseen

_FRAMES = 30
_TOLERATED = 3  # frames by which the estimate of a header may be wrong
_SECONDS = 60
_AT_ONCE = 20
# Name, encoder and its options, pixel format.
_SOURCES: tuple[tuple[str, str, dict[str, str], str], ...] = (
    ("h264.mp4", "libx264", {"bf": "2"}, "yuv420p"),
    ("h264.mkv", "libx264", {"bf": "2"}, "yuv420p"),
    ("h264.ts", "libx264", {"bf": "2"}, "yuv420p"),
    ("hevc.mp4", "libx265", {"x265-params": "log-level=none"}, "yuv420p"),
    ("mpeg2.ts", "mpeg2video", {"bf": "2"}, "yuv420p"),
    ("mpeg4.avi", "mpeg4", {}, "yuv420p"),
    ("mpeg4.mov", "mpeg4", {}, "yuv420p"),
    ("vp9.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}, "yuv420p"),
    ("av1.mp4", "libsvtav1", {"preset": "12"}, "yuv420p"),
    ("mjpeg.avi", "mjpeg", {}, "yuvj420p"),
    ("prores.mov", "prores_ks", {}, "yuv422p10le"),
    ("ffv1.mkv", "ffv1", {}, "yuv420p"),
)
# Beside these words and bytes, containers keep lengths: boxes of MP4, chunks of AVI, elements of Matroska.
_MARKS = (
    *(b"moov", b"trak", b"mdat", b"stsz", b"stts", b"stsc", b"stco", b"mdhd", b"mvhd", b"tkhd", b"elst", b"avcC"),
    *(b"RIFF", b"LIST", b"movi", b"idx1", b"avih", b"strh", b"00dc"),
    *(bytes.fromhex(text) for text in ("1f43b675", "18538067", "1549a966", "1654ae6b", "4489", "a3")),
)


@dataclass(frozen=True)
class Seen:
    """What a pass over a file gave."""

    pictures: tuple[int, ...]
    """A checksum of each picture."""
    said: str = ""
    """The error, the damage, or the warnings."""
    unforeseen: str = ""
    """An exception that should have been a UserError."""


def rounds(generator: np.random.Generator, folder: Path) -> Iterator[Outcome]:
    """A damaged file fails with one line, is said to be damaged, or gives nearly all pictures of the whole file.

    That bytes were decoded to another picture cannot be told where FFmpeg says nothing: most codecs have no checksum.
    """
    whole, sources = {}, []
    for name, encoder, options, pix_fmt in _SOURCES:
        images = films.pictures(_FRAMES, seed=len(sources))
        path = films.encode(folder / name, images, encoder, options=options, pix_fmt=pix_fmt, gop=10)
        whole[name] = seen(path)
        sources.append(path)
    while True:
        made = []
        for number in range(_AT_ONCE):
            source = sources[generator.integers(len(sources))]
            other = sources[generator.integers(len(sources))]
            what, content = damaged(source.read_bytes(), other.read_bytes(), generator)
            path = folder / f"f{number:02d}{source.suffix}"
            path.write_bytes(content)
            made.append((f"{source.name}, {what}", source.name, path))
        for (what, name, _), found in zip(made, _all_seen([path for _, _, path in made]), strict=True):
            yield Outcome(what, found if isinstance(found, str) else _failing(found, whole[name]))


def damaged(data: bytes, other: bytes, generator: np.random.Generator) -> tuple[str, bytes]:
    """One harm of a file, in words and as bytes; ``other``: another file."""
    kind = str(generator.choice(["truncated", "flipped", "header", "length", "empty", "zeroed"], p=_SHARES))
    at = int(generator.integers(1, len(data)))
    if kind == "truncated":
        if (
            data[:1] == b"G" and at % 188 == 0
        ):  # MPEG-TS cut between two packets is a shorter recording, not a damaged one
            at -= 1
        return f"truncated to {at} of {len(data)} bytes", data[:at]
    if kind == "flipped":
        changed = bytearray(data)
        places = generator.integers(len(data), size=int(generator.choice([1, 1, 4, 20])))
        for place in places:
            changed[place] ^= 1 << int(generator.integers(8))
        return f"bits flipped at {', '.join(map(str, sorted(places)))}", bytes(changed)
    if kind == "header":
        length = int(generator.integers(8, 2000))
        return f"the first {length} bytes of another file", other[:length] + data[length:]
    if kind == "length":
        marks = [place for mark in _MARKS for place in _places(data, mark)]
        if marks:
            place = max(marks[generator.integers(len(marks))] + int(generator.integers(-4, 12)), 0)
            return f"4 other bytes at {place}", data[:place] + generator.bytes(4) + data[place + 4 :]
    if kind == "empty":
        return "no bytes", b""
    length = int(generator.choice([16, 200, 188 * 3]))
    return f"{length} zeros at {at}", data[:at] + bytes(length) + data[at + length :]


_SHARES = (0.2, 0.35, 0.12, 0.2, 0.01, 0.12)


def _places(data: bytes, mark: bytes) -> list[int]:
    places, at = [], data.find(mark)
    while at >= 0 and len(places) < 50:
        places.append(at)
        at = data.find(mark, at + 1)
    return places


def seen(path: Path) -> Seen:
    """Read a whole file."""
    pictures: list[int] = []
    try:
        with VideoReader(path, untimed_fps=25.0) as reader:
            while reader.advance():
                pictures.append(google_crc32c.value(reader.image().tobytes()))
            summary = reader.decoded()
        return Seen(tuple(pictures), summary.damage or "; ".join(summary.warnings))
    except UserError as error:
        return Seen(tuple(pictures), str(error) or "an error without a word")
    except Exception as error:
        return Seen(tuple(pictures), unforeseen=unforeseen(error))


def _see_all(paths: list[Path], answers: Any) -> None:
    for path in paths:
        answers.put(seen(path))


def _all_seen(paths: list[Path]) -> Iterator[Seen | str]:
    """What each file gives, read in another process: a crash or a hang only loses one file."""
    context = multiprocessing.get_context("fork")
    while paths:
        answers = context.Queue()
        process = context.Process(target=_see_all, args=(paths, answers), daemon=True)
        process.start()
        while paths:
            try:
                found: Seen | str = answers.get(timeout=_SECONDS if process.is_alive() else 1)
            except queue.Empty:
                found = f"no end after {_SECONDS} s" if process.is_alive() else f"a crash ({process.exitcode})"
            paths = paths[1:]
            yield found
            if isinstance(found, str):
                break
        process.kill()
        process.join()


def _failing(found: Seen, whole: Seen) -> str:
    if found.unforeseen:
        return found.unforeseen
    if "\n" in found.said:
        return f"more than one line: {found.said!r}"
    if not found.said and not len(whole.pictures) - _TOLERATED <= len(found.pictures) <= len(whole.pictures):
        return f"not a word, but {len(found.pictures)} of {len(whole.pictures)} pictures"
    return ""
