"""Evaluation protocols: which truth counts, by hand and on the real data sets; coverage."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssn_feat import UserError
from ssn_feat.annotations import Dataset, Instance, Video, read_annotations
from ssn_feat.annotations.protocols import Protocol, dataset_coverage, protocol

DATASET = Dataset.of(
    "small",
    [
        Video("a", 10, "testing", (Instance("x", 1, 2), Instance("y", 3, 4), Instance("x", 11, 12))),
        Video("b", 10, "testing", (Instance("y", 1, 2),)),
        Video("c", 10, "testing"),
        Video("d", 10, "training", (Instance("x", 1, 2),)),
    ],
)


def test_what_is_left_out_is_left_out() -> None:
    everything = protocol("test")
    assert list(everything.apply(DATASET).videos) == ["a", "b"]
    assert list(protocol("testing/all").apply(DATASET).videos) == ["a", "b", "c"]
    strict = Protocol(
        "mine", "testing", without_videos=frozenset("b"), without_instances=frozenset({("a", "y")}), reachable_only=True
    )
    assert strict.apply(DATASET).videos == {"a": Video("a", 10, "testing", (Instance("x", 1, 2),))}
    assert strict.apply(DATASET).labels == ("x", "y")
    assert strict.line(DATASET) == (
        "mine: 1 video with truth, 1 instance, subset testing; without b; without y of a; "
        "without instances that start after the end of their video"
    )
    with pytest.raises(UserError, match="excludes every video"):
        Protocol("none", "testing", without_videos=frozenset("ab")).apply(DATASET)


def test_names() -> None:
    assert protocol("thumos14").thresholds == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    assert protocol("activitynet1.3").thresholds[0] == 0.5
    assert protocol("activitynet1.3").thresholds[-1] == 0.95
    assert protocol("thumos14/all").all_videos
    with pytest.raises(UserError, match="no protocol 'thumos': choose one of thumos14, "):
        protocol("thumos")


@pytest.mark.parametrize(
    ("spec", "name", "size"),
    [
        ("thumos14:thumos14", "thumos14", (212, 3358)),
        ("thumos14:thumos14", "thumos14/all", (1574, 3358)),
        ("thumos14:thumos14", "thumos14-211", (211, 3329)),
        ("thumos14:thumos14", "thumos14-ssn-210", (210, 3234)),
        ("thumos14-ssn:thumos14", "thumos14-ssn-210", (210, 3234)),
        ("activitynet:activitynet/activity_net.v1-3.rebuilt.min.json", "activitynet1.3", (4926, 7654)),
    ],
)
def test_real_data_sets_have_the_published_sizes(shared: Path, spec: str, name: str, size: tuple[int, int]) -> None:
    dialect, path = spec.split(":")
    dataset = read_annotations(f"{dialect}:{shared / 'data/annotations' / path}")
    counted = protocol(name).apply(dataset)
    assert (len(counted.videos), sum(len(v.instances) for v in counted.videos.values())) == size
    assert "NOT the whole" not in protocol(name).line(dataset)


def test_ssns_protocol_leaves_the_same_as_its_reader(shared: Path) -> None:
    folder = shared / "data/annotations/thumos14"
    ssn = protocol("thumos14-ssn-210")
    assert (
        ssn.apply(read_annotations(f"thumos14:{folder}")).videos
        == ssn.apply(read_annotations(f"thumos14-ssn:{folder}")).videos
    )


def test_an_incomplete_data_set_is_called_so(shared: Path) -> None:
    dataset = read_annotations(shared / "data/annotations/activitynet/activity_net.v1-2.min-missing-removed.json")
    line = protocol("activitynet1.2").line(dataset)
    assert line.startswith("activitynet1.2: 2198 videos with truth, 3281 instances, subset validation; NOT the whole")


def test_coverage_counts_what_cannot_be_found() -> None:
    result = dataset_coverage(DATASET, ["a", "elsewhere"])
    assert (result.videos, result.instances, result.missing, result.unreachable) == (4, 5, ("b", "c", "d"), 2)
    assert str(result) == (
        "1 of 4 videos is available; 2 of 5 instances cannot be found because their video is missing"
    )
    assert str(dataset_coverage(DATASET, DATASET.videos)) == "4 of 4 videos are available"
