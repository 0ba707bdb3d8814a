"""A run is usable with every store whose fingerprints of the streams that it reads are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training.synthetic_store import quick, write

from ssn_feat.detection.detect_store import DetectOptions, detect
from ssn_feat.detection.model_folder import _recipe_of
from ssn_feat.errors import UserError
from ssn_feat.runs.checkpoints import load_run
from ssn_feat.store import FeatureStore, create_store, open_or_create_store, open_store
from ssn_feat.training.fit import fit

RGB: dict[str, Any] = {"made": "by hand", "streams": {"rgb": {"net": "a"}}}
BOTH: dict[str, Any] = {"made": "by hand", "streams": {"rgb": {"net": "a"}, "flow": {"net": "b"}}}


def test_a_head_outlives_a_stream_that_is_added(tmp_path: Path) -> None:
    data = write(tmp_path / "data", videos=9, dim=6)
    rgb = copied(data.store, tmp_path / "rgb.zarr", RGB)
    run, interrupted = tmp_path / "run", tmp_path / "interrupted"
    fit(data.options(run, store=rgb.path, optimisation=quick(epochs=1)))
    fit(data.options(interrupted, store=rgb.path, optimisation=quick(epochs=1)))
    found = tmp_path / "found.json"
    options = DetectOptions(rgb.path, data.proposals, (run,), out=found, annotations=data.annotations, quiet=True)
    detect(options)
    before = found.read_bytes()

    wider = open_or_create_store(rgb.path, BOTH)
    source = open_store(data.store)
    for video in source:
        with wider.claims.hold(video.id) as claim:
            assert claim is not None
            wider.add_streams(video.id, {"flow": video.features["flow"]}, video.spans, claim)
    detect(options)
    assert found.read_bytes() == before
    assert load_run(run).fingerprint != wider.fingerprint
    fit(data.options(interrupted, store=rgb.path, optimisation=quick(epochs=1), resume=True))

    both = tmp_path / "both"
    fit(data.options(both, store=rgb.path, streams=("rgb", "flow"), optimisation=quick(epochs=1)))
    old, new = load_run(run), load_run(both)
    assert new.fingerprints.items() > old.fingerprints.items()
    assert _recipe_of([old, new]) == _recipe_of([new, old]) == wider.recipe
    other = copied(data.store, tmp_path / "c.zarr", {"made": "by hand", "streams": {"rgb": {"net": "c"}}})
    with pytest.raises(UserError, match=r"features of recipe .* of the stream rgb, the store"):
        detect(DetectOptions(other.path, data.proposals, (run,), out=found))


def copied(source: Path, path: Path, recipe: dict[str, Any]) -> FeatureStore:
    """A store of the same rgb features by another recipe."""
    store = create_store(path, recipe, "toy")
    for video in open_store(source):
        store.write(video.id, {"rgb": np.asarray(video.features["rgb"])}, video.spans, {"duration": video.duration})
    return store
