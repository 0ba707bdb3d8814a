"""Videos that are replaced by others of the same name: before, during and after their extraction."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
from extraction import small

from ssn_feat.backbones import load_backbone
from ssn_feat.errors import UserError
from ssn_feat.extraction import ExtractReport, extract, extract_video
from ssn_feat.extraction.extract_progress import Progress
from ssn_feat.extraction.sources import source_sha256
from ssn_feat.store import open_store, status, verify

from .outcome import Outcome, unforeseen

_IDS = ("v0", "v1", "v2")
Change = Callable[[Path, Path], None]


def _renamed_over(path: Path, other: Path) -> None:
    shutil.copy(other, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


def _rewritten(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


def _rewritten_with_its_size_and_time(path: Path, other: Path) -> None:
    before = path.stat()
    path.write_bytes(other.read_bytes().ljust(before.st_size, b"\0")[: before.st_size])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _swapped_and_restored(path: Path, other: Path) -> None:
    kept = path.with_suffix(".kept")
    os.rename(path, kept)
    shutil.copy(other, path)
    os.replace(kept, path)


def _flipped(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _extended(path: Path, other: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _touched(path: Path, other: Path) -> None:
    os.utime(path, (1, 1))


def _removed(path: Path, other: Path) -> None:
    path.unlink()


_CHANGES: tuple[Change, ...] = (
    *(_renamed_over, _rewritten, _rewritten_with_its_size_and_time, _swapped_and_restored),
    *(_flipped, _extended, _touched, _removed),
)


class Films:
    """Videos to choose from, and the features of any content."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(small.videos(folder, count=7).iterdir())
        self._backbones = {stream: load_backbone("tiny:net", stream) for stream in ("rgb", "flow")}
        self._known: dict[str, dict[str, bytes] | None] = {}

    def features(self, path: Path) -> dict[str, bytes] | None:
        """The stored features of the content of a file; None if extraction has to refuse it."""
        content = source_sha256(path)
        if content not in self._known:
            try:
                video = extract_video(path, self._backbones, small.options(path, path).snippets, batch=2)
            except UserError:
                self._known[content] = None
            else:
                rows = {stream: each.astype(np.float16).tobytes() for stream, each in video.features.items()}
                self._known[content] = None if video.info["damage"] else rows
        return self._known[content]

    def known(self, content: str) -> dict[str, bytes] | None:
        """The features of a content whose file was seen before."""
        return self._known.get(content)


def rounds(generator: np.random.Generator, folder: Path) -> Iterator[Outcome]:
    """A file changes; features and hash in the store belong together, and what changed is named and updated."""
    films = Films(folder / "films")
    for path in films.paths:
        films.features(path)
    stages = (_before, _during, _after)
    while True:
        for stage in stages:
            change = _CHANGES[generator.integers(len(_CHANGES))]
            victim = _IDS[generator.integers(len(_IDS))]
            other = films.paths[generator.integers(len(_IDS), len(films.paths))]
            work = folder / "work"
            (work / "videos").mkdir(parents=True)
            for path in films.paths[: len(_IDS)]:
                shutil.copy(path, work / "videos")
            what = f"{victim} {change.__name__.strip('_').replace('_', ' ')}"
            change_it = partial(change, _path(work, victim), other)
            yield Outcome(*_judged(stage, what, work, films, change_it, victim, generator))
            shutil.rmtree(work)


def _path(work: Path, victim: str) -> Path:
    return work / "videos" / f"{victim}.avi"


def _judged(
    stage: Callable[..., tuple[str, str]],
    what: str,
    work: Path,
    films: Films,
    change: Callable[[], None],
    victim: str,
    generator: np.random.Generator,
) -> tuple[str, str]:
    """What was done and what failed."""
    try:
        when, failing = stage(work, films, change, victim, generator)
    except Exception as error:
        return what, unforeseen(error)
    return f"{what} {when}", failing or _updated(work, films)


def _extract(work: Path, update: bool = False) -> ExtractReport:
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return extract(small.options(work / "videos", work / "s.zarr", update=update))


def _before(work: Path, films: Films, change: Callable[[], None], victim: str, _: object) -> tuple[str, str]:
    change()
    _extract(work)
    return "before extraction", _inconsistent(work, films)


def _during(
    work: Path, films: Films, change: Callable[[], None], victim: str, generator: np.random.Generator
) -> tuple[str, str]:
    """At a batch of the same or of another video."""
    trigger, batch = _IDS[generator.integers(len(_IDS))], int(generator.integers(1, 3))
    rows, seen = Progress.rows, []

    def noted(progress: Progress, video_id: str, count: int) -> None:
        seen.append(video_id)
        if seen.count(trigger) == batch and video_id == trigger:
            change()
        rows(progress, video_id, count)

    with mock.patch.object(Progress, "rows", noted):
        report = _extract(work)
    when = f"at batch {batch} of {trigger}"
    odd = [reason for i, reason in report.failures.items() if i != victim]
    if trigger == victim and victim not in report.failures:
        return when, "it was not noticed"
    return when, "; ".join(odd) or _inconsistent(work, films)


def _after(work: Path, films: Films, change: Callable[[], None], victim: str, _: object) -> tuple[str, str]:
    _extract(work)
    store, path = open_store(work / "s.zarr"), _path(work, victim)
    recorded = store.attributes(victim)["source"]
    change()
    looks = "orphan"
    if path.exists():
        same = (path.stat().st_size, path.stat().st_mtime) == (recorded["bytes"], recorded["modified"])
        looks = "done" if same else "changed"
    state = status(store).videos[victim].state
    if state != looks:
        return "after extraction", f"its status is {state}, not {looks}"
    report = _extract(work)
    differs = looks == "changed" and source_sha256(path) != recorded["sha256"]
    if list(report.changed) != [victim] * differs or report.extracted:
        return "after extraction", f"named as changed: {list(report.changed)}, extracted: {list(report.extracted)}"
    return "after extraction", _inconsistent(work, films)


def _inconsistent(work: Path, films: Films) -> str:
    """Why the store does not hold the features of the content that it records; empty if it does."""
    store = open_store(work / "s.zarr")
    if damage := verify(store).damage:
        return f"damaged: {damage}"
    for path in sorted((work / "videos").glob("*.avi")):
        films.features(path)
    for video in store.read_all():
        expected = films.known(video.info["source"]["sha256"])
        if expected != {stream: rows.tobytes() for stream, rows in video.features.items()}:
            return f"{video.id} has features of another content than recorded"
    return ""


def _updated(work: Path, films: Films) -> str:
    """Why a run with --update does not end with the features of the files that are there; empty if it does."""
    try:
        report = _extract(work, update=True)
        if failing := _inconsistent(work, films):
            return failing
        store = open_store(work / "s.zarr")
        for path in sorted((work / "videos").glob("*.avi")):
            source = store.attributes(path.stem)["source"] if path.stem in store else {}
            hidden = (source.get("bytes"), source.get("modified")) == (path.stat().st_size, path.stat().st_mtime)
            expected = films.features(path)
            if expected is None and path.stem not in report.failures and not hidden:
                return f"{path.stem} cannot be extracted, and that is not reported"
            if expected is not None and source.get("sha256") != source_sha256(path) and not hidden:
                return f"{path.stem} was not updated"
    except Exception as error:
        return unforeseen(error)
    return ""
