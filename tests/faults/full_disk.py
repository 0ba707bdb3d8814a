"""A full disk under extraction, packing, fitting, proposing, detecting, exporting and importing."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .outcome import Outcome, unforeseen
from .processes import Ended, Process, done
from .tasks import Result, Task, tasks

_PAGE = 4096


def rounds(generator: np.random.Generator, folder: Path) -> Iterator[Outcome]:
    """Commands of the pipeline on full disks."""
    return on_full_disks(tasks(folder), generator, folder)


def on_full_disks(known: Mapping[str, Task], generator: np.random.Generator, folder: Path) -> Iterator[Outcome]:
    """One command meets a full disk: it says so and ends; what was committed is whole; with room it completes.

    The disk is a small file system in memory where one may be mounted (root on Linux). Elsewhere it is a limit on the
    size of a file (RLIMIT_FSIZE), which is met by the largest files only.
    """
    can_mount = _can_mount(folder / "disk")
    whole: dict[str, tuple[int, Result]] = {}
    while True:
        for name, task in known.items():
            if name not in whole:
                whole[name] = _undisturbed(task, folder / "whole")
            size, expected = whole[name]
            share = float(generator.uniform(0.05, 1.0))
            if can_mount:
                yield _on_disk(task, expected, folder / "disk", max(2, int(share * size / _PAGE)))
            else:
                yield _limited(task, expected, folder / "limited", int(share * size))


def _undisturbed(task: Task, out: Path) -> tuple[int, Result]:
    """Bytes of disk that the command fills, and what it leaves."""
    out.mkdir()
    ended = done(task.work(out))
    if ended.code != 0:
        raise RuntimeError(f"{task.name} fails without any fault: {ended.said}")
    size = sum(-(-path.stat().st_size // _PAGE) * _PAGE for path in out.rglob("*") if path.is_file())
    left = task.left(out)
    shutil.rmtree(out)
    return size, left


def _can_mount(disk: Path) -> bool:
    try:
        with _mounted(disk, 16):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextmanager
def _mounted(disk: Path, pages: int) -> Iterator[None]:
    disk.mkdir()
    try:
        _quietly("mount", "-t", "tmpfs", "-o", f"size={pages * _PAGE}", "tmpfs", str(disk))
        try:
            yield
        finally:
            _quietly("umount", str(disk))
    finally:
        disk.rmdir()


def _quietly(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _on_disk(task: Task, expected: Result, disk: Path, pages: int) -> Outcome:
    with _mounted(disk, pages):
        out = disk / "out"
        out.mkdir()
        ended = Process(task.work(out)).end()
        failing = _failing(task, out, expected, ended)
        if not failing:
            _quietly("mount", "-o", "remount,size=64m", str(disk))
            failing = _completes(task, out, expected)
    return Outcome(f"{task.name} on a disk of {pages * _PAGE // 1024} KiB: exit code {ended.code}", failing)


def _limited(task: Task, expected: Result, out: Path, largest: int) -> Outcome:
    out.mkdir()
    try:
        ended = Process(task.work(out), largest=largest).end()
        failing = _failing(task, out, expected, ended) or _completes(task, out, expected)
        return Outcome(f"{task.name} with files of {largest} bytes at most: exit code {ended.code}", failing)
    finally:
        shutil.rmtree(out)


def _failing(task: Task, out: Path, expected: Result, ended: Ended) -> str:
    """What is wrong with how the command ended on a full disk, or with what it left."""
    if ended.code is None:
        return "it hangs"
    if ended.code != 0:
        lines = ended.said.strip().splitlines()
        if ended.code != 2 or not lines or "Traceback" in ended.said:
            return f"exit code {ended.code}: {' '.join(ended.said[-300:].split())}"
        if not re.search("No space left|File too large", lines[-1]):
            return f"the message does not say what is wrong: {lines[-1][:200]}"
    try:
        left = task.left(out)
    except Exception as error:
        return f"what it left cannot be read: {unforeseen(error)}"
    if ended.code == 0 and left != expected:
        return "it ends as if all was well, and is not"
    odd = [name for name, part in left.items() if part != expected[name]]
    return f"it left {odd[0]} that is not what it would have become" if odd else ""


def _completes(task: Task, out: Path, expected: Result) -> str:
    """What is wrong when the same command is run again, with room."""
    ended = done(task.work(out))
    if ended.code != 0:
        return f"the same command again: exit code {ended.code}: {ended.said[-200:]}"
    return "" if task.left(out) == expected else "the same command again, with room, leaves something else"
