"""A thousand workers share a store; some die, some are slow, all clocks are wrong. No video is lost, none done twice
without notice.

A discrete-event simulation of the code that real workers run (:class:`ssn_feat.store.claims.Claims`), on a claim store
in memory with its own clock. Every step of a worker may come between any two steps of another.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import numpy as np

from ssn_feat.store.claims import LEASE_SECONDS, Claims, StoredClaim
from ssn_feat.store.staging import Owner


@dataclass
class World:
    """The time that is true, the store and the claim store. ``skewed``: claims carry times of workers' clocks."""

    skewed: bool = False
    time: float = 0.0
    notes: dict[str, StoredClaim] = field(default_factory=dict)
    committed: dict[str, int] = field(default_factory=dict)
    refused: list[tuple[str, int]] = field(default_factory=list)
    """Commits that came second: video and worker, which was told."""
    done: Counter[str] = field(default_factory=Counter)
    """How often each video was worked on to the end."""
    dead: set[int] = field(default_factory=set)
    taken_from_the_living: int = 0
    holders: dict[bytes, int] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    """Videos that the first run left undone."""

    def commit(self, video: str, worker: int) -> None:
        """As the rename, or the object that is put only where there is none: one wins, others are told."""
        self.done[video] += 1
        if video in self.committed:
            self.refused.append((video, worker))
        else:
            self.committed[video] = worker


class MemoryClaims:
    """The claim store as one worker sees it."""

    def __init__(self, world: World, worker: Worker) -> None:
        self._world, self._worker = world, worker

    def now(self) -> float:
        return self._worker.clock() if self._world.skewed else self._world.time

    def create(self, key: str, content: bytes) -> bool:
        if key in self._world.notes:
            return False
        self._world.notes[key] = StoredClaim(content, self.now())
        self._world.holders[content] = self._worker.number
        return True

    def read(self, key: str) -> StoredClaim | None:
        return self._world.notes.get(key)

    def renew(self, key: str, content: bytes) -> bool:
        seen = self._world.notes.get(key)
        if seen is None or seen.content != content:
            return False
        self._world.notes[key] = StoredClaim(content, self.now())
        return True

    def remove(self, key: str, content: bytes) -> None:
        seen = self._world.notes.get(key)
        if seen is None or seen.content != content:
            return
        holder = self._world.holders[content]
        if holder != self._worker.number and holder not in self._world.dead:
            self._world.taken_from_the_living += 1
        del self._world.notes[key]

    def keys(self) -> list[str]:
        return list(self._world.notes)

    def close(self) -> None:
        pass


class Worker:
    """A process that works through the videos as extraction does: claim, look, work and renew, commit, release."""

    def __init__(self, world: World, number: int, hosts: int, rng: np.random.Generator, stuck: float) -> None:
        self.world, self.number, self.rng = world, number, rng
        self.owner = Owner(f"host{number % hosts}", number, "0")
        # Off by up to a day, and up to a thousandth too fast or slow.
        self.offset, self.drift = rng.uniform(-86400, 86400), 1 + rng.uniform(-1e-3, 1e-3)
        self.stuck = rng.random() < stuck
        self.claims = Claims(
            MemoryClaims(world, self),
            me=lambda: self.owner,
            is_dead=lambda owner: owner.pid in world.dead,
            clock=self.clock,
        )

    def clock(self) -> float:
        return self.offset + self.world.time * self.drift

    def run(self, videos: list[str]) -> Generator[float, None, None]:
        """Goes twice through the videos, as extraction does. Yields how long each step takes, seconds."""
        for _ in range(2):
            for video in videos:
                if video not in self.world.committed:
                    yield from self._one(video)
            yield 1.0

    def _one(self, video: str) -> Iterator[float]:
        steps = self.claims.acquire(video)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                claim = end.value
                break
            yield self.rng.exponential(0.05)
        if claim is None:
            return
        yield self.rng.exponential(0.05)
        if video not in self.world.committed:
            left = self.rng.exponential(300.0)
            while left > 0:
                # A stuck worker does not renew for up to three leases: a file system that hangs, a machine asleep.
                pause = self.rng.uniform(0, 3 * LEASE_SECONDS) if self.stuck and self.rng.random() < 0.1 else 20.0
                yield pause
                left -= 20.0
                claim.renew()
            self.world.commit(video, self.number)
            yield self.rng.exponential(0.05)
        claim.release()


