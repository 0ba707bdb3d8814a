"""THUMOS14's text folders: what SSN made of the real ones, and one clear line for faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssn_feat import UserError
from ssn_feat.annotations import Dataset, Instance, read_annotations, read_thumos14


def sizes(dataset: Dataset) -> tuple[int, int, int]:
    """Videos, videos with truth, instances."""
    counts = [len(v.instances) for v in dataset.videos.values()]
    return len(counts), sum(n > 0 for n in counts), sum(counts)


def test_filtered_as_ssn_it_is_what_the_original_had(shared: Path, golden: Callable[[str], Any]) -> None:
    reference = golden("thumosdb.json")
    dataset = read_annotations(f"thumos14-ssn:{shared / 'data/annotations/thumos14'}")
    assert list(dataset.labels) == reference["class_names_in_index_order"]
    for name, expected in reference["subsets"].items():
        part = dataset.subset(name)
        assert sizes(part) == (expected["n_videos"], expected["n_videos_with_instances"], expected["n_instances"])
        assert {v.id: v.duration for v in part.videos.values()} == expected["durations"]
        assert Counter(i.label for v in part.videos.values() for i in v.instances) == expected["instances_per_class"]
        listed = [
            [v.id, i.label, dataset.label_index[i.label], i.start, i.end]
            for v in part.videos.values()
            for i in v.instances
        ]
        assert listed == expected["instances"]


def test_complete_it_has_every_line_but_the_ambiguous(shared: Path) -> None:
    folder = shared / "data/annotations/thumos14"
    dataset = read_annotations(f"thumos14:{folder}")
    assert sizes(dataset.subset("test")) == (1574, 212, 3358)
    assert sizes(dataset.subset("val")) == (1010, 200, 3007)
    videos = dataset.subset("test").videos.values()
    assert sum(bool(v.instances or v.ambiguous) for v in videos) == 213
    assert {i.label for v in videos for i in v.ambiguous} == {"Ambiguous"}
    assert "Ambiguous" not in dataset.labels


def make(folder: Path) -> Path:
    (folder / "deep").mkdir(parents=True)
    (folder / "test_durations.txt").write_text("/home/somebody/b.mp4\n20.5\na.mp4\n10\n")
    (folder / "test_avoid_videos.txt").write_text("b Dive\n")
    (folder / "deep" / "Dive_test.txt").write_text("a  1 2\nb  3.5   4\n")
    (folder / "deep" / "Cliff_test.txt").write_text("a  1 2\n\na  10.5 11\n")
    (folder / "deep" / "Ambiguous_test.txt").write_text("b  7 8\n")
    return folder


def test_order_filters_and_ambiguous_instances(tmp_path: Path) -> None:
    folder = make(tmp_path / "t")
    dataset = read_thumos14(folder)
    assert list(dataset.videos) == ["b", "a"]
    assert dataset.videos["a"].instances == (
        Instance("Cliff", 1, 2), Instance("Cliff", 10.5, 11), Instance("Dive", 1, 2)
    )  # fmt: skip
    assert dataset.videos["b"].instances == (Instance("Dive", 3.5, 4),)
    assert dataset.labels == ("Cliff", "Dive")
    assert dataset.videos["b"].ambiguous == (Instance("Ambiguous", 7, 8),)
    assert dataset.videos["a"].ambiguous == ()
    ssn = read_thumos14(folder, as_ssn=True)
    assert ssn.videos["a"].instances == (Instance("Cliff", 1, 2), Instance("Dive", 1, 2))
    assert ssn.videos["b"].instances == ()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "deep/Dive_test.txt",
            "a 1 2\na 1\n",
            r"deep/Dive_test\.txt line 2: 'a 1' is not a video, its start and its end",
        ),
        ("deep/Dive_test.txt", "a nan 2\n", r"Dive_test\.txt line 1: 'a nan 2' is not"),
        ("deep/Dive_test.txt", "a 3 2\n", r"Dive_test\.txt line 1: the segment \[3, 2\] ends before it starts"),
        ("deep/Dive_test.txt", "\nc 1 2\n", r"Dive_test\.txt line 2: the video 'c' has no entry"),
        ("Dive_test.txt", "a 1 2\n", r"contains Dive_test\.txt twice"),
        (
            "test_durations.txt",
            "a.mp4\n10\nb.mp4\n",
            r"test_durations\.txt line 3: 'b\.mp4' is not followed by a duration",
        ),
        ("test_durations.txt", "a.mp4\nb.mp4\n", r"test_durations\.txt line 1: 'a\.mp4' is followed by 'b\.mp4'"),
        ("test_durations.txt", "a.mp4\n1\na.mp4\n1\nb.mp4\n3", r"line 3: video 'a' occurs twice, first at test_dur"),
        ("test_avoid_videos.txt", "b\n", r"test_avoid_videos\.txt line 1: 'b' is not a video and a class"),
    ],
)
def test_faults_are_named_with_file_and_line(tmp_path: Path, file: str, content: str, message: str) -> None:
    folder = make(tmp_path / "t")
    (folder / file).write_text(content)
    with pytest.raises(UserError, match=message):
        read_thumos14(folder, as_ssn=True)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a THUMOS14 folder"):
        read_annotations(f"thumos14:{tmp_path}")
