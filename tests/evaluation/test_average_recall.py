"""Average recall: the ActivityNet toolkit's numbers, published recalls of real proposals, hand-computed cases."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import meta
from hypothesis import given
from hypothesis import strategies as st

from ssn_feat.annotations import Dataset, Instance, Video, read_annotations, write_activitynet
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_recall import TIOU_GRIDS, best_overlaps, recall_at_tiou, recall_curve
from ssn_feat.evaluation.compare_options import CompareOptions
from ssn_feat.evaluation.compare_proposals import compare_proposals
from ssn_feat.intervals import tiou
from ssn_feat.proposals import Proposals, SlidingOptions, VideoData, propose_each, sliding_windows
from ssn_feat.proposals.foreign import read_frame_list, read_proposal_json
from ssn_feat.proposals.methods import oracle

SETTINGS = ["anet_100", "anet_auto", "thumos_50", "more_than_available_500"]


@pytest.fixture(scope="module")
def toolkit(golden, shared) -> tuple[Dataset, Proposals, dict]:
    dataset = read_annotations(shared / "golden" / "toolkit_gt.json").subset("testing")
    proposals = read_proposal_json(shared / "golden" / "toolkit_proposals.json")
    return dataset, proposals, golden("toolkit_results.json")["proposal"]


@pytest.mark.parametrize("setting", SETTINGS)
def test_curve_is_the_toolkits(toolkit, setting: str) -> None:
    dataset, proposals, results = toolkit
    expected = results[setting]
    curve = recall_curve(proposals, dataset, expected["max_avg_nr_proposals"], expected["tiou"], counted="all")
    np.testing.assert_allclose(curve.recall, expected["recall"], atol=1e-9)
    np.testing.assert_allclose(curve.average, expected["avg_recall"], atol=1e-9)
    np.testing.assert_allclose(curve.numbers, expected["proposals_per_video"], atol=1e-9)
    assert curve.auc == pytest.approx(expected["auc_percent"], abs=1e-9)
    assert (curve.instances, curve.videos) == (expected["n_gt"], expected["n_gt_videos"])


def test_proposals_of_unknown_videos_do_not_count_unless_asked(toolkit) -> None:
    dataset, proposals, _ = toolkit
    known = proposals.only(dataset.videos)
    assert len(known) < len(proposals)
    everything = recall_curve(proposals, dataset, None)
    np.testing.assert_array_equal(everything.recall, recall_curve(known, dataset, None, counted="all").recall)


def thumos_test(shared: Path) -> Dataset:
    """THUMOS14's test videos with all annotated instances but the ambiguous ones; durations play no part here."""
    found: dict[str, list[Instance]] = {}
    for path in sorted((shared / "data/annotations/thumos14/temporal_annotations_test").rglob("*_test.txt")):
        label = path.name.removesuffix("_test.txt")
        for line in path.read_text().splitlines() if label != "Ambiguous" else ():
            id, start, end = line.split()
            found.setdefault(id, []).append(Instance(label, float(start), float(end)))
    return Dataset.of("thumos14", [Video(id, 1e4, "testing", tuple(own)) for id, own in found.items()])


def test_recall_of_published_proposals(shared, tmp_path: Path, capsys) -> None:
    """TAG proposals of CTAP's authors on THUMOS14, through the bench: 53,144 in 213 videos."""
    folder = shared / "data/proposals"
    rates = folder / "thumos14_test_movie_fps.json"
    listed = folder / "thumos14_test_tag_proposals_ctap_frames.txt"
    proposals = read_frame_list(listed, json.loads(rates.read_text()))
    assert (len(proposals), len(proposals.ids)) == (53144, 213)
    dataset = thumos_test(shared)
    recall = recall_at_tiou(proposals, dataset, [0.5, 0.6, 0.7, 0.8, 0.9])
    np.testing.assert_allclose(recall, [0.743, 0.650, 0.523, 0.375, 0.164], atol=5e-4)
    write_activitynet(dataset, tmp_path / "truth.json")
    compare_proposals(
        CompareOptions((listed,), str(tmp_path / "truth.json"), methods=(), fps=rates, recall_number="all")
    )
    row = next(line for line in capsys.readouterr().out.splitlines() if "74.3" in line)
    assert row.split()[-5:] == ["74.3", "65.0", "52.3", "37.5", "16.4"]


