"""Claims: which process is at work on which video, so that several runs share a store without doing work twice.

A claim is advice, not a lock: should two processes extract one video after all, the second loses at the rename. It
ends with its process, or on other machines when it was not renewed for a while.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ssn_feat.store.files import Owner, Staging, listed, writing
from ssn_feat.store.keys import key_of

LEASE_SECONDS = 600.0
_SECONDS_BETWEEN_RENEWALS = 30.0


@dataclass(frozen=True, slots=True)
class Claim:
    """One video in the hands of one process."""

    id: str
    host: str
    pid: int
    since: float
    """Seconds since 1970."""


class HeldClaim:
    """A claim of this process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._renewed = time.monotonic()

    def renew(self) -> None:
        """Say that the work goes on; cheap enough to be called after every batch."""
        if time.monotonic() - self._renewed > _SECONDS_BETWEEN_RENEWALS:
            self._renewed = time.monotonic()
            with suppress(OSError):  # somebody took it for abandoned: the rename decides
                os.utime(self._path)


class Claims:
    """The claims of a store, one small file each in the staging folder."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self.path = staging.path / "claims"

    @contextmanager
    def hold(self, video_id: str) -> Iterator[HeldClaim | None]:
        """The claim on a video for the length of the block; None where another living process has it."""
        path = self.path / key_of(video_id)
        if not self._take(path, video_id):
            yield None
            return
        try:
            yield HeldClaim(path)
        finally:
            path.unlink(missing_ok=True)
            self._close()

    def _take(self, path: Path, video_id: str) -> bool:
        content = json.dumps({"id": video_id, "owner": Owner.me().name}).encode()
        for _ in range(100):
            with writing(self._staging.store):
                try:
                    self.path.mkdir(parents=True, exist_ok=True)
                    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
                except FileNotFoundError:  # the empty folder was removed just now
                    continue
                except FileExistsError:
                    if path.exists() and _alive(path):
                        return False
                    path.unlink(missing_ok=True)
                    continue
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                return True
        return False

    def living(self) -> list[Claim]:
        """Claims of processes that are at work, sorted by id."""
        found = [_read(path) for path in listed(self.path) if _alive(path)]
        return sorted((claim for claim in found if claim is not None), key=lambda claim: claim.id)

    def clean(self) -> None:
        """Remove claims of processes that are not."""
        for path in listed(self.path):
            if not _alive(path):
                path.unlink(missing_ok=True)
        self._close()

    def _close(self) -> None:
        """Remove the folder of claims if it is empty, and the staging folder."""
        with suppress(OSError):
            self.path.rmdir()
            self._staging.close()


def _read(path: Path) -> Claim | None:
    """None for a claim that is gone, or was made but not written yet."""
    try:
        values = json.loads(path.read_bytes())
        owner = Owner.parse(values["owner"])
        since = path.stat().st_mtime
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if owner is None else Claim(values["id"], owner.host, owner.pid, since)


def _alive(path: Path) -> bool:
    try:
        age = time.time() - path.stat().st_mtime
        owner = Owner.parse(json.loads(path.read_bytes())["owner"])
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError):
        owner = None
    if owner is not None and owner.host == Owner.me().host:
        return not owner.is_dead()
    return age < LEASE_SECONDS
