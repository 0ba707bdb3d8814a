"""A repeated key in JSON of others is an error that names it, and so is text that no file can hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_feat.annotations import read_annotations, read_multithumos
from ssn_feat.detection.classifier import read_class_scores
from ssn_feat.errors import UserError
from ssn_feat.foreign_json import RepeatedKey, parse_json
from ssn_feat.proposals import Proposals
from ssn_feat.proposals.foreign import read_proposal_json
from ssn_feat.results.detections import Detections

ENTRY = '{"duration": 9, "subset": "training", "annotations": []}'
ROW = '{"label": "run", "score": 1, "segment": [0, 1]}'
TWICE: list[tuple[Callable[[Path], Any], str, str]] = [
    (read_annotations, f'{{"database": {{"a": {ENTRY}}}, "database": {{"b": {ENTRY}}}}}', "database"),
    (read_annotations, f'{{"database": {{"a": {ENTRY}, "a": {ENTRY}}}}}', "video 'a'"),
    (read_annotations, f'{{"a": {ENTRY}, "a": {ENTRY}}}', "video 'a'"),
    (read_annotations, '{"database": {"a": {"duration": 9, "annotations": [], "annotations": []}}}', "annotations"),
    (
        read_annotations,
        '{"database": {"a": {"duration": 9, "annotations": [{"label": "x", "segment": [0, 1], "label": "y"}]}}}',
        "label",
    ),
    (read_multithumos, '{"a": {"duration": 9, "actions": []}, "a": {"duration": 9, "actions": []}}', "a"),
    (read_multithumos, '{"a": {"duration": 9, "actions": [], "actions": []}}', "actions"),
    (Detections.read, f'{{"results": {{"a": [{ROW}], "a": [{ROW}]}}}}', "'a'"),
    (Detections.read, f'{{"results": {{"a": [{ROW}]}}, "results": {{}}}}', "'results'"),
    (read_proposal_json, f'{{"results": {{"a": [{ROW}], "a": [{ROW}]}}}}', "'a'"),
    (lambda path: read_class_scores(path, ("run",)), '{"a": [1.0], "a": [2.0]}', "'a'"),
    (lambda path: read_annotations(f"ssn-list:none.txt@{path}"), '{"a": 1.0, "a": 2.0}', "'a'"),
]


@pytest.mark.parametrize(("read", "text", "key"), TWICE)
def test_a_repeated_key_is_one_error_that_names_it(
    read: Callable[[Path], Any], text: str, key: str, tmp_path: Path
) -> None:
    path = tmp_path / "twice.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"twice\.json") as caught:
        read(path)
    assert key in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("of_video", [True, False])
def test_halves_of_surrogate_pairs_are_refused_by_every_reader(of_video: bool, tmp_path: Path) -> None:
    video, label = ("a\ud800", "run") if of_video else ("a", "run\ud800")
    row = {"label": label, "score": 1, "segment": [0, 1]}
    (tmp_path / "d.json").write_text(json.dumps({"results": {video: [row]}}))
    entry = {"duration": 9, "subset": "training", "annotations": [row]}
    (tmp_path / "a.json").write_text(json.dumps({"database": {video: entry}}))
    readers: list[Any] = [(Detections.read, "d"), (read_annotations, "a")]
    for read, name in [*readers, *([(read_proposal_json, "d")] if of_video else [])]:
        with pytest.raises(UserError, match=r"ud800' holds half of a surrogate pair") as caught:
            read(tmp_path / f"{name}.json")
        assert f"{name}.json" in str(caught.value)


def test_proposals_with_ids_that_are_not_text_are_refused() -> None:
    with pytest.raises(UserError, match="surrogate"):
        Proposals({"\ud800": np.zeros((0, 2))}, {"\ud800": np.zeros(0)}, "none")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(VALUES)
def test_other_json_is_read_as_it_is(value: Any) -> None:
    assert parse_json(json.dumps(value), "f.json") == value
    assert parse_json(json.dumps(value).encode(), "f.json") == value


def test_repeated_keys_can_be_marked() -> None:
    value = parse_json('{"a": {"b": 1, "c": 2, "b": 3}}', "f.json", refuse_repeated=False)
    assert isinstance(value["a"], RepeatedKey)
    assert (value["a"].key, value["a"]["b"]) == ("b", 3)
