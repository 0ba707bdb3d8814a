"""Videos with flipped, cut out, put in, repeated and zeroed bytes."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from extraction import small

from ssn_feat.store import FeatureStore, open_store, verify

from .outcome import Outcome, unforeseen

_AT_ONCE = 10
_SECONDS = 300
_ENDINGS = (".avi", ".mp4", ".webm")
# How extraction tells of an exception that is no UserError.
_UNFORESEEN = re.compile(r"^$|^\w+(Error|Exception): .*\(\w+\.py:\d+\)$")


def rounds(generator: np.random.Generator, folder: Path) -> Iterator[Outcome]:
    """Each video ends as done or failed with a reason, the run goes on with the rest, and most frames gave features.

    Ten at a time through one command with two processes, beside a whole video that has to come out. That more bytes
    were decoded to another picture than the camera saw cannot be told: codecs have no checksum of pictures.
    """
    (folder / "whole").mkdir()
    whole = []
    for ending in _ENDINGS:
        for frames in (12, 40):
            path = folder / "whole" / f"{frames}{ending}"
            whole.append(small.write(path, small.pictures(frames, seed=frames)))
    while True:
        films, store = folder / "videos", folder / "s.zarr"
        films.mkdir()
        shutil.copy(whole[0], films / "sound.avi")
        made = {}
        for number in range(_AT_ONCE):
            source = whole[generator.integers(len(whole))]
            harm, content = _harmed(source.read_bytes(), generator)
            (films / f"f{number:02d}{source.suffix}").write_bytes(content)
            made[f"f{number:02d}"] = f"{source.name}, {harm}"
        yield from _outcomes(made, films, store)
        shutil.rmtree(films)
        shutil.rmtree(store, ignore_errors=True)


def _harmed(data: bytes, generator: np.random.Generator) -> tuple[str, bytes]:
    """One to four harms, half of them near the beginning or the end, where containers keep what they need."""
    names = []
    for _ in range(int(generator.integers(1, 5))):
        at = int(generator.integers(len(data))) if data else 0
        if data and generator.random() < 0.5:
            near = int(generator.integers(min(len(data), 400)))
            at = near if generator.random() < 0.6 else len(data) - 1 - near
        length = int(generator.choice([1, 4, 64, 1000, max(1, len(data) // 3)]))
        noise = generator.bytes(length)
        name = str(generator.choice(["flip", "overwrite", "cut out", "put in", "repeat", "zero", "truncate"]))
        after = {
            "flip": noise[:1],
            "overwrite": noise,
            "cut out": b"",
            "put in": noise + data[at : at + length],
            "repeat": 2 * data[at : at + length],
            "zero": bytes(len(data[at : at + length])),
            "truncate": b"",
        }[name]
        end = len(data) if name == "truncate" else at + (1 if name == "flip" else length)
        data = data[:at] + after + data[end:]
        names.append(f"{name} {length} at {at}")
    return ", ".join(names), data


def _outcomes(made: dict[str, str], films: Path, path: Path) -> Iterator[Outcome]:
    process = small.command(films, path, "--jobs", "2")
    try:
        said, errors = process.communicate(timeout=_SECONDS)
        failing = "" if process.returncode in (0, 1) else f"exit code {process.returncode}: {(said + errors)[-300:]}"
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        failing = f"the run had not ended after {_SECONDS} s"
    try:
        store = open_store(path)
        failures, damage = store.failures(), verify(store).damage
        if "sound" not in store:
            failing = failing or "the sound video beside it was not extracted"
        yield from (
            Outcome(what, failing or _failing(store, video_id, failures, damage) or _lost(store, video_id, what))
            for video_id, what in made.items()
        )
    except Exception as error:
        yield from (Outcome(what, failing or unforeseen(error)) for what in made.values())


def _failing(store: FeatureStore, video_id: str, failures: dict, damage: dict) -> str:  # type: ignore[type-arg]
    if video_id in damage:
        return f"stored damaged: {damage[video_id]}"
    if video_id not in store:
        if video_id not in failures:
            return "neither done nor failed"
        reason = failures[video_id].reason
        return f"failed by an error that nobody foresaw: {reason!r}" if _UNFORESEEN.search(reason) else ""
    stored = store.read(video_id)
    for name, rows in stored.features.items():
        if not np.isfinite(rows).all():
            return f"stored {name} that is not finite"
        # The backbone has no bias: zeros would be of pictures that were never decoded. Flow may well be none.
        if name == "rgb" and not np.abs(rows).any(axis=1).all():
            return f"stored {name} that is zero"
    if not 0 < stored.duration < 3600:
        return f"stored with a duration of {stored.duration} s"
    return ""


def _lost(store: FeatureStore, video_id: str, what: str) -> str:
    """Whether a video that ended as done lacks a quarter of its frames or more."""
    if video_id not in store:
        return ""
    frames = store.read(video_id).info["frames"]
    # A header that was changed to declare fewer frames is believed; one that declares nothing is not.
    had = frames["declared"] or int(what.partition(".")[0])
    return f"done with {frames['decoded']} of {had} frames" if frames["decoded"] <= 0.75 * had else ""
