"""Claims: which process is at work on which video, so that several runs share a store without doing work twice.

A claim is advice, not a lock: should two processes extract one video after all, the second finds it committed and is
told so. A claim ends with its process, or on other machines when it was not renewed for the length of its lease. Its
age is told by the clock of whatever stores the claims (:class:`Board`), never by that of the machine that asks: clocks
that are wrong take no claim away from the living.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from ssn_feat.store.files import Owner
from ssn_feat.store.keys import key_of
from ssn_feat.store.recipe import parsed

LEASE_SECONDS = 600.0
_SECONDS_BETWEEN_RENEWALS = 30.0
_TRIES = 100


@dataclass(frozen=True, slots=True)
class Claim:
    """One video in the hands of one process."""

    id: str
    host: str
    pid: int
    since: float
    """When it was renewed last: seconds since 1970, by the clock of what stores it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A claim as it lies on the board: what is written on it and when it was renewed last."""

    content: bytes
    renewed: float


class Board(Protocol):
    """Where claims are kept: small named notes. Every operation is one step that others may come between."""

    def now(self) -> float:
        """The time by the clock that :attr:`Seen.renewed` is told by, seconds."""

    def create(self, key: str, content: bytes) -> bool:
        """Put up a claim; False, and nothing changes, where there is one of that name."""

    def look(self, key: str) -> Seen | None:
        """The claim of that name, None where there is none."""

    def renew(self, key: str, content: bytes) -> bool:
        """Renew the claim of that name; False where it is not (any more) the one that reads ``content``."""

    def remove(self, key: str, content: bytes) -> None:
        """Take down the claim of that name, if it reads ``content``."""

    def keys(self) -> Iterable[str]:
        """Names of all claims."""

    def close(self) -> None:
        """Remove what is of no use without claims."""


class HeldClaim:
    """A claim of this process."""

    def __init__(self, board: Board, key: str, content: bytes, clock: Callable[[], float] = time.monotonic) -> None:
        self._board, self._key, self.content, self._clock = board, key, content, clock
        self._renewed = clock()
        self.lost = False
        """Whether another process took it for abandoned: whichever commits first decides."""

    def renew(self) -> None:
        """Say that the work goes on; cheap enough to be called after every batch."""
        if not self.lost and self._clock() - self._renewed > _SECONDS_BETWEEN_RENEWALS:
            self._renewed = self._clock()
            self.lost = not self._board.renew(self._key, self.content)

    def release(self) -> None:
        """Take the claim down, if it is still this one."""
        self._board.remove(self._key, self.content)


class Claims:
    """The claims of a store."""

    def __init__(
        self,
        board: Board,
        me: Callable[[], Owner] = Owner.me,
        is_dead: Callable[[Owner], bool] = Owner.is_dead,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.board, self._me, self._is_dead, self._clock = board, me, is_dead, clock

    @contextmanager
    def hold(self, video_id: str) -> Iterator[HeldClaim | None]:
        """The claim on a video for the length of the block; None where another living process has it."""
        claim = _to_the_end(self.taking(video_id))
        if claim is None:
            yield None
            return
        try:
            yield claim
        finally:
            claim.release()
            self.board.close()

    def taking(self, video_id: str) -> Generator[None, None, HeldClaim | None]:
        """:meth:`hold` as steps, one at the most on the board between two of them; the claim comes at the end."""
        key = key_of(video_id)
        owner = self._me()
        content = json.dumps({"id": video_id, "owner": owner.name, "token": uuid.uuid4().hex}).encode()
        for _ in range(_TRIES):
            if self.board.create(key, content):
                return HeldClaim(self.board, key, content, self._clock)
            yield
            seen = self.board.look(key)
            yield
            if seen is None:  # gone since
                continue
            if self._alive(seen):
                return None
            yield
            self.board.remove(key, seen.content)
            yield
        return None

    def living(self) -> list[Claim]:
        """Claims of processes that are at work, sorted by id."""
        found = [_parse(seen) for _, seen in self._all() if self._alive(seen)]
        return sorted((claim for claim in found if claim is not None), key=lambda claim: claim.id)

    def clean(self) -> None:
        """Remove claims of processes that are not."""
        for key, seen in self._all():
            if not self._alive(seen):
                self.board.remove(key, seen.content)
        self.board.close()

    def _all(self) -> list[tuple[str, Seen]]:
        return [(key, seen) for key in self.board.keys() if (seen := self.board.look(key)) is not None]  # noqa: SIM118

    def _alive(self, seen: Seen) -> bool:
        owner = _owner(seen)
        if owner is not None and owner.host == self._me().host:
            return not self._is_dead(owner)
        return self.board.now() - seen.renewed < LEASE_SECONDS


def _to_the_end(steps: Generator[None, None, HeldClaim | None]) -> HeldClaim | None:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            claim: HeldClaim | None = end.value
            return claim


def _owner(seen: Seen) -> Owner | None:
    """None where the claim was put up but not written yet, or is damaged."""
    try:
        return Owner.parse(parsed(seen.content)["owner"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _parse(seen: Seen) -> Claim | None:
    owner = _owner(seen)
    if owner is None:
        return None
    try:
        return Claim(str(parsed(seen.content)["id"]), owner.host, owner.pid, seen.renewed)
    except KeyError:
        return None
