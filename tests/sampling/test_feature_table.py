"""The table of all rows: what it holds, standardisation, and what is said of videos that are not there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic_store import quick, write

from ssn_feat.errors import UserError
from ssn_feat.heads.features import Standardisation, join_streams
from ssn_feat.runs.checkpoints import load_run
from ssn_feat.sampling import feature_memory as memory
from ssn_feat.sampling.feature_table import FeatureTable, intersect_ids
from ssn_feat.store import create_store, open_store
from ssn_feat.training.fit import fit
from ssn_feat.training.fit_options import FitOptions
from ssn_feat.training.ssn_task import extra_bytes
from ssn_feat.training.training_data import features_folder


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return open_store(write(tmp_path_factory.mktemp("store"), videos=6, dim=5).store)


def test_rows_are_those_of_the_store_streams_side_by_side(store):
    ids, seen = ("v/03", "v/00"), []
    table = FeatureTable.load(store, ids, ("flow", "rgb"), lambda: seen.append(1))
    assert (table.ids, table.rows.dtype, table.feature_dim, len(seen)) == (ids, torch.float16, 10, 2)
    for v, name in enumerate(ids):
        stored, rows = store.read(name), table.rows_of(v)
        np.testing.assert_array_equal(table.rows[rows, :5], stored.features["flow"])
        np.testing.assert_array_equal(table.rows[rows, 5:], stored.features["rgb"])
        np.testing.assert_array_equal(table.spans[rows], stored.spans)
        assert table.durations[v] == stored.duration
    assert table.offsets[-1] == len(table.rows)


def test_without_values_all_else_is_there(store):
    whole, bare = (FeatureTable.load(store, store.ids, ("rgb",), values=values) for values in (True, False))
    assert bare.rows.shape == (len(whole.rows), 0)
    for name in ("offsets", "spans", "durations"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(bare, name))


def test_rows_in_a_mapped_file_are_the_same_and_leave_nothing_behind(store, tmp_path):
    folder = tmp_path / "run"
    plain, mapped = (FeatureTable.load(store, store.ids, ("rgb",), folder=place) for place in (None, folder))
    assert torch.equal(plain.rows, mapped.rows)
    assert list(folder.iterdir()) == []
    standardisation = Standardisation.of(plain.rows)
    assert torch.equal(plain.standardised(standardisation).rows, mapped.standardised(standardisation).rows)


def test_runs_on_mapped_features_equal_runs_in_memory(tmp_path):
    data = write(tmp_path / "data")
    for place in ("memory", "mapped"):
        fit(data.options(tmp_path / place, features=place, optimisation=quick(epochs=2)))
    one, other = (load_run(tmp_path / place).head.state_dict() for place in ("memory", "mapped"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_features_go_to_a_file_where_memory_is_short(store, tmp_path, monkeypatch):
    options = FitOptions(tmp_path, "", tmp_path / "out")
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    assert features_folder(options, store, store.ids) is None
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    assert features_folder(options, store, store.ids) == tmp_path / "out"
    assert features_folder(replace(options, features="memory"), store, store.ids) is None
    wide = create_store(tmp_path / "wide.zarr", {"dtype": "float32", "streams": {"rgb": {}}})
    wide.write("v", {"rgb": np.ones((5, 3))}, [[t, t + 1] for t in range(5)])
    sizes: list[int] = []
    monkeypatch.setattr("ssn_feat.training.training_data.fits", lambda size: bool(sizes.append(size)))
    for sampling in ("segments", "dense"):
        chosen = replace(options, sampling=sampling, streams=("rgb",))
        features_folder(chosen, wide, wide.ids, extra_bytes(chosen))
    assert sizes == [5 * 3 * 4, 5 * 3 * 8]
    assert features_folder(replace(options, features="mapped"), store, store.ids) == tmp_path / "out"
    with pytest.raises(UserError, match=r"cannot keep \S+ GB of features in"):
        memory.allocate((1 << 40, 1 << 10), torch.float16, tmp_path)


def test_standardised_rows_have_mean_0_and_deviation_1(store):
    table = FeatureTable.load(store, store.ids, ("rgb",))
    raw = table.rows.clone()
    standardisation = Standardisation.of(table.rows)
    rows = table.standardised(standardisation).rows.double()
    np.testing.assert_allclose(rows.mean(dim=0), 0, atol=1e-3)
    np.testing.assert_allclose(rows.std(dim=0, correction=0), 1, atol=1e-3)
    np.testing.assert_allclose(standardisation(raw), rows, atol=2e-3)


def test_a_feature_that_never_varies_is_only_shifted():
    rows = torch.tensor([[3.0, 1.0], [3.0, 2.0]], dtype=torch.float16)
    np.testing.assert_allclose(Standardisation.of(rows)(rows), [[0, -1], [0, 1]], atol=1e-6)


def test_crops_are_averaged():
    crops = np.arange(12, dtype=np.float16).reshape(2, 3, 2)
    np.testing.assert_array_equal(join_streams({"rgb": crops}, ["rgb"]), crops.mean(axis=1))


@pytest.mark.parametrize(
    ("streams", "message"),
    [
        (("pose",), "no stream 'pose'; it has flow, rgb"),
        (("rgb", "rgb"), "each once"),
        ((), "at least one stream"),
    ],
)
def test_streams_that_are_not_there_are_refused(store, streams, message):
    with pytest.raises(UserError, match=message):
        FeatureTable.load(store, store.ids, streams)


def test_missing_videos_are_listed_and_refused_or_skipped(capsys):
    wanted = tuple("abcdefgh")
    with pytest.raises(
        UserError, match=r"the store lacks 6 of 8 training videos: c, d, e, f, g, h; --missing skip trains without"
    ):
        intersect_ids(wanted, "ab", "refuse", "the store")
    assert intersect_ids(wanted, "bza", "skip", "the store") == ("a", "b")
    said = capsys.readouterr().err
    assert said == "note: the store lacks 6 of 8 training videos, which are skipped: c, d, e, f, g, h\n"
    assert intersect_ids(wanted, "bza", "skip", "the store", quiet=True) == ("a", "b")
    assert not capsys.readouterr().err
    many = tuple(f"v{number}" for number in range(99))
    with pytest.raises(UserError, match=r"lacks 99 of 99 training videos: v0, .*, v19, \.\.\.$"):
        intersect_ids(many, "xyz", "skip", "the store")
