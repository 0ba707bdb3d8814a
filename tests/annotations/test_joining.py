"""Durations and intervals of two sources that are joined: what is refused, what is noted, which reason is named."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_feat.annotations import Dataset, Instance, Video, read_annotations
from ssn_feat.annotations.joining import JoinOptions, VideoTimes, check_times, times_of_dataset
from ssn_feat.errors import UserError
from ssn_feat.proposals.foreign import read_frame_list

REFUSE, ALLOW = JoinOptions(), JoinOptions(allow_duration_mismatch=True)


def durations_of(values: list[float], what: str = "the store s.zarr", **more) -> VideoTimes:
    return VideoTimes(what, {f"v{n}": value for n, value in enumerate(values)}, **more)


def intervals_of(values: list[list[tuple[float, float]]], what: str = "the proposals p.npz") -> VideoTimes:
    return VideoTimes(what, intervals={f"v{n}": np.array(rows, dtype=float) for n, rows in enumerate(values)})


def refused(one: VideoTimes, other: VideoTimes) -> str:
    with pytest.raises(UserError) as caught:
        check_times(one, other, REFUSE)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_frames_taken_for_seconds_are_refused_with_the_worst_videos_and_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = durations_of([10.0, 20, 30, 40, 50, 60])
    annotations = durations_of([250.0, 500, 750, 1000, 1250, 1500], "the annotations a.json")
    message = refused(annotations, store)
    assert message.startswith(
        "durations in the annotations a.json and in the store s.zarr differ for 6 of 6 videos: 'v0' 250.0 s and 10.0 s"
    )
    assert "'v4'" in message
    assert "'v5'" not in message
    assert "25 times those in the store s.zarr, as if frames at 25 per second were taken for seconds" in message
    assert "--allow-duration-mismatch" in message
    check_times(annotations, store, ALLOW)
    warning = capsys.readouterr().err
    assert warning.startswith("warning: durations in the annotations a.json")
    assert warning.count("\n") == 1
    check_times(annotations, store, ALLOW, quiet=True)
    assert capsys.readouterr().err == ""


def test_frames_of_videos_with_different_rates_are_recognised() -> None:
    rates = {f"v{n}": rate for n, rate in enumerate([25.0, 30, 24, 30, 25])}
    seconds = [12.0, 35, 61, 17, 44]
    frames = [s * rates[f"v{n}"] for n, s in enumerate(seconds)]
    message = refused(durations_of(frames, "the annotations a.json"), durations_of(seconds, rates=rates))
    assert "numbers of frames, at 24 or 25 or 30 per second, that were taken for seconds" in message
    proposals = intervals_of([[(0, frame)] for frame in frames])
    assert "that were taken for seconds" in refused(proposals, durations_of(seconds, rates=rates))


# Both tolerances must be exceeded: videos whose sound is longer, a last snippet that is cut, a long video.
@pytest.mark.parametrize(("one", "other"), [(10.0, 10.5), (10.0, 10.49), (3600.0, 3601.9), (1.1, 0.7), (3600, 3530.0)])
def test_small_differences_are_accepted(one: float, other: float, capsys: pytest.CaptureFixture[str]) -> None:
    check_times(durations_of([one]), durations_of([other]), REFUSE)
    check_times(durations_of([other]), durations_of([one]), REFUSE)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("one", "other"), [(10.0, 10.6), (3600.0, 3520.0), (1.0, 2.0)])
def test_larger_differences_are_refused(one: float, other: float) -> None:
    refused(durations_of([one]), durations_of([other]))


def test_single_videos_of_many_are_only_noted(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = [30.0 + n for n in range(200)]
    cut = [14.0, *seconds[1:]]
    check_times(durations_of(seconds, "the annotations a.json"), durations_of(cut), REFUSE)
    note = capsys.readouterr().err
    assert note.startswith("note: durations in the annotations a.json")
    assert "differ for 1 of 200 videos: 'v0' 30.0 s and 14.0 s" in note
    refused(durations_of(seconds), durations_of([5.0, 5, 5, *seconds[3:]]))


def test_shifted_proposals_are_refused() -> None:
    store = durations_of([30.0, 42, 57])
    shifted = intervals_of([[(1000, 1030), (1004, 1012)], [(1001, 1041)], [(1000.5, 1056)]])
    message = refused(shifted, store)
    assert message.startswith("4 of 4 intervals in the proposals p.npz are outside their video in the store s.zarr")
    assert "'v0' [1000.0, 1030.0] of 30.0 s" in message
    assert "they fit if about 1000 s are subtracted" in message


def test_single_intervals_outside_are_counted_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    store = durations_of([30.0] * 20)
    inside = [[(0.0, 30.4), (3, 9)] for _ in range(20)]
    check_times(intervals_of(inside), store, REFUSE)
    assert capsys.readouterr().err == ""
    check_times(intervals_of([[(3, 9), (28, 31.5), (33, 34)], *inside[1:]]), store, REFUSE)
    note = capsys.readouterr().err
    assert "note: 2 of 41 intervals in the proposals p.npz are outside" in note
    assert "in 1 of 20 videos: 'v0' [33.0, 34.0] of 30.0 s, ..." in note
    # An empty interval at the end is outside, but does not show that the two do not belong together.
    check_times(intervals_of([[(30.1, 30.1)]]), durations_of([30.0]), REFUSE)
    assert "note: 1 of 1 intervals" in capsys.readouterr().err


def test_annotations_whose_segments_alone_are_frames_are_refused() -> None:
    videos = [Video(f"v{n}", 30.0, "training", (Instance("a", 50.0, 700.0 - n),)) for n in range(4)]
    message = refused(times_of_dataset(Dataset.of("set", videos), "a.json"), durations_of([30.0] * 4))
    assert "as if frames at 24 per second" in message or "as if frames at 23.976 per second" in message
    assert message.startswith("4 of 4 intervals in the annotations a.json are outside")


def test_a_table_without_durations_is_compared_by_its_intervals() -> None:
    videos = [Video(f"v{n}", 12.0, "training", (Instance("a", 5, 12),), duration_assumed=True) for n in range(4)]
    table = times_of_dataset(Dataset.of("table", videos), "t.csv")
    check_times(table, durations_of([40.0] * 4), REFUSE)
    assert "4 of 4 intervals" in refused(table, durations_of([7.0] * 4))


def test_videos_that_only_one_source_has_do_not_count() -> None:
    check_times(VideoTimes("a", {"x": 1.0}), VideoTimes("b", {"y": 100.0}), REFUSE)


seconds = st.lists(st.floats(5, 4000), min_size=4, max_size=30)


def spread(values: list[float]) -> bool:
    return max(values) > 1.3 * min(values)


def factor_in(message: str) -> float:
    match = re.search(r"are ([\d.e+]+) times those in", message)
    assert match, message
    return float(match[1])


@settings(max_examples=60, deadline=None)
@given(seconds, st.floats(1.1, 2000), st.booleans())
def test_a_constant_factor_is_found(values: list[float], factor: float, inverse: bool) -> None:
    if not spread(values):
        return
    scaled = [value * factor for value in values]
    pair = (durations_of(values, "the results r.json"), durations_of(scaled, "the annotations a.json"))
    message = refused(*(pair if inverse else pair[::-1]))
    assert factor_in(message) == pytest.approx(factor, rel=0.005)
    assert "those in the annotations a.json are" in message


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([(25, 30), (24, 25), (24000 / 1001, 25), (25, 60000 / 1001 / 2)]), seconds)
def test_another_frame_rate_is_found(rates: tuple[float, float], values: list[float]) -> None:
    values = [60 + value for value in values]
    slower, faster = rates
    message = refused(
        durations_of([value * faster / slower for value in values], "the annotations a.json"), durations_of(values)
    )
    assert f"as if {slower:.5g} frames per second were assumed instead of {faster:.5g}" in message


@settings(max_examples=60, deadline=None)
@given(seconds, st.floats(100, 5000))
def test_a_constant_offset_is_found(values: list[float], offset: float) -> None:
    if not spread(values):
        return
    message = refused(
        durations_of([value + offset for value in values], "the annotations a.json"), durations_of(values)
    )
    match = re.search(r"those in the annotations a.json are ([\d.e+]+) s longer than", message)
    assert match, message
    assert float(match[1]) == pytest.approx(offset, abs=0.5)


@settings(max_examples=60, deadline=None)
@given(seconds, st.integers(0, 2**32 - 1))
def test_unrelated_durations_are_refused_without_a_reason_that_does_not_fit(values: list[float], seed: int) -> None:
    generator = np.random.default_rng(seed)
    others = [value * factor for value, factor in zip(values, generator.uniform(1.2, 20, len(values)), strict=True)]
    message = refused(durations_of(others, "the annotations a.json"), durations_of(values))
    if "times those" in message:
        ratios = np.array(others) / np.array(values)
        assert (np.abs(ratios / factor_in(message) - 1) < 0.05).mean() >= 0.9


@settings(max_examples=60, deadline=None)
@given(seconds, st.floats(-0.0199, 0.0199))
def test_differences_within_the_tolerance_are_never_refused(values: list[float], share: float) -> None:
    check_times(durations_of(values), durations_of([value * (1 - share) for value in values]), REFUSE)


def measured(folder: Path, *names: str) -> VideoTimes:
    """Durations of the files of a data set, measured by others."""
    durations = {}
    for name in names:
        with (folder / name).open() as file:
            for row in csv.DictReader(file):
                video = row["filename"].removesuffix(".mp4").removeprefix("v_")
                durations[video] = float(row["video-duration"])
    return VideoTimes("the measured durations", durations)


@pytest.mark.parametrize("subset", ["training", "validation", "testing", None])
def test_published_annotations_pass(subset: str | None, shared: Path) -> None:
    folder = shared / "data/annotations"
    thumos, activitynet = folder / "thumos14", folder / "activitynet"
    parts = [f"activitynet_v1-3_{part}_metadata.csv" for part in ("train", "valid", "test")]
    specs = {
        f"thumos14:{thumos}": measured(thumos, "thumos14_test_metadata.csv", "thumos14_valid_metadata.csv"),
        f"multithumos:{folder}/other/multithumos.json": times_of_dataset(read_annotations(f"thumos14:{thumos}")),
        str(activitynet / "activity_net.v1-2.min-missing-removed.json"): measured(activitynet, *parts),
        str(activitynet / "activity_net.v1-3.rebuilt.min.json"): measured(activitynet, *parts),
    }
    for spec, reference in specs.items():
        dataset = read_annotations(spec)
        if subset is not None and subset not in dataset.subsets:
            continue
        dataset = dataset if subset is None else dataset.subset(subset)
        check_times(times_of_dataset(dataset), reference, REFUSE)


def test_published_proposals_pass(shared: Path) -> None:
    rates = json.loads((shared / "data/proposals/thumos14_test_movie_fps.json").read_text())
    proposals = read_frame_list(shared / "data/proposals/thumos14_test_tag_proposals_ctap_frames.txt", rates)
    annotated = times_of_dataset(read_annotations(f"thumos14:{shared}/data/annotations/thumos14"))
    check_times(proposals.times, annotated, REFUSE)
    frames = replace(proposals, intervals={v: rows * rates[v] for v, rows in proposals.intervals.items()})
    assert "per second, that were taken for seconds" in refused(frames.times, replace(annotated, rates=rates))
