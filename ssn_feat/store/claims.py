"""Claims say which process is working on which video, so that several runs share a store without repeating work.

A claim is advisory, not a lock: if two processes extract the same video, the second one finds it committed. A claim
ends with its process, or on another machine when it was not renewed within the lease. The age of a claim is measured by
the clock of whatever stores the claims (:class:`ClaimStore`), so a wrong clock on one machine does not end the claims
of others.
"""

from __future__ import annotations

import functools
import json
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from ssn_feat.store.keys import key_of
from ssn_feat.store.recipe import parse_json
from ssn_feat.store.staging import Owner

LEASE_SECONDS = 600.0
_SECONDS_BETWEEN_RENEWALS = 30.0
_TRIES = 100


@dataclass(frozen=True, slots=True)
class Claim:
    """One video that one process is working on."""

    id: str
    host: str
    pid: int
    since: float
    """When it was last renewed: seconds since 1970, by the clock of the claim store."""


@dataclass(frozen=True, slots=True)
class StoredClaim:
    """A claim as read from the claim store: its content and when it was last renewed."""

    content: bytes
    renewed: float


class ClaimStore(Protocol):
    """Storage of claims as small named files. Each method is atomic; other processes may act between two calls."""

    def now(self) -> float:
        """The current time by the clock of :attr:`StoredClaim.renewed`, seconds."""

    def create(self, key: str, content: bytes) -> bool:
        """Store a claim. False, without any change, if there is one of that name."""

    def read(self, key: str) -> StoredClaim | None:
        """The claim of that name, None if there is none."""

    def renew(self, key: str, content: bytes) -> bool:
        """Renew the claim of that name. False if its content is no longer ``content``."""

    def remove(self, key: str, content: bytes) -> None:
        """Remove the claim of that name if its content is ``content``."""

    def keys(self) -> Iterable[str]:
        """Names of all claims."""

    def close(self) -> None:
        """Remove folders that are not needed when there are no claims."""


class HeldClaim:
    """A claim of this process."""

    def __init__(
        self, claim_store: ClaimStore, key: str, content: bytes, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._claim_store, self._key, self.content, self._clock = claim_store, key, content, clock
        self._renewed = clock()
        self.lost = False
        """Whether another process took the claim because it looked abandoned. The first to commit wins."""

    def renew(self) -> None:
        """Renew the claim. Cheap enough to be called after every batch."""
        if not self.lost and self._clock() - self._renewed > _SECONDS_BETWEEN_RENEWALS:
            self._renewed = self._clock()
            self.lost = not self._claim_store.renew(self._key, self.content)

    def is_held(self) -> bool:
        """Whether the claim still exists and is that of this process: required right before a video is changed."""
        stored = self._claim_store.read(self._key)
        return not self.lost and stored is not None and stored.content == self.content

    def release(self) -> None:
        """Remove the claim, unless another process took it."""
        self._claim_store.remove(self._key, self.content)


class Claims:
    """The claims of a store."""

    def __init__(
        self,
        claim_store: ClaimStore,
        me: Callable[[], Owner] = Owner.me,
        is_dead: Callable[[Owner], bool] = Owner.is_dead,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.claim_store, self._me, self._is_dead, self._clock = claim_store, me, is_dead, clock

    @contextmanager
    def hold(self, video_id: str) -> Iterator[HeldClaim | None]:
        """Hold the claim on a video within the block. None if another running process holds it."""
        claim = _run_to_end(self.acquire(video_id))
        if claim is None:
            yield None
            return
        try:
            yield claim
        finally:
            claim.release()
            self.claim_store.close()

    def acquire(self, video_id: str) -> Generator[None, None, HeldClaim | None]:
        """The steps of :meth:`hold`, at most one call of the claim store between two yields; returns the claim."""
        key = key_of(video_id)
        owner = self._me()
        content = json.dumps({"id": video_id, "owner": owner.name, "token": uuid.uuid4().hex}).encode()
        for _ in range(_TRIES):
            if self.claim_store.create(key, content):
                return HeldClaim(self.claim_store, key, content, self._clock)
            yield
            stored = self.claim_store.read(key)
            yield
            if stored is None:  # removed in the meantime
                continue
            if self._is_active(stored, self.claim_store.now):
                return None
            yield
            self.claim_store.remove(key, stored.content)
            yield
        return None

    def active(self) -> list[Claim]:
        """Claims of running processes, sorted by id."""
        now = self._clock_of_all()
        claims = [_claim_of(stored) for _, stored in self._all() if self._is_active(stored, now)]
        return sorted((claim for claim in claims if claim is not None), key=lambda claim: claim.id)

    def clean(self) -> None:
        """Remove the claims of ended processes."""
        now = self._clock_of_all()
        for key, stored in self._all():
            if not self._is_active(stored, now):
                self.claim_store.remove(key, stored.content)
        self.claim_store.close()

    def _clock_of_all(self) -> Callable[[], float]:
        """The time of the claim store, asked for once, and only if a claim of another machine is met."""
        return functools.cache(self.claim_store.now)

    def _all(self) -> list[tuple[str, StoredClaim]]:
        stored = ((key, self.claim_store.read(key)) for key in self.claim_store.keys())  # noqa: SIM118
        return [(key, claim) for key, claim in stored if claim is not None]

    def _is_active(self, stored: StoredClaim, now: Callable[[], float]) -> bool:
        owner = _owner_of(stored)
        if owner is not None and owner.host == self._me().host:
            return not self._is_dead(owner)
        return now() - stored.renewed < LEASE_SECONDS


def _run_to_end(steps: Generator[None, None, HeldClaim | None]) -> HeldClaim | None:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            claim: HeldClaim | None = end.value
            return claim


def _owner_of(stored: StoredClaim) -> Owner | None:
    """None if the claim is not fully written yet, or damaged."""
    try:
        return Owner.parse(parse_json(stored.content)["owner"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _claim_of(stored: StoredClaim) -> Claim | None:
    owner = _owner_of(stored)
    if owner is None:
        return None
    try:
        return Claim(str(parse_json(stored.content)["id"]), owner.host, owner.pid, stored.renewed)
    except KeyError:
        return None


__all__ = ["LEASE_SECONDS", "Claim", "ClaimStore", "Claims", "HeldClaim", "StoredClaim"]
