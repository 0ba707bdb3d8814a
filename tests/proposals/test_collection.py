"""The type that holds proposals and its file."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from version_0_1 import V0_1, expected, sha256

from ssn_feat.errors import UserError
from ssn_feat.proposals import Proposals


def example(**changes) -> Proposals:
    values = {
        "intervals": {"a/b": [(0.0, 2.0), (1.0, 4.0), (3.0, 3.0)], "empty": []},
        "scores": {"a/b": [0.1, 0.7, 0.7], "empty": []},
        "method": "tag",
        "parameters": {"nms": 0.9, "thresholds": [0.1, 0.2]},
        "actionness": {"a/b": np.array([0.25, 0.5], np.float32)},
        "spans": {"a/b": np.array([(0.0, 2.0), (2.0, 4.0)])},
        "score": "contrast",
    }
    return Proposals(**(values | changes))


def same(a: Proposals, b: Proposals) -> bool:
    def equal(x, y) -> bool:
        if x is None or y is None:
            return x is y
        return list(x) == list(y) and all(np.array_equal(x[k], y[k]) and x[k].dtype == y[k].dtype for k in x)

    arrays = all(equal(getattr(a, f), getattr(b, f)) for f in ("intervals", "scores", "actionness", "spans"))
    return arrays and (a.method, a.parameters, a.score) == (b.method, b.parameters, b.score)


@pytest.mark.parametrize("changes", [{}, {"actionness": None, "spans": None}, {"intervals": {}, "scores": {}}])
def test_what_is_saved_is_loaded(tmp_path: Path, changes: dict) -> None:
    proposals = example(**changes)
    path = tmp_path / "folder" / "proposals.npz"
    proposals.save(path)
    assert same(proposals, Proposals.load(path))
    assert [p.name for p in path.parent.iterdir()] == ["proposals.npz"]  # nothing partial stays


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 3), max_size=4))
def test_any_text_is_an_id(tmp_path: Path, lengths: dict[str, int]) -> None:
    proposals = Proposals(
        {id: np.tile([[1.0, 2.0]], (n, 1)) for id, n in lengths.items()},
        {id: np.arange(n) for id, n in lengths.items()},
        "test",
    )
    proposals.save(tmp_path / "p.npz")
    assert same(proposals, Proposals.load(tmp_path / "p.npz"))


def test_top_and_only() -> None:
    best = example().top(2)
    assert best.intervals["a/b"].tolist() == [[1, 4], [3, 3]]
    assert best.scores["a/b"].tolist() == [0.7, 0.7]
    assert example().only(["empty", "unknown"]).ids == ("empty",)
    assert len(example()) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": {"a/b": [0.1, 0.7, 0.7]}}, "'empty'"),
        ({"scores": {"a/b": [0.1], "empty": []}}, r"'a/b' has 3 proposals and scores \(1,\)"),
        ({"scores": {"a/b": [0.1, np.nan, 1], "empty": []}}, "score of proposal 1 is not a number"),
        ({"intervals": {"a/b": [(2, 1)] * 3, "empty": []}}, "proposals of 'a/b': row 0"),
        ({"spans": None}, "vice versa"),
        ({"spans": {"a/b": np.zeros((3, 2))}}, r"actionness is \(2,\), but spans are \(3, 2\)"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        example(**changes)


def write_raw(path: Path, header: dict | None = None, **arrays) -> None:
    example().save(path)
    with np.load(path) as archive:
        content = dict(archive)
    content |= arrays
    if header is not None:
        content["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(path, **content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"header": {"format": "other"}}, "no 'version'"),
        ({"header": {"format": "other", "version": 1}}, "'other' version 1"),
        ({"offsets": np.array([0, 3])}, "offsets does not split"),
        ({"offsets": np.array([0, 5, 3])}, "offsets does not split"),
        ({"scores": np.zeros(2)}, "scores should be 3 rows"),
        ({"intervals": np.array([["a", "b"]] * 3)}, "intervals should be 3 rows of numbers"),
        ({"intervals": np.array([(0.0, 1.0), (0.0, np.nan), (0.0, 1.0)])}, "row 1"),
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "p.npz"
    write_raw(path, **change)
    with pytest.raises(UserError, match=message) as error:
        Proposals.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_no_file_no_archive_and_no_pickle(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    with pytest.raises(UserError, match="No such file"):
        Proposals.load(path)
    for content in (b"", b"PK\x03\x04 cut short", b"\x80\x04K\x01."):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"p\.npz"):
            Proposals.load(path)
    np.savez(path, header=np.array([{"pickled": 1}], dtype=object))
    with pytest.raises(UserError, match="pickle"):
        Proposals.load(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.integers(0, 2000), st.integers(0, 255))
def test_a_damaged_byte_gives_the_same_proposals_or_an_error(tmp_path: Path, at: int, value: int) -> None:
    path = tmp_path / "p.npz"
    example().save(path)
    content = bytearray(path.read_bytes())
    content[at % len(content)] = value
    path.write_bytes(content[: at + 1] if value == 0 else content)
    with contextlib.suppress(UserError):
        Proposals.load(path)


def test_a_file_of_version_0_1_is_read_bit_for_bit() -> None:
    proposals, known = Proposals.load(V0_1 / "proposals.npz"), expected()["proposals.npz"]
    assert (proposals.method, proposals.score) == (known["method"], known["score"])
    assert proposals.parameters == known["parameters"]
    assert list(proposals.ids) == list(known["videos"])
    for video, content in known["videos"].items():
        assert len(proposals.intervals[video]) == content["number"]
        assert sha256(proposals.intervals[video]) == content["intervals_sha256"]
        assert sha256(proposals.scores[video]) == content["scores_sha256"]
        assert proposals.actionness is not None
        assert sha256(proposals.actionness[video]) == content["actionness_sha256"]
        assert proposals.intervals[video][0].tolist() == content["best"]["interval"]
