"""Workers of several machines on one store, whose clocks are off by hours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ssn_feat.store import FeatureStore, create_store, verify
from ssn_feat.store.claims import LEASE_SECONDS
from ssn_feat.store.keys import key_of

from .outcome import Outcome, unforeseen
from .skewed import rows_of

_VIDEOS = 20
_WORKERS = 3
_SCRIPT = Path(__file__).with_name("skewed.py")


def rounds(generator: np.random.Generator, folder: Path) -> Iterator[Outcome]:
    """Three workers with wrong clocks: every video is committed, by one of them only, and no work is done twice.

    Work that is done twice all the same is told by :meth:`FeatureStore.write`. One claim is that of a machine that was
    switched off longer than a lease ago, one that of a machine that renewed it a minute ago.
    """
    while True:
        hours = [0.0, *generator.uniform(-12, 12, size=_WORKERS - 1)]
        seeds = generator.integers(1 << 30, size=_WORKERS)
        what = f"clocks off by {', '.join(f'{skew:+.1f}' for skew in hours)} hours"
        try:
            failing = _round(folder / "s.zarr", hours, [int(seed) for seed in seeds])
        except Exception as error:
            failing = unforeseen(error)
        for path in folder.iterdir():
            shutil.rmtree(path)
        yield Outcome(what, failing)


def _round(path: Path, hours: list[float], seeds: list[int]) -> str:
    store = create_store(path, {"clock": "any"})
    _claim(store, "v0", age=LEASE_SECONDS + 60)
    _claim(store, "v1", age=60)
    told = _work(path, hours, seeds)
    counts = {what: Counter(video_id for one in told for video_id in one[what]) for what in told[0]}
    wanted = {f"v{number}" for number in range(_VIDEOS)} - {"v1"}
    if counts["committed"]["v1"]:
        return "the video of a living machine was taken from it"
    if counts["committed"].keys() != wanted:
        lost = sorted(wanted ^ counts["committed"].keys())
        return f"not committed, though nobody was at work on them: {', '.join(lost)}"
    if max(counts["committed"].values()) > 1:
        return f"committed twice: {counts['committed'].most_common(1)}"
    if counts["in vain"]:
        return f"worked on twice, which was told: {', '.join(counts['in vain'])}"
    return _sound(store, wanted)


def _claim(store: FeatureStore, video_id: str, age: float) -> None:
    """A claim by a machine that is not here, renewed ``age`` seconds ago."""
    claims = store.path.with_name(store.path.name + ".staging") / "claims"
    claims.mkdir(parents=True, exist_ok=True)
    claim = claims / key_of(video_id)
    claim.write_text(json.dumps({"id": video_id, "owner": "another~17~4711", "token": "0"}))
    os.utime(claim, (time.time() - age, time.time() - age))


def _work(path: Path, hours: list[float], seeds: list[int]) -> list[dict[str, list[str]]]:
    """What each worker tells, all of which begin at once."""
    workers = [
        subprocess.Popen(
            [sys.executable, _SCRIPT, path, f"host-{at}", str(3600 * skew), str(seed), str(_VIDEOS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for at, (skew, seed) in enumerate(zip(hours, seeds, strict=True))
    ]  # fmt: skip
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.readline()
    told = []
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        said, errors = worker.communicate(timeout=120)
        if worker.returncode:
            raise RuntimeError(f"a worker ended with code {worker.returncode}: {errors[-200:]}")
        told.append(json.loads(said))
    return told


def _sound(store: FeatureStore, wanted: set[str]) -> str:
    damage = verify(store).damage
    if damage:
        return f"damaged: {damage}"
    for video_id in wanted:
        if not np.array_equal(store.read(video_id).features["rgb"], rows_of(int(video_id[1:]))):
            return f"other features of {video_id}"
    return ""
