"""Ids of annotations and of files correspond by one rule, or only where they are equal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_feat.annotations import Dataset, Instance, Video
from ssn_feat.annotations.matching import annotated_ids, match_dataset, match_ids

NFC, NFD = "café", unicodedata.normalize("NFD", "café")


@pytest.mark.parametrize(
    ("annotated", "others", "way"),
    [
        (["a", "b"], ["b", "a", "c"], ""),
        (["a.mp4", "b.MKV", "c.mp4"], ["a", "b"], "without their ending"),
        (["videos/a", "x/b"], ["a", "b"], "without their folder"),
        (["C:\\videos\\a.avi"], ["a"], "without their first 2 folders and their ending"),
        (["/data/x/a", "/data/y/a"], ["x/a", "y/a"], "without their first 2 folders"),
        (["v_a", "v_b"], ["a", "b"], "without their prefix v_"),
        (["a", "b"], ["v_a", "v_b"], "with the prefix v_"),
        ([" a", "b\t"], ["a", "b"], "without blanks around them"),
        ([NFC], [NFD], "as another Unicode form of the same text"),
        ([NFD], [NFC], "as another Unicode form of the same text"),
        ([f"day/v_{NFD}.mp4 "], [NFC], "without their folder and their ending and their prefix v_, without blanks"),
        (["a", "b.mp4"], ["a", "b"], "without their ending"),
        (["a.mp4"], ["a.mp4", "a"], ""),
        (["a", "b"], ["a.mp4", "b.mp4"], "without their ending"),
        (["a", "b"], ["a ", "b"], "without blanks around them"),
        (["a", "v_b"], ["day/a.mp4", "day/b.mp4"], "without their folder and their ending, with"),
        (["clip.1", "clip.2"], ["clip"], ""),
    ],
)
def test_one_way_that_fits(annotated: list[str], others: list[str], way: str) -> None:
    match = match_ids(annotated, others)
    assert match.way.startswith(way)
    assert bool(match.way) == bool(way)
    assert len(match.ids) == (min(len(annotated), len(others)) if way else len(set(annotated) & set(others)))
    assert set(match.ids.values()) <= set(others)


@pytest.mark.parametrize(
    ("annotated", "others", "problem"),
    [
        (["train/1", "val/1"], ["1"], "not matched without their folder: 'train/1' and 'val/1' would be the same"),
        (["x/y/a"], ["a", "y/a"], "in several ways: without their folder; or without their first 2 folders"),
        (["v_a.mp4"], ["a", "v_a"], "in several ways"),
        ([NFC], [NFD, f"v_{NFC}"], "in several ways"),
    ],
)
def test_no_way_is_guessed(annotated: list[str], others: list[str], problem: str) -> None:
    match = match_ids(annotated, others)
    assert (match.ids, match.way) == ({}, "")
    assert problem in match.problem
    # Ids that are equal are still matched.
    assert match_ids([*annotated, "z"], [*others, "z"]).ids == {"z": "z"}


TEXT = st.text(st.sampled_from("ab/v_ .mp4é\u0301"), min_size=1, max_size=8)


@given(st.lists(TEXT, unique=True), st.lists(TEXT, unique=True))
def test_a_match_is_one_to_one_and_keeps_equal_ids(annotated: list[str], others: list[str]) -> None:
    match = match_ids(annotated, others)
    assert len(set(match.ids.values())) == len(match.ids)
    assert match.ids.keys() <= set(annotated)
    assert set(match.ids.values()) <= set(others)
    for name in set(annotated) & set(others):
        assert match.ids[name] == name
    assert bool(match.way) == any(one != other for one, other in match.ids.items())


def test_data_set_gets_the_other_ids_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    videos = [Video(name, 9.0, "training", (Instance("run", 0.0, 1.0),)) for name in ("x/a.mp4", "x/lost.mp4")]
    dataset = Dataset.of("toy", videos)
    object.__setattr__(dataset, "source", "toy.csv")
    matched = match_dataset(dataset, ["a", "b"], "the store s.zarr")
    assert {name: video.id for name, video in matched.videos.items()} == {"a": "a", "x/lost.mp4": "x/lost.mp4"}
    assert (matched.videos["a"].instances, matched.labels, matched.source) == (videos[0].instances, ("run",), "toy.csv")
    assert capsys.readouterr().err == (
        "note: ids of the annotations match those of the store s.zarr without their folder and their ending: "
        "'x/a.mp4' is 'a' (1 video)\n"
    )
    assert annotated_ids(dataset, ["b", "a"], "the file", quiet=True) == ("b", "x/a.mp4")
    assert match_dataset(dataset, ["x/a.mp4"], "the store") is dataset
    assert not capsys.readouterr().err
