"""The hint where a name is missing that is there, written otherwise."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_feat.annotations.dataset import Dataset, Instance, Video
from ssn_feat.annotations.similar import similar_name
from ssn_feat.errors import UserError
from ssn_feat.results.detections import Detections
from ssn_feat.sampling.feature_table import intersect_ids
from ssn_feat.store import create_store

NFC, NFD = "café", unicodedata.normalize("NFD", "café")


@pytest.mark.parametrize(
    ("name", "other", "difference"),
    [
        (NFC, NFD, "Unicode form"),
        ("high jump", "highjump", "blanks"),
        ("x", "x ", "blanks"),
        ("Jump", "jump", "case"),
        ("day/a", "a", "folder"),
        ("a.MP4", "a", "ending"),
        ("v_a", "a", "prefix"),
        (f"V/{NFC}.mp4", f"V/{NFD.upper()}", "Unicode form and case and ending"),
    ],
)
def test_the_difference_is_named(name: str, other: str, difference: str) -> None:
    for one, two in ((name, other), (other, name)):
        hint = similar_name(["lost", one], [two, "z"], "the store")
        assert hint.startswith(f" (the store has {two!r}, which differs from {one!r} by ")
        assert set(hint.rpartition(" by ")[2].rstrip(")").split(" and ")) == set(difference.split(" and "))


@given(st.text(max_size=5), st.lists(st.text(max_size=5), max_size=5))
def test_a_hint_names_a_known_name(name: str, known: list[str]) -> None:
    hint = similar_name([name], known, "it")
    assert not hint or any(repr(other) in hint for other in known if other != name)
    assert similar_name([], known, "it") == ""


def test_lookups_that_fail_give_the_hint(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"the store lacks 1 of 2 .* \(the store has 'b ', which differs .* by blanks\)"
    ):
        intersect_ids(["a", "b"], ["a", "b "], "refuse", "the store")
    store = create_store(tmp_path / "s.zarr", {"streams": ["rgb"]}, "toy")
    store.write("Tape1", {"rgb": np.ones((1, 2))}, [[0.0, 1.0]])
    with pytest.raises(UserError, match=r"has no video 'tape1' \(it has 'Tape1', which differs from 'tape1' by case\)"):
        store.read("tape1")
    detections = Detections.of(["jump", NFD], {"a": ([[0, 1]], [1], [1.0])})
    video = Video("a", 9.0, "testing", (Instance(NFC, 0.0, 1.0),))
    with pytest.raises(UserError, match=r"unknown class .* by Unicode form"):
        detections.relabelled((NFC, "jump"))
    dataset = Dataset.of("toy", [replace(video, id="A", instances=(Instance(NFD, 0.0, 1.0), Instance("jump", 1, 2)))])
    with pytest.raises(UserError, match=r"1 of 1 videos are not in .* by case"):
        detections.matched(dataset)
