"""A growing and a packed store to be harmed, and what must be true of them then."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssn_feat.errors import UserError
from ssn_feat.store import FeatureStore, create_store, open_store, pack, verify
from ssn_feat.store.claims import LEASE_SECONDS

from .outcome import unforeseen

_RECIPE = {"backbone": {"name": "tiny", "sha256": "0f" * 32}, "streams": {"rgb": 6, "flow": 6}, "stride": 4}
_IDS = ("a", "b/c", "v_" + "long" * 60)


@dataclass(frozen=True)
class Specimen:
    """A store in good order, beside what it says."""

    path: Path
    says: dict[str, Any]

    @property
    def claims(self) -> Path:
        return self.path.with_name(self.path.name + ".staging") / "claims"

    def files(self) -> dict[str, list[Path]]:
        """Its files by kind."""
        kinds: dict[str, list[Path]] = {}
        for path in sorted([*self.path.rglob("*"), *self.claims.glob("*")]):
            if path.is_file():
                kinds.setdefault(self._kind(path), []).append(path)
        return kinds

    def _kind(self, path: Path) -> str:
        if path.is_relative_to(self.claims):
            return "claim"
        place = path.relative_to(self.path)
        if path.name != "zarr.json":
            return "index chunk" if place.parts[0] in ("offsets", "index") else "chunk"
        if len(place.parts) == 1:
            return "root"
        if place.parts[0] in ("videos", "failed", "runs"):
            return {2: place.parts[0], 3: f"one of {place.parts[0]}", 4: "array"}[len(place.parts)]
        return "array"

    def verdict(self, readers: bool = True) -> str:
        """What is wrong with how the store, harmed by now, answers; empty where it says the truth or that it is harmed.

        It may be refused, by opening it or by verifying it; where it is not, it must say what it said before. Unless
        not ``readers``, a reader must get what was written or an error, whatever verifying says.
        """
        try:
            store = open_store(self.path)
            damage = verify(store).damage
        except UserError as error:
            damage = {"": (str(error),)}
        except Exception as error:
            return f"verify: {unforeseen(error)}"
        return (self._readers() if readers else "") or ("" if damage else self._differences())

    def _readers(self) -> str:
        for video_id, expected in self.says["videos"].items():
            try:
                found = _video(open_store(self.path), video_id)
            except UserError:
                continue
            except Exception as error:
                return f"read: {unforeseen(error)}"
            if found != expected:
                return f"a reader gets other values of video {video_id[:9]!r}: {_first_difference(expected, found)}"
        return ""

    def _differences(self) -> str:
        """What the store, which passed verification, says otherwise than before."""
        try:
            found = says(self.path)
        except UserError as error:
            return f"verify passes, reading does not: {error}"
        except Exception as error:
            return f"verify passes, then {unforeseen(error)}"
        # A record that is gone is one to be made again; a video that is gone is pending.
        for name in ("failures", "runs"):
            if any(record not in self.says[name] for record in found[name]):
                return (
                    f"verify passes, but {name} say something else: {_first_difference(self.says[name], found[name])}"
                )
        for name in ("name", "recipe", "fingerprint", "tier", "streams", "videos"):
            if name == "videos" and found[name].items() < self.says[name].items():
                continue
            if found[name] != self.says[name]:
                return f"verify passes, but {name} differ: {_first_difference(self.says[name], found[name])}"
        return ""

    def claims_verdict(self) -> str:
        """What is wrong with how harmed claims are taken; empty where each ends, at the latest with its lease."""
        store = open_store(self.path)
        try:
            store.claims.active()
            for path in self.claims.glob("*"):
                old = time.time() - LEASE_SECONDS - 60
                os.utime(path, (old, old))
            with store.claims.hold("claimed") as claim:
                if claim is None:
                    return "a claim that was not renewed is held for ever"
            store.claims.clean()
        except Exception as error:
            return unforeseen(error)
        return ""

    def claim(self) -> None:
        """A claim, as of a process of another machine."""
        self.claims.mkdir(parents=True, exist_ok=True)
        (self.claims / "claimed").write_text(json.dumps({"id": "claimed", "owner": "elsewhere~17~4711"}))


def make(folder: Path) -> list[Specimen]:
    """A growing store with videos, a failure, a run on record and a claim, and one packed from it."""
    generator = np.random.default_rng(0)
    store = create_store(folder / "s.zarr", _RECIPE, "toy")
    for at, video_id in enumerate(_IDS):
        edges = np.linspace(0, 2.5 + at, 9 + at)
        rows = {stream: generator.normal(size=(8 + at, 6)) for stream in ("rgb", "flow")}
        info = {"duration": 2.5 + at, "fps": 25.0, "frames": {"decoded": 63, "declared": 63}, "damage": ""}
        store.write(video_id, rows, np.stack((edges[:-1], edges[1:]), axis=1), info)
    store.record_run({"videos": dict.fromkeys([*_IDS, "bad"], 9.0), "missing": ["w"], "options": {"stride": 4}})
    packed = pack(store, folder / "p.zarr")
    store.record_failure("bad", "no video stream")
    specimens = [Specimen(path, says(path)) for path in (store.path, packed.path)]
    specimens[0].claim()
    return specimens


def says(path: Path) -> dict[str, Any]:
    """Everything that a store tells."""
    store = open_store(path)
    return {
        "name": store.name,
        "recipe": store.recipe,
        "fingerprint": store.fingerprint,
        "tier": store.tier,
        "streams": store.streams,
        "videos": {video_id: _video(store, video_id) for video_id in store.ids},
        "failures": list(store.failures().values()),
        "runs": store.runs(),
    }


def _video(store: FeatureStore, video_id: str) -> dict[str, Any]:
    video = store.read(video_id)
    arrays = {"spans": video.spans, **video.features}
    values = {name: (a.dtype.name, a.shape, np.ascontiguousarray(a).tobytes()) for name, a in arrays.items()}
    return {"id": video.id, "duration": video.duration, "fps": video.fps, "info": video.info, **values}


def _first_difference(before: Any, after: Any, place: str = "") -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            if before.get(key) != after.get(key):
                return _first_difference(before.get(key), after.get(key), f"{place}.{str(key)[:20]}")
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        at = next(at for at, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1])
        return _first_difference(before[at], after[at], f"{place}[{at}]")
    return f"{place} {str(before)[:60]} -> {str(after)[:60]}"


def harmed(specimen: Specimen, harm: Callable[[], Callable[[], object]], claim: bool, readers: bool = True) -> str:
    """The verdict on the specimen while ``harm`` is done; ``harm`` returns what undoes it."""
    undo = harm()
    try:
        return specimen.claims_verdict() if claim else specimen.verdict(readers)
    finally:
        undo()
        if claim:
            specimen.claim()
