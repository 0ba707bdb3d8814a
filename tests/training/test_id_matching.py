"""Annotations whose ids carry an ending give the same results as those with the ids of the store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_store import Synthetic, write

from ssn_feat.annotations import Dataset, write_activitynet
from ssn_feat.detection.detect_store import DetectOptions, detect
from ssn_feat.evaluation.compare_proposals import CompareOptions, compare
from ssn_feat.evaluation.evaluate import EvaluateOptions, evaluate
from ssn_feat.proposals.propose import ProposeOptions, propose
from ssn_feat.training.fit import fit
from ssn_feat.training.training_data import read_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    return write(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture(scope="module")
def renamed(data: Synthetic) -> str:
    """The annotations of ``data`` with other ids."""
    videos = [replace(video, id=f"{video.id}.MP4") for video in data.dataset.videos.values()]
    path = data.folder / "renamed.json"
    write_activitynet(Dataset.of("toy", videos, data.dataset.labels), path)
    return str(path)


def test_every_step_joins_by_the_same_rule(
    data: Synthetic, renamed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = read_data(data.options(tmp_path / "a"), data.options(tmp_path / "a").proposals)
    options = data.options(tmp_path / "b", annotations=renamed, quiet=False)
    trained = read_data(options, options.proposals)
    assert trained.table.ids == expected.table.ids
    assert trained.dataset.videos == expected.dataset.videos
    assert "without their ending: 'v/00.MP4' is 'v/00' (18 videos)" in capsys.readouterr().err

    fit(data.options(tmp_path / "run", annotations=renamed, eval="testing"))
    windows = ProposeOptions(
        data.store, tmp_path / "w.npz", method="sliding", annotations=renamed, subset="testing", quiet=True
    )
    testing = tuple(data.dataset.subset("testing").videos)
    assert propose(windows).ids == testing

    files = {}
    for name, spec in (("plain", data.annotations), ("renamed", renamed)):
        files[name] = tmp_path / f"{name}.json"
        detect(
            DetectOptions(
                data.store,
                data.proposals,
                (tmp_path / "run",),
                out=files[name],
                annotations=spec,
                subset="testing",
                quiet=True,
            )
        )
    assert files["plain"].read_text() == files["renamed"].read_text()

    measured = [
        evaluate(EvaluateOptions((files["plain"],), annotations=spec, subset="testing", bootstrap=0, quiet=True))
        for spec in (data.annotations, renamed)
    ]
    assert measured[0][0].average == measured[1][0].average > 0.5

    curves = [
        compare(CompareOptions((data.proposals,), annotations=spec, store=store, subset="testing"))[0][0].curve
        for spec, store in ((data.annotations, None), (renamed, None), (renamed, data.store))
    ]
    for curve in curves[1:]:
        np.testing.assert_array_equal(curve.average, curves[0].average)
