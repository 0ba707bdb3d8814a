"""Detections and their files: what goes in comes out, and what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_feat.annotations import Dataset, Instance, Video
from ssn_feat.errors import UserError
from ssn_feat.results.detections import Detections

LABELS = ("jump", "run")


def some() -> Detections:
    return Detections.of(
        LABELS,
        {
            "a": ([[0.0, 1.5], [2.0, 3.0], [2.0, 2.0]], [1, 0, 0], [0.9, 0.1, 0.5]),
            "empty": (np.zeros((0, 2)), [], []),
            "b": ([[1 / 3, 7.7]], [1], [2.5]),
        },
    )


def file_of(path: Path, row: Any) -> Path:
    good = {"label": "run", "score": 0.5, "segment": [0, 1]}
    path.write_text(json.dumps({"results": {"a": [good], "b": [good, row]}}))
    return path


def test_file_has_the_form_of_activitynet(tmp_path: Path) -> None:
    some().write(tmp_path / "d.json", external="scores of another network")
    content = json.loads((tmp_path / "d.json").read_text())
    assert set(content) == {"version", "results", "external_data"}
    assert content["external_data"] == {"used": True, "details": "scores of another network"}
    assert content["results"]["a"][0] == {"label": "run", "score": 0.9, "segment": [0.0, 1.5]}
    assert content["results"]["empty"] == []


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e3), st.integers(0, 1), st.floats(-1e9, 1e9)), max_size=5),
        max_size=4,
    )
)
def test_reading_gives_back_every_bit(tmp_path_factory: pytest.TempPathFactory, videos: dict) -> None:
    path = tmp_path_factory.mktemp("d") / "d.json"
    made = Detections.of(
        LABELS,
        {
            video: ([(s, s + d) for s, d, _, _ in rows], [c for *_, c, _ in rows], [score for *_, score in rows])
            for video, rows in videos.items()
        },
    )
    made.write(path)
    read = Detections.read(path, LABELS)
    assert read.ids == made.ids
    for name in ("offsets", "intervals", "classes", "scores"):
        np.testing.assert_array_equal(getattr(read, name), getattr(made, name))


def test_labels_of_a_file_alone_are_those_that_occur(tmp_path: Path) -> None:
    some().write(tmp_path / "d.json")
    assert Detections.read(tmp_path / "d.json").labels == LABELS
    content = {"results": {"x": [{"label": "zebra", "score": 1, "segment": [0, 1]}]}}
    (tmp_path / "e.json").write_text(json.dumps(content))
    assert Detections.read(tmp_path / "e.json").labels == ("zebra",)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"label": "run", "score": float("nan"), "segment": [0, 1]}, "score nan"),
        ({"label": "run", "score": float("inf"), "segment": [0, 1]}, "score inf"),
        ({"label": "run", "score": None, "segment": [0, 1]}, "score nan"),
        ({"label": "run", "score": "high", "segment": [0, 1]}, "score 'high'"),
        ({"label": "run", "score": [1.0], "segment": [0, 1]}, r"score \[1.0\]"),
        ({"label": "run", "score": 1, "segment": [3, 1]}, r"ends before it starts: segment \[3.0, 1.0\]"),
        ({"label": "run", "score": 1, "segment": [3]}, r"segment \[3\]"),
        ({"label": "run", "score": 1, "segment": [0, float("nan")]}, "segment"),
        ({"label": "run", "score": 1}, "no segment"),
        ({"label": "fly", "score": 1, "segment": [0, 1]}, "unknown class 'fly'"),
        ({"label": 3, "score": 1, "segment": [0, 1]}, "label 3"),
        ({"label": ["run"], "score": 1, "segment": [0, 1]}, "label"),
        ("run", "'run'"),
    ],
)
def test_a_bad_row_is_named_with_file_video_and_place(tmp_path: Path, row: Any, said: str) -> None:
    path = file_of(tmp_path / "bad.json", row)
    with pytest.raises(UserError, match=rf"bad.json: video 'b', detection 1 .*{said}"):
        Detections.read(path, LABELS)


@pytest.mark.parametrize("content", ["[1, 2]", '{"results": []}', '{"results": {"a": {}}}', "{}", "not json", '"x"'])
def test_a_file_of_another_form_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "d.json").write_text(content)
    with pytest.raises(UserError, match=r"d\.json"):
        Detections.read(tmp_path / "d.json")


def test_what_numpy_would_take_is_refused_too(tmp_path: Path) -> None:
    for row, said in (({"score": [0.5]}, r"score \[0\.5\]"), ({"label": 3}, "label 3")):
        path = file_of(tmp_path / "bad.json", {"label": "run", "score": 1, "segment": [0, 1]} | row)
        content = json.loads(path.read_text())
        path.write_text(json.dumps({"results": {"b": [content["results"]["b"][1]] * 2}}))
        with pytest.raises(UserError, match=rf"video 'b', detection 0 .*{said}"):
            Detections.read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read the detections .*nothing.json"):
        Detections.read(tmp_path / "nothing.json")


def test_matching_a_data_set_maps_classes_and_keeps_all_its_videos() -> None:
    videos = [Video(i, 10.0, "testing", (Instance("run", 0, 1),)) for i in ("b", "c", "a")]
    dataset = Dataset.of("toy", [*videos, Video("empty", 5.0, "testing")], ("hop", "jump", "run"))
    matched = some().matched(dataset)
    assert matched.ids == ("b", "c", "a", "empty")
    assert matched.counts.tolist() == [1, 0, 3, 0]
    assert matched["a"].classes.tolist() == [2, 1, 1]
    np.testing.assert_array_equal(matched["b"].intervals, some()["b"].intervals)


def test_matching_refuses_or_drops_unknown_videos_and_refuses_unknown_classes() -> None:
    dataset = Dataset.of("toy", [Video("a", 10.0, "testing")], LABELS)
    with pytest.raises(UserError, match="2 of 3 videos are not in data set 'toy': 'empty', 'b'"):
        some().matched(dataset)
    assert some().matched(dataset, unknown="drop").ids == ("a",)
    with pytest.raises(UserError, match="unknown class 'run'"):
        some().matched(Dataset.of("toy", [Video("a", 1.0, "testing")], ("jump",)), unknown="drop")


def test_nothing_detected_anywhere_matches() -> None:
    dataset = Dataset.of("toy", [Video("a", 10.0, "testing")], LABELS)
    assert Detections.of(LABELS, {}).matched(dataset).counts.tolist() == [0]


def test_top_keeps_the_best_of_each_video_first() -> None:
    top = some().top(2)
    assert top["a"].scores.tolist() == [0.9, 0.5]
    assert top["a"].classes.tolist() == [1, 0]
    assert top.counts.tolist() == [2, 0, 1]


def test_only_reorders_and_ignores_strangers() -> None:
    chosen = some().only(["b", "nobody", "a"])
    assert chosen.ids == ("b", "a")
    np.testing.assert_array_equal(chosen["a"].scores, some()["a"].scores)


def test_an_unknown_video_is_named() -> None:
    with pytest.raises(UserError, match="no video 'z'"):
        some()["z"]


def test_a_class_beyond_the_labels_is_refused() -> None:
    with pytest.raises(UserError, match="video 'a', detection 0 has class 2, but there are 2 labels"):
        Detections.of(LABELS, {"a": ([[0, 1]], [2], [1.0])})


def test_ids_of_files_whose_names_are_not_utf_8_come_back(tmp_path: Path) -> None:
    made = Detections.of(("jump",), {video: ([[0, 1]], [0], [0.5]) for video in ("caf\udce9", "a\U0001f3ac")})
    made.write(tmp_path / "d.json")
    assert Detections.read(tmp_path / "d.json").ids == made.ids