def simulate(
    shards: int = 50, each: int = 20, seed: int = 0, deaths: float = 0.2, stuck: float = 0.05, skewed: bool = False
) -> World:
    """``shards`` shards of 24 videos with ``each`` workers on every one; ``deaths``: share of workers that are killed.

    Then, when the leases have ended, the same command is run again by one worker a shard.
    """
    rng = np.random.default_rng(seed)
    world = World(skewed)
    parts = [[f"v{24 * part + i}" for i in range(24)] for part in range(shards)]
    crew = [Worker(world, number, max(1, shards * each // 8), rng, stuck) for number in range(shards * each)]
    killed = {worker.number: rng.uniform(0, 600) for worker in crew if rng.random() < deaths}
    play(world, [(rng.uniform(0, 60), w, parts[w.number % shards]) for w in crew], killed)
    world.left = {video for part in parts for video in part} - world.committed.keys()
    # Whoever was slow has ended by now; whoever was killed has left its claims.
    world.time += 2 * LEASE_SECONDS
    again = [Worker(world, 10**6 + part, 10**6, rng, 0.0) for part in range(shards)]
    again[0].claims.clean()  # as opening a store to write does
    play(world, [(world.time, worker, parts[part]) for part, worker in enumerate(again)], {})
    return world


def play(world: World, starts: list[tuple[float, Worker, list[str]]], killed: dict[int, float]) -> None:
    """Every worker's steps in the order of time; those in ``killed`` take none after the time that stands there."""
    order = itertools.count()
    queue = [(at, next(order), worker.number, worker.run(videos)) for at, worker, videos in starts]
    heapq.heapify(queue)
    while queue:
        at, _, number, steps = heapq.heappop(queue)
        world.time = at
        if killed.get(number, np.inf) <= at:
            world.dead.add(number)
            continue
        step = next(steps, None)
        if step is not None:
            heapq.heappush(queue, (at + step, next(order), number, steps))


def test_no_video_is_lost_or_done_twice_without_notice() -> None:
    world = simulate()
    assert len(world.committed) == 50 * 24
    assert len(world.dead) > 100
    # Some were left by the first run, as its status says: pending. The second did those.
    assert 0 < len(world.left) < 100
    # Whatever was done once more than committed was refused, and its worker told.
    assert world.done.total() == len(world.committed) + len(world.refused)
    assert all(world.done[video] > 1 for video, _ in world.refused)
    # That comes from workers that were stuck for longer than a lease, and is little.
    assert len(world.refused) < 0.05 * len(world.committed)
    assert world.notes == {}


def test_only_the_stuck_lose_their_claims() -> None:
    world = simulate(shards=20, stuck=0.0, seed=1)
    assert world.taken_from_the_living == 0
    assert world.refused == []
    assert len(world.committed) == 20 * 24


def test_wrong_clocks_take_no_claims_away() -> None:
    """The claim store tells the age of claims; by the clocks of workers, running workers would lose their claims."""
    assert simulate(shards=4, stuck=0.0).taken_from_the_living == 0
    world = simulate(shards=4, stuck=0.0, skewed=True)
    assert world.taken_from_the_living > 0
    assert world.done.total() == len(world.committed) + len(world.refused)


def test_all_die() -> None:
    world = simulate(shards=4, deaths=1.0)
    assert len(world.dead) > 50
    assert world.left
    assert len(world.committed) == 4 * 24