def over_hull(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """tIoU as the original computes it: what two intervals share over what they span together."""
    shared = np.minimum(a[:, None, 1], b[None, :, 1]) - np.maximum(a[:, None, 0], b[None, :, 0])
    return np.maximum(shared, 0) / (np.maximum(a[:, None, 1], b[None, :, 1]) - np.minimum(a[:, None, 0], b[None, :, 0]))


@pytest.mark.parametrize("overlap", [0.4, 0.7])
def test_recall_of_original_windows(golden, overlap: float) -> None:
    """The original's recall: tIoU strictly above the threshold, of instances and of videos found completely.

    Windows are in seconds and truth in tenths of them, so that many tIoUs equal 0.5 but for rounding: which of those
    count is decided by the original's way to compute them, with which ours must agree up to that.
    """
    reference = golden("sliding_window.npz")
    facts = meta(reference)
    options = SlidingOptions(overlap=overlap, original_windows=True)
    for subset in ("validation", "test"):
        rows = np.flatnonzero(reference["subset"] == subset)
        names = dict(zip(reference["video_id"][rows].tolist(), reference["duration"][rows].tolist(), strict=True))
        truth = {id: [Instance(str(k), s, e) for k, s, e in facts["gt"].get(id, [])] for id in names}
        dataset = Dataset.of("thumos14", [Video(id, d, subset, tuple(truth[id])) for id, d in names.items()])
        windows = {id: sliding_windows(duration, options) for id, duration in names.items()}
        proposals = Proposals(windows, {id: np.zeros(len(w)) for id, w in windows.items()}, "sliding")
        theirs = []
        for video, ours in best_overlaps(proposals, dataset):
            theirs.append(over_hull(video.intervals(), windows[video.id]).max(axis=1, initial=0))
            np.testing.assert_allclose(ours, theirs[-1], atol=1e-12)
        for threshold in (0.5, 0.7, 0.9):
            recall, hits = facts[f"ov{overlap}"]["recall"], [best > threshold for best in theirs]
            assert np.concatenate(hits).sum() == recall[f"{subset}@{threshold}"]["hits"]
            complete = recall[f"{subset}@{threshold}_only_videos_with_instances"]["per_video"]
            assert np.mean([h.all() for h in hits]) == pytest.approx(complete, abs=1e-9)


def toy() -> tuple[Dataset, Proposals]:
    """Two instances in a, one in b, a video without truth; better proposals come later."""
    videos = [
        Video("a", 20.0, "test", (Instance("x", 0, 4), Instance("y", 10, 20))),
        Video("b", 20.0, "test", (Instance("x", 2, 4),)),
        Video("quiet", 20.0, "test"),
    ]
    intervals = {"a": [(0, 3), (10, 16), (10, 20), (0, 4)], "b": [(5, 6), (2, 4)], "quiet": [(0, 1)] * 6}
    scores = {"a": [4, 3, 2, 1], "b": [1, 2], "quiet": [0] * 6}
    return Dataset.of("toy", videos), Proposals(intervals, scores, "toy")


def test_a_fixed_number_by_hand() -> None:
    dataset, proposals = toy()
    curve = recall_curve(proposals, dataset, 4, [0.5, 0.7, 0.9], budget="fixed")
    one = [2 / 3, 2 / 3, 1 / 3]  # a's first has tIoU .75 with x, b's best is exact
    assert curve.recall[:, curve.numbers == 1].ravel().tolist() == pytest.approx(one)
    assert curve.recall[:, curve.numbers == 2].ravel().tolist() == pytest.approx([1, 2 / 3, 1 / 3])
    assert curve.recall[:, curve.numbers == 4].ravel().tolist() == [1, 1, 1]
    assert (curve.instances, curve.videos, curve.lacking) == (3, 2, 0)
    assert curve.at(1) == pytest.approx(np.mean(one))
    besides = recall_curve(proposals, dataset, 1000, [0.5, 0.7, 0.9], budget="fixed", numbers=(1, 2, 1000))
    assert [besides.at(n) for n in (1, 2, 1000)] == pytest.approx([curve.at(1), curve.at(2), 1.0])
    assert recall_at_tiou(proposals, dataset, [0.5, 0.7, 0.9], 1).tolist() == pytest.approx(one)
    assert recall_at_tiou(proposals, dataset, [1.0]).tolist() == [1.0]


def test_an_average_number_by_hand() -> None:
    dataset, proposals = toy()
    curve = recall_curve(proposals, dataset, 3, [0.7])  # a has 4, b 2: shares of thirds of that
    assert curve.recall[0, [33, 66, 99]].tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert recall_curve(proposals, dataset, None, [0.7]).numbers[-1] == 3.0


def test_numbers_asked_for_are_those_of_the_curve_where_it_has_them(toolkit) -> None:
    dataset, proposals, _ = toolkit
    curve = recall_curve(proposals, dataset, 100, numbers=(1, 33, 50, 100))
    assert list(curve.asked.values()) == [curve.average[n - 1] for n in (1, 33, 50, 100)]
    assert curve.auc == recall_curve(proposals, dataset, 100).auc


def oracle_of(dataset: Dataset) -> Proposals:
    videos = [VideoData(v.id, v.duration, truth=v.intervals()) for v in dataset.videos.values()]
    return propose_each(oracle, videos, "oracle", score="order")[0]


def test_the_oracle_and_the_area() -> None:
    dataset, _ = toy()
    curve = recall_curve(oracle_of(dataset), dataset, 2, budget="fixed")
    assert curve.at(2) == 1.0
    assert recall_curve(oracle_of(dataset), dataset, 200, budget="fixed").auc == pytest.approx(99)


boxes = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)).map(sorted), max_size=8)


