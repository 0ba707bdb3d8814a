"""CSV tables and MultiTHUMOS: what is read, round trips, and one clear line for faults whatever the bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_activitynet import datasets, json_values

from ssn_feat import UserError
from ssn_feat.annotations import Dataset, Instance, Video, read_annotations, read_csv, read_multithumos, write_csv
from ssn_feat.annotations.dialects import _READERS


def test_the_plainest_table(tmp_path: Path) -> None:
    path = tmp_path / "plain.csv"
    path.write_bytes(b"\xef\xbb\xbfvideo, start, end, label\r\na,1,2.5,Jump\r\n\r\nb,0,3,Fall\r\na,4,5,Jump\r\n")
    dataset = read_annotations(path)
    assert dataset.name == "plain"
    instances = (Instance("Jump", 1, 2.5), Instance("Jump", 4, 5))
    assert dataset.videos["a"] == Video("a", 5.0, "unnamed", instances)
    assert dataset.videos["a"].duration_assumed
    assert dataset.labels == ("Fall", "Jump")
    (tmp_path / "again").mkdir()
    write_csv(dataset, tmp_path / "again" / "plain.csv")
    assert read_csv(tmp_path / "again" / "plain.csv") == dataset


def test_all_columns_in_any_order_and_videos_without_instances(tmp_path: Path) -> None:
    path = tmp_path / "full.csv"
    path.write_text(
        "label,who,subset,duration,fps,frames,video,end,start\nJump,me,val,9,25,225,a,2,1\n,,test,3,,,b,,\n"
    )
    assert read_csv(path).videos == {
        "a": Video("a", 9, "validation", (Instance("Jump", 1, 2),), 25.0, 225),
        "b": Video("b", 3, "testing"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: the first line must be a header"),
        ("\n\n", "is empty: the first line must be a header"),
        ("a,1,2,Jump\n", r"line 1: the header 'a,1,2,Jump' lacks video, start, end, label"),
        ("video,start,end,label,end\n", r"line 1: the header .* repeats a column"),
        ("video;start;end;label\na;1;2;Jump\n", r"lacks video, start, end, label: columns must be separated by commas"),
        ("video,start,end,label\na,1,2\n", r"line 2: has 3 cells under a header of 4"),
        ("video,start,end,label\na,1,x,J\n", r"line 2: '1,x,J' is not a start and an end"),
        ("video,start,end,label\na,1,inf,J\n", r"line 2: '1,inf,J' is not a start and an end"),
        ("video,start,end,label\na,1,2,\n", r"line 2: '1,2,' is not a start and an end"),
        ("video,start,end,label\na,2,1,J\n", r"line 2: the segment \[2, 1\] ends before it starts"),
        ("video,start,end,label\na,,,\n", r"line 2: video 'a' has no duration"),
        ('video,start,end,label\na,1,2,J\n"a,1,2,J\n', r"line 3: unexpected end of data"),
        ('video,start,end,label\n"a\nb",1,2,J\nc,2,1,J', r"line 4: the segment"),
        ("video,start,end,label,fps\na,1,2,J,-3\n", r"line 2: fps '-3' is not a number of at least 0"),
        (
            "video,start,end,label,duration\na,1,2,J,9\na,1,2,J,8\n",
            r"line 3: contradicts line 2 on video 'a'",
        ),
    ],
)
def test_faults_are_named_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "faulty.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as raised:
        read_annotations(path)
    assert "faulty.csv" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@given(datasets)
def test_what_is_written_reads_back_equal(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> None:
    path = tmp_path_factory.mktemp("round") / "any.csv"
    write_csv(dataset, path)
    used = Dataset.of(path.stem, dataset.videos.values())
    assert read_csv(path) == used


def test_multithumos(shared: Path, tmp_path: Path) -> None:
    path = shared / "data/annotations/other/multithumos.json"
    dataset = read_annotations(f"multithumos:{path}")
    counts = {s: (len(p.videos), sum(len(v.instances) for v in p.videos.values())) for s in dataset.subsets
              for p in [dataset.subset(s)]}  # fmt: skip
    assert counts == {"testing": (213, 20208), "training": (200, 18482)}
    assert len(dataset.labels) == 65
    assert dataset.videos["video_test_0000896"].instances[0] == Instance("012", 18.6, 24.8)
    named = read_multithumos(path, names=[f"class {n}" for n in range(65)])
    assert named.videos["video_test_0000896"].instances[0].label == "class 11"
    with pytest.raises(UserError, match=r"actions\[0\]: 12 is not the number of a class"):
        read_multithumos(path, names=["one", "two"])
    small = tmp_path / "a.json"
    for actions, message in (
        ([[1, 2]], "not .class, start, end."),
        (7, "actions: is not a list"),
        ([[0, 1, 2]], "0 is not"),
    ):
        small.write_text(json.dumps({"v": {"duration": 3, "actions": actions}}))
        with pytest.raises(UserError, match=message):
            read_multithumos(small)
    small.write_text('{"v": {}}')
    with pytest.raises(UserError, match="is not MultiTHUMOS"):
        read_multithumos(small)


def outcome(spec: str) -> str:
    """The message with which ``spec`` is refused; empty where it is read."""
    try:
        read_annotations(spec)
    except UserError as error:
        return str(error)
    return ""


pieces = st.sampled_from(
    ['"', ",", "\n", "\r\n", "\r", "\0", "\ufeff", "a", "1", "2.5", "nan", "-1", "1e999", "Jump", " "]
)


@given(st.lists(pieces, max_size=25).map("".join), st.booleans())
def test_any_table_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, text: str, header: bool
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "any.csv"
    path.write_bytes((("video,start,end,label\n" if header else "") + text).encode())
    message = outcome(str(path))
    assert not message or (str(path) in message and len(message.splitlines()) == 1)


@given(st.binary(max_size=40))
def test_any_bytes_are_refused_in_one_line_by_every_reader(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    for name in ("any.txt", "test_durations.txt", "test_avoid_videos.txt", "Jump_test.txt"):
        (folder / name).write_bytes(content)
    for dialect in _READERS:
        path = folder if dialect.startswith("thumos") else folder / "any.txt"
        assert len(outcome(f"{dialect}:{path}").splitlines()) <= 1


@given(json_values)
def test_any_json_is_read_or_refused_as_multithumos(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "any.json"
    path.write_text(json.dumps({"v": {"duration": 3, "subset": value, "actions": [value]}, "w": {"actions": value}}))
    assert len(outcome(f"multithumos:{path}").splitlines()) <= 1
