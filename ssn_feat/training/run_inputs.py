"""Digests of the data that a run learns from: a run is resumed with the same data only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssn_feat.annotations import Dataset
from ssn_feat.errors import UserError
from ssn_feat.proposals import Proposals
from ssn_feat.store import FeatureStore

_NAMED = 5
_TIME = "time"


def annotations_input(dataset: Dataset, labels: Sequence[str], source: str) -> dict[str, Any]:
    """The file of annotations and the digest of ``labels``, videos and instances."""
    videos = [
        [video.id, video.duration, [[i.label, i.start, i.end] for i in video.instances]]
        for video in sorted(dataset.videos.values(), key=lambda video: video.id)
    ]
    content = json.dumps([list(labels), videos])
    return {"file": source, "sha256": hashlib.sha256(content.encode()).hexdigest()}


def proposals_input(proposals: Proposals, ids: Collection[str], source: Path | str) -> dict[str, Any]:
    """The file of proposals and the digest of the intervals of the videos ``ids``."""
    total = hashlib.sha256()
    for video in sorted(ids):
        intervals = np.ascontiguousarray(proposals.intervals[video], dtype="<f8")
        total.update(json.dumps([video, len(intervals)]).encode() + intervals.tobytes())
    return {"file": str(source), "sha256": total.hexdigest()}


def features_input(store: FeatureStore, ids: Sequence[str], streams: Sequence[str]) -> dict[str, Any]:
    """The store and, for each video, the digest of the hashes that the store records for ``streams`` and the times."""

    def digest(video: str) -> str:
        arrays = store.attributes(video)["arrays"]
        hashes = [str(arrays[name].get("sha256")) for name in (*streams, _TIME) if name in arrays]
        return hashlib.sha256(" ".join(hashes).encode()).hexdigest()[:32]

    return {"store": str(store.path), "videos": dict(zip(ids, store.map(digest, ids), strict=True))}


def require_same_inputs(out: Path, recorded: Mapping[str, Any] | None, inputs: Mapping[str, Any]) -> None:
    """Raise UserError, naming what changed, unless ``inputs`` are those ``recorded`` when the run in ``out`` began.

    What an earlier version did not record is not compared.
    """
    changed = []
    before = recorded or {}
    for name in ("annotations", "proposals"):
        held, given = before.get(name), inputs.get(name)
        if held and given and held["sha256"] != given["sha256"]:
            changed.append(f"the {name} {given['file']}")
    if "features" in before and "features" in inputs:
        held, given = before["features"]["videos"], inputs["features"]["videos"]
        videos = sorted(video for video in held.keys() | given.keys() if held.get(video) != given.get(video))
        if videos:
            named = ", ".join(videos[:_NAMED]) + (", ..." if len(videos) > _NAMED else "")
            number = f"{len(videos)} video{'s' * (len(videos) > 1)}"
            changed.append(f"the features of {number} in {inputs['features']['store']} ({named})")
    if changed:
        raise UserError(
            f"cannot resume {out}: since it began, {' and '.join(changed)} changed; restore the earlier data, or train "
            "a new run with another --out"
        )


__all__ = ["annotations_input", "features_input", "proposals_input", "require_same_inputs"]
