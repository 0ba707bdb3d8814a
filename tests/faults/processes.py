"""Work in processes that may be killed: forked from one that has imported everything, so that each starts at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        f"ssn_feat.{name}"
        for name in ("detection.detect_store", "extraction.repair", "training.fit", "proposals.propose", "video.opencv")
    ]
    + ["cv2", "torch._dynamo", "zarr"]  # the second is imported at the first step of an optimiser
)
# What the interpreter says before it does something to a file.
_FILE_EVENTS = frozenset(["open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.utime", "os.link"])


@dataclass(frozen=True)
class Work:
    """A function with plain arguments; ``folder`` is where it writes."""

    function: Callable[..., object]
    arguments: tuple[Any, ...]
    folder: Path


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int | None
    """Exit code, negative for a signal; None where it had to be killed because its time was up."""
    said: str
    """All that it printed."""
    operations: int
    """Operations on files in its folder."""
    seconds: float


class Process:
    """Work in a process of its own, which is killed before operation ``kill_at`` (from 1) on its files, if given, or
    stopped before operation ``stop_at``.

    ``largest``: bytes that a file may have (RLIMIT_FSIZE).
    """

    def __init__(self, work: Work, kill_at: int = 0, largest: int = 0, stop_at: int = 0) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        # Not beside the folder: the disk there may be full.
        self._notes = Path(tempfile.gettempdir(), f"faults-{os.getpid()}-{time.monotonic_ns()}.notes")
        self._began = time.monotonic()
        self._process = CONTEXT.Process(target=_child, args=(work, self._notes, kill_at, largest, stop_at))
        self._process.start()

    def kill(self) -> None:
        """At once."""
        self._process.kill()

    def wait_until_stopped(self) -> bool:
        """Wait for SIGSTOP; False if the process ended before. Needs Linux."""
        while self._process.is_alive():
            status = Path(f"/proc/{self._process.pid}/stat").read_bytes().rpartition(b")")[2].split()
            if status[0] in (b"T", b"t"):
                return True
            time.sleep(0.005)
        return False

    def resume(self) -> None:
        """Send SIGCONT."""
        os.kill(self._process.pid or 0, signal.SIGCONT)

    def end(self, seconds: float = 120.0) -> Ended:
        """Wait for its end, at most so long."""
        self._process.join(seconds)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            self._process.join()
        said = self._notes.read_text(errors="replace") if self._notes.exists() else ""
        self._notes.unlink(missing_ok=True)
        text, _, count = said.rpartition("\noperations ")
        counted = count.strip().isdigit()
        return Ended(code, text if counted else said, int(count) if counted else 0, time.monotonic() - self._began)


def done(work: Work) -> Ended:
    """Work that is left in peace."""
    return Process(work).end()


def _child(work: Work, notes: Path, kill_at: int, largest: int, stop_at: int) -> None:
    with notes.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import torch

    from ssn_feat.errors import UserError

    torch.set_num_threads(1)
    if largest:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    count = _count_operations(str(work.folder), {kill_at: signal.SIGKILL, stop_at: signal.SIGSTOP})
    code: object = 1
    try:
        code = work.function(*work.arguments)
        code = code if isinstance(code, int) else 0
    except UserError as error:  # as on the command line
        print(f"error: {error}", file=sys.stderr)
        code = 2
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(1, f"\noperations {len(count)}\n".encode())
    sys.exit(code)


def _count_operations(folder: str, signals: Mapping[int, signal.Signals]) -> list[None]:
    count: list[None] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _FILE_EVENTS or not isinstance(arguments[0], str | os.PathLike):
            return
        if os.fspath(arguments[0]).startswith(folder):
            count.append(None)
            if len(count) in signals:
                os.kill(os.getpid(), signals[len(count)])

    sys.addaudithook(hook)
    return count