@given(st.lists(st.tuples(boxes, boxes), min_size=1, max_size=4), st.integers(1, 9))
def test_recall_is_that_of_a_plain_loop(videos: list, number: int) -> None:
    truth = [
        Video(str(n), 12.0, "test", tuple(Instance("x", *box) for box in own)) for n, (own, _) in enumerate(videos)
    ]
    dataset = Dataset.of("toy", truth, ["x"])
    proposals = Proposals(
        {str(n): own for n, (_, own) in enumerate(videos)},
        {str(n): -np.arange(len(own)) for n, (_, own) in enumerate(videos)},
        "toy",
    )
    if not any(own for own, _ in videos):
        with pytest.raises(UserError, match="has an instance"):
            recall_at_tiou(proposals, dataset, [0.5])
        return
    hits = [
        any(tiou([instance], [box])[0, 0] >= 0.5 for box in own[:number])
        for instances, own in videos
        for instance in instances
    ]
    assert recall_at_tiou(proposals, dataset, [0.5], number)[0] == pytest.approx(np.mean(hits))


@given(st.integers(0, 10**6))
def test_more_proposals_never_find_less(seed: int) -> None:
    random = np.random.default_rng(seed)
    dataset, _ = toy()
    intervals = {id: np.sort(random.uniform(0, 20, (int(random.integers(1, 40)), 2)), axis=1) for id in dataset.videos}
    proposals = Proposals(intervals, {id: random.uniform(size=len(v)) for id, v in intervals.items()}, "random")
    for budget in ("average", "fixed"):
        curve = recall_curve(proposals, dataset, 10, TIOU_GRIDS["thumos14"], budget)
        assert (np.diff(curve.recall, axis=1) >= 0).all()
        assert (np.diff(curve.recall, axis=0) <= 0).all()


def test_what_cannot_be_measured_is_named() -> None:
    dataset, proposals = toy()
    with pytest.raises(UserError, match="none of the 2 videos of 'toy' with instances has a proposal"):
        recall_curve(proposals.only(["quiet"]), dataset)
    with pytest.raises(UserError, match="has an instance"):
        recall_curve(proposals, dataset.only(["quiet"]))
    with pytest.raises(UserError, match="above 0"):
        recall_curve(proposals, dataset, 0)
    with pytest.raises(UserError, match="less than one"):
        recall_curve(proposals, dataset, 0.2)
    with pytest.raises(UserError, match=r"in \(0, 100\], not at"):
        recall_curve(proposals, dataset, numbers=(5, 101))
    with pytest.raises(UserError, match="above 0, not"):
        recall_curve(proposals, dataset, thresholds=[0.0, 0.5])
    with pytest.raises(UserError, match="every 1 up to 100"):
        recall_curve(proposals, dataset).at(0.5)
