"""Repairs and added streams that are killed, or meet a full disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
from extraction import small

from ssn_feat.errors import UserError
from ssn_feat.extraction import ExtractOptions, ExtractReport, extract, run_extraction
from ssn_feat.extraction.commit_video import Again
from ssn_feat.extraction.repair import VerifyOptions, verify_store
from ssn_feat.store import open_store, verify
from ssn_feat.store.stored_video import array_folder

from .full_disk import _PAGE, _can_mount, _mounted, _quietly
from .outcome import Outcome, unforeseen
from .processes import Ended, Process, Work, done

Arrays = dict[tuple[str, str], bytes]


def rounds(generator: np.random.Generator, folder: Path) -> Iterator[Outcome]:
    """What was sound stays, what was damaged stays or is repaired, and the same command again completes it."""
    films = small.videos(folder / "videos", count=3, frames=24)
    run_extraction(small.options(films, folder / "whole.zarr", quiet=True))
    run_extraction(small.options(films, folder / "rgb.zarr", streams=("rgb",), quiet=True))
    whole = _sound(folder / "whole.zarr")
    can_mount = _can_mount(folder / "disk")
    while True:
        for source, work in (("whole.zarr", _repair), ("rgb.zarr", _add)):
            harm = source == "whole.zarr"
            yield _killed(folder, source, work, whole, generator, harm)
            if can_mount:
                yield _on_disk(folder, source, work, whole, generator, harm)


def _repair(store: Path) -> int:
    """In one process, so that the operations on files are counted."""

    def alone(options: ExtractOptions, again: Again) -> ExtractReport:
        return extract(replace(options, jobs=1), again)

    with mock.patch("ssn_feat.extraction.repair.extract", alone):
        return verify_store(VerifyOptions(store, repair=True, trust_modules=("tiny:net",)))


def _add(store: Path) -> int:
    films: ExtractOptions = small.options(store.parent / "videos", store, streams=("flow",))
    return run_extraction(films)


def _sound(path: Path) -> Arrays:
    """The values of every sound array, by video and name."""
    store, sound = open_store(path), {}
    for video_id in store.ids:
        damaged = store.check(video_id)
        if "" in damaged:
            continue
        for name, described in store.recorded(video_id)["arrays"].items():
            if name not in damaged:
                folder = path / "videos" / video_id / array_folder(name, described)
                sound[video_id, name] = (folder / "c" / "0" / "0").read_bytes()
    return sound


def _harmed(store: Path, generator: np.random.Generator) -> list[str]:
    """Damage one to four files of a store."""
    files = [path for path in sorted((store / "videos").rglob("*")) if path.is_file() and path.parent.name != "videos"]
    chosen = [files[at] for at in generator.choice(len(files), size=int(generator.integers(1, 5)), replace=False)]
    for path in chosen:
        content = bytearray(path.read_bytes())
        at = int(generator.integers(len(content)))
        content[at] ^= 1 << int(generator.integers(8))
        path.write_bytes(content[:at] if generator.random() < 0.3 else content)
    return [str(path.relative_to(store / "videos")) for path in chosen]


def _prepared(folder: Path, out: Path, source: str, generator: np.random.Generator, harm: bool) -> list[str]:
    out.mkdir(exist_ok=True)
    shutil.copytree(folder / source, out / "s.zarr")
    (out / "videos").symlink_to(folder / "videos")
    return _harmed(out / "s.zarr", generator) if harm else []


def _killed(
    folder: Path, source: str, work: object, whole: Arrays, generator: np.random.Generator, harm: bool
) -> Outcome:
    out, share = folder / "killed", float(generator.random())
    state = generator.bit_generator.state
    try:
        chosen = _prepared(folder, out, source, generator, harm)
        operations = done(_work(work, out)).operations
        shutil.rmtree(out)
        generator.bit_generator.state = state
        _prepared(folder, out, source, generator, harm)
        at = 1 + int(share * operations)
        before = _sound(out / "s.zarr")
        Process(_work(work, out), kill_at=at).end()
        what = f"{_name(work)} of {chosen}, killed before operation {at} of {operations} on files"
        return Outcome(what, _failing(out, before, whole) or _completes(work, out, whole))
    except Exception as error:
        return Outcome(f"{_name(work)}, killed", unforeseen(error))
    finally:
        shutil.rmtree(out)


def _on_disk(
    folder: Path, source: str, work: object, whole: Arrays, generator: np.random.Generator, harm: bool
) -> Outcome:
    disk, size = folder / "disk", sum(path.is_file() for path in (folder / source).rglob("*"))
    with _mounted(disk, 1 << 14):
        out = disk / "out"
        try:
            chosen = _prepared(folder, out, source, generator, harm)
            pages = int(generator.integers(size + 1, size + 40))
            _quietly("mount", "-o", f"remount,size={pages * _PAGE}", str(disk))
            before = _sound(out / "s.zarr")
            ended = Process(_work(work, out)).end()
            what = f"{_name(work)} of {chosen} on a disk of {pages} pages: exit code {ended.code}"
            failing = _failing(out, before, whole) or _said(ended)
            _quietly("mount", "-o", "remount,size=64m", str(disk))
            return Outcome(what, failing or _completes(work, out, whole))
        except Exception as error:
            return Outcome(f"{_name(work)} on a full disk", unforeseen(error))


def _work(work: object, out: Path) -> Work:
    return Work(work, (out / "s.zarr",), out)  # type: ignore[arg-type]


def _name(work: object) -> str:
    return "repair" if work is _repair else "adding a stream"


def _said(ended: Ended) -> str:
    if ended.code not in (0, 1, 2) or "Traceback" in ended.said:
        return f"exit code {ended.code}: {ended.said[-300:]}"
    return "" if ended.code == 0 or "No space left" in ended.said else f"no reason is given: {ended.said[-300:]}"


def _failing(out: Path, before: Arrays, whole: Arrays) -> str:
    """What is wrong with the store after a fault: an array that was sound is lost, or has other values."""
    try:
        after = _sound(out / "s.zarr")
    except UserError as error:
        return f"the store cannot be read: {error}"
    lost = sorted(before.keys() - after.keys())
    odd = sorted(key for key, values in after.items() if values != whole[key])
    return f"lost {lost[:3]}" if lost else f"other values of {odd[:3]}" if odd else ""


def _completes(work: object, out: Path, whole: Arrays) -> str:
    ended = done(_work(work, out))
    if ended.code != 0:
        return f"the same command again: exit code {ended.code}: {ended.said[-300:]}"
    store = open_store(out / "s.zarr")
    damage = verify(store).damage
    if damage or _sound(out / "s.zarr") != whole:
        return f"the same command again leaves another store: {damage}"
    for video_id in store.ids:
        used = {array_folder(name, each) for name, each in store.recorded(video_id)["arrays"].items()}
        if set(store.backend.arrays(f"videos/{video_id}")) != used:
            return f"unused arrays of {video_id} are left"
    return "the staging folder is left" if (out / "s.zarr.staging").exists() else ""
