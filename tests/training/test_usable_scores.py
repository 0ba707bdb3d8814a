"""Features of any scale: what is trained can be detected with, or the training says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from synthetic_store import Synthetic, quick, write

from ssn_feat.detection.detect_store import DetectOptions, detect
from ssn_feat.errors import UserError
from ssn_feat.store import create_store, open_store
from ssn_feat.training.fit import fit


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    return write(tmp_path_factory.mktemp("synthetic"))


def scaled(data: Synthetic, folder: Path, factor: float) -> Path:
    store = create_store(folder / "scaled.zarr", {"backbone": "synthetic", "streams": ["rgb"]}, "toy")
    for video in open_store(data.store):
        rows = video.features["rgb"].astype(np.float32) * factor
        store.write(video.id, {"rgb": rows}, video.spans, {"duration": video.duration, "fps": 25.0})
    return folder / "scaled.zarr"


def fitted_and_detected(data: Synthetic, folder: Path, factor: float, standardise: bool) -> None:
    store = scaled(data, folder, factor)
    fit(data.options(folder / "run", store=store, standardise=standardise, optimisation=quick(epochs=6)))
    how = DetectOptions(store, data.proposals, (folder / "run",), out=folder / "d.json", quiet=True)
    try:
        assert len(detect(how).scores)
    except UserError:
        pytest.fail("features that were trained on are refused by detection")


@pytest.mark.parametrize(
    ("factor", "standardise"), [(1.0, True), (30.0, True), (5000.0, True), (0.1, False), (1.0, False), (30.0, False)]
)
def test_what_is_trained_can_be_detected_with(
    data: Synthetic, tmp_path: Path, factor: float, standardise: bool
) -> None:
    fitted_and_detected(data, tmp_path, factor, standardise)


@pytest.mark.parametrize("factor", [500.0, 5000.0])
def test_features_that_are_too_large_are_refused_when_training(data: Synthetic, tmp_path: Path, factor: float) -> None:
    with pytest.raises(UserError, match=r"too large for detection; the features have values up to .*--standardise"):
        fitted_and_detected(data, tmp_path, factor, standardise=False)
