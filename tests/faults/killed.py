"""kill -9 of extraction (also with several writers and several processes), packing, fitting, proposing, detecting."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from extraction import small

from .outcome import Outcome, unforeseen
from .processes import Ended, Process, done
from .tasks import Result, Task, tasks


def rounds(generator: np.random.Generator, folder: Path) -> Iterator[Outcome]:
    """One command is killed: what it left is whole, and the same command again leaves what it does undisturbed."""
    known = tasks(folder)
    whole: dict[str, tuple[Ended, Result]] = {}
    others = [partial(_several_writers, task=known["extract"]), _processes, _worker]
    while True:
        for name, task in known.items():
            if name not in whole:
                whole[name] = _undisturbed(task, folder / "whole")
            yield _killed(task, whole[name], folder / "killed", generator)
        for other in others:
            yield other(whole=whole["extract"], folder=folder, generator=generator)


def _undisturbed(task: Task, out: Path) -> tuple[Ended, Result]:
    """How the command ends and what it leaves when nothing disturbs it."""
    ended, left = _again(task, out)
    if ended.code != 0:
        raise RuntimeError(f"{task.name} fails without any fault: {ended.said}")
    shutil.rmtree(out)
    return ended, left


def _again(task: Task, out: Path) -> tuple[Ended, Result]:
    out.mkdir(parents=True, exist_ok=True)
    return done(task.work(out)), task.left(out)


def _killed(task: Task, whole: tuple[Ended, Result], out: Path, generator: np.random.Generator) -> Outcome:
    """Before an operation on files, drawn at random, or, one time in four, after a time drawn at random."""
    undisturbed, expected = whole
    out.mkdir()
    if generator.random() < 0.25:
        seconds = float(generator.uniform(0, undisturbed.seconds))
        what = f"{task.name}, killed after {seconds:.3f} s"
        process = Process(task.work(out))
        time.sleep(seconds)
        process.kill()
    else:
        at = int(generator.integers(1, undisturbed.operations + 1))
        what = f"{task.name}, killed before operation {at} of {undisturbed.operations} on files"
        process = Process(task.work(out), kill_at=at)
    process.end()
    return Outcome(what, _failing(task, out, expected))


def _failing(task: Task, out: Path, expected: Result) -> str:
    """What is wrong with what a killed command left, or with what the same command makes of it; removes it all."""
    try:
        for name, part in task.left(out).items():
            if part != expected[name]:
                return f"it left {name} that is not what it would have become"
        ended, left = _again(task, out)
        if ended.code != 0:
            return f"the same command again: exit code {ended.code}: {ended.said[-300:]}"
        if left != expected:
            odd = sorted(name for name in left.keys() | expected.keys() if left.get(name) != expected.get(name))
            return f"the same command again leaves other {', '.join(odd)[:200]}"
        staging = list(out.glob("*.staging"))
        return f"{staging[0].name}, as large as the store, was left behind" if staging else ""
    except Exception as error:
        return unforeseen(error)
    finally:
        shutil.rmtree(out)


def _several_writers(
    whole: tuple[Ended, Result], folder: Path, generator: np.random.Generator, *, task: Task
) -> Outcome:
    """Three runs into one store, all killed."""
    out = folder / "writers"
    out.mkdir()
    places = [int(n) for n in generator.integers(1, whole[0].operations + 1, size=3)]
    runs = [Process(task.work(out), kill_at=at) for at in places]
    for run in runs:
        run.end()
    return Outcome(
        f"3 extractions into one store, killed before their operations {places}", _failing(task, out, whole[1])
    )


def _processes(whole: tuple[Ended, Result], folder: Path, generator: np.random.Generator) -> Outcome:
    """A run with two worker processes; the run is killed, its workers have to notice."""
    return _command(whole[1], folder, generator, worker=False)


def _worker(whole: tuple[Ended, Result], folder: Path, generator: np.random.Generator) -> Outcome:
    """A run with two worker processes, one of which is killed: the run goes on without it."""
    return _command(whole[1], folder, generator, worker=True)


def _command(expected: Result, folder: Path, generator: np.random.Generator, worker: bool) -> Outcome:
    out = folder / "command"
    out.mkdir()
    arguments = (folder / "videos", out / "s.zarr", "--jobs", "2")
    seconds = float(generator.uniform(0, 3))
    what = f"extraction with --jobs 2, {'a worker' if worker else 'all of it'} killed {seconds:.2f} s after it began"
    process = small.command(*arguments, TINY_DELAY="0.2")
    try:
        _wait_for(lambda: (out / "s.zarr.staging" / "claims").exists() or process.poll() is not None)
        time.sleep(seconds)
        if worker:
            at_work = _workers(process.pid)
            if at_work:
                os.kill(at_work[int(generator.integers(len(at_work)))], signal.SIGKILL)
        else:
            process.send_signal(signal.SIGKILL)
        said, errors = process.communicate(timeout=120)
        if worker and process.returncode != 0:
            return Outcome(what, f"exit code {process.returncode}: {said[-300:]} {errors[-300:]}")
        again = small.command(*arguments)
        said, errors = again.communicate(timeout=120)
        left = small.arrays(out / "s.zarr")
        if again.returncode != 0:
            return Outcome(what, f"the same command again: exit code {again.returncode}: {said[-300:]} {errors[-300:]}")
        return Outcome(what, "" if left == expected else "the same command again leaves other features")
    except Exception as error:
        return Outcome(what, unforeseen(error))
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
        shutil.rmtree(out)


def _workers(pid: int) -> list[int]:
    """Numbers of the worker processes of a run; none where the system does not tell."""
    found = []
    try:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if b"loky" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    except OSError:  # ended meanwhile, or not Linux
        return []
    return found


def _wait_for(there: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not there() and time.monotonic() < end:
        time.sleep(0.01)
