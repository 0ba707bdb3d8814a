"""Proposals from a store and actionness runs, and everything that can be wrong with the request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_store import quick, write

from ssn_feat.annotations import Dataset, Video
from ssn_feat.cli import load_yaml, save_yaml
from ssn_feat.errors import UserError
from ssn_feat.intervals import tiou
from ssn_feat.proposals import (
    AnchorOptions,
    Proposals,
    SlidingOptions,
    TagOptions,
    anchors,
    read_ssn_list,
    sliding_windows,
)
from ssn_feat.proposals.logistic import fit_logistic
from ssn_feat.proposals.propose import ProposeOptions, propose
from ssn_feat.store import create_store, open_store
from ssn_feat.training.fit import fit


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture(scope="module")
def runs(data) -> tuple[Path, Path]:
    """An actionness run of each stream."""
    for stream in ("rgb", "flow"):
        fit(data.options(data.folder / stream, head="actionness", proposals=None, streams=(stream,)))
    return data.folder / "rgb", data.folder / "flow"


@pytest.fixture
def options(data, runs, tmp_path) -> ProposeOptions:
    return ProposeOptions(
        data.store, tmp_path / "p.npz", actionness=runs, tag=TagOptions(smoothing=1), seed=3, quiet=True
    )


def recall(proposals: Proposals, dataset: Dataset, number: int) -> float:
    found = [
        tiou(video.intervals(), proposals.top(number).intervals[id]).max(axis=1, initial=0) >= 0.5
        for id, video in dataset.videos.items()
    ]
    return float(np.concatenate(found).mean())


def test_groups_of_fused_actionness_find_the_actions(data, options) -> None:
    made = propose(options)
    read = Proposals.load(options.out)
    assert read.ids == made.ids == tuple(data.dataset.videos)
    assert (read.method, read.score) == ("tag", "contrast")
    assert read.parameters["fingerprint"] == open_store(data.store).fingerprint
    assert read.parameters["smoothing"] == 1
    assert recall(read, data.dataset, 10) > 0.95
    for id, video in data.dataset.videos.items():
        spans = read.spans[id]
        assert len(read.actionness[id]) == len(spans)
        inside = (tiou(spans, video.intervals()) > 0).any(axis=1)
        if inside.any():
            assert read.actionness[id][inside].mean() > 0.7 > 0.3 > read.actionness[id][~inside].mean()


def test_windows_are_worse_than_groups_and_better_when_ranked(data, options) -> None:
    windows = replace(options, method="sliding", sliding=SlidingOptions(overlap=0.5))
    random = propose(windows)
    ranked = propose(replace(windows, sliding_score="contrast"))
    for id, video in data.dataset.videos.items():
        expected = sliding_windows(video.duration, windows.sliding)
        np.testing.assert_array_equal(random.intervals[id], expected)
        np.testing.assert_array_equal(ranked.intervals[id], expected)
    assert (random.score, ranked.score) == ("random", "contrast")
    at_ten = [recall(p, data.dataset, 10) for p in (random, ranked, propose(options))]
    assert at_ten == sorted(at_ten)
    assert at_ten[0] < 0.6


def test_windows_need_no_run(data, tmp_path) -> None:
    proposals = propose(ProposeOptions(data.store, tmp_path / "p.npz", method="sliding", quiet=True))
    assert proposals.actionness is None
    assert proposals.ids == tuple(data.dataset.videos)


def test_the_same_request_gives_the_same_file(data, options, tmp_path) -> None:
    requests = [options, replace(options, method="sliding"), replace(options, fusion="original", weights=(1.0, 0.5))]
    for request in requests:
        save_yaml(request, tmp_path / "request.yaml")
        first, second = propose(request), propose(load_yaml(ProposeOptions, tmp_path / "request.yaml"))
        for id in first.ids:
            np.testing.assert_array_equal(first.intervals[id], second.intervals[id])
            np.testing.assert_array_equal(first.scores[id], second.scores[id])


def test_a_subset_the_best_few_and_a_list(data, options, tmp_path, capsys) -> None:
    listed = tmp_path / "lists" / "list.txt"
    testing = replace(options, annotations=data.annotations, subset="test", number=7, ssn_list=listed, quiet=False)
    proposals = propose(testing)
    assert proposals.ids == tuple(data.dataset.subset("testing").videos)
    assert max(map(len, proposals.intervals.values())) == 7
    blocks = read_ssn_list(listed)
    assert [block.path for block in blocks] == list(proposals.ids)
    for block in blocks:
        video = data.dataset.videos[block.path]
        np.testing.assert_allclose(block.truth[:, 1:] * video.duration, video.intervals(), atol=2e-3)
        assert len(block.proposals) == len(proposals.intervals[block.path])
    printed = capsys.readouterr().out
    assert f"{options.out}: {len(proposals)} proposals in 6 videos" in printed
    assert f"{listed}: as an SSN list, with {sum(len(block.truth) for block in blocks)} instances" in printed


def test_anchors_ranked_by_actionness(data, options) -> None:
    dense = replace(options, method="anchors", anchors=AnchorOptions(per_octave=1))
    random, by_contrast = propose(dense), propose(replace(dense, sliding_score="contrast", jobs=2))
    for id, video in data.dataset.videos.items():
        np.testing.assert_array_equal(random.intervals[id], anchors(video.duration, dense.anchors))
    assert (random.method, random.parameters["per_octave"]) == ("anchors", 1)
    assert recall(by_contrast, data.dataset, 10) > recall(random, data.dataset, 10) + 0.2


def test_a_baseline_that_needs_no_run(data, options) -> None:
    logistic = replace(options, actionness=(), actionness_baseline="logistic", annotations=data.annotations)
    made = propose(replace(logistic, subset="testing"))
    assert made.ids == tuple(data.dataset.subset("testing").videos)
    assert recall(made, data.dataset.subset("testing"), 10) > 0.9
    assert made.parameters["actionness_baseline"] == "logistic"
    assert "runs" not in made.parameters
    again = propose(replace(logistic, subset="testing"))
    np.testing.assert_array_equal(again.actionness[made.ids[0]], made.actionness[made.ids[0]])


def test_a_baseline_needs_both_kinds(data, options, tmp_path) -> None:
    store = open_store(data.store)
    bare = Dataset.of("bare", [replace(v, instances=()) for v in data.dataset.videos.values()], data.dataset.labels)
    with pytest.raises(UserError, match="only background"):
        fit_logistic(store, bare)
    with pytest.raises(UserError, match="no training video of 'x' to learn from"):
        fit_logistic(store, Dataset.of("x", [Video("elsewhere", 3.0, "training")]))


def test_what_was_asked_for_is_saved(data, options) -> None:
    assert propose(options).parameters["number"] is None
    saved = propose(replace(options, number=5, tag=TagOptions(original_smearing=True))).parameters
    assert (saved["number"], saved["original_smearing"]) == (5, True)


def test_original_groups_are_ranked_by_their_sum(options) -> None:
    proposals = propose(replace(options, tag=TagOptions(original_grouping=True)))
    assert proposals.score == "sum"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actionness": ()}, "name a run with --actionness"),
        ({"actionness": (), "method": "sliding", "sliding_score": "mean"}, "ranking windows by mean"),
        ({"actionness_baseline": "logistic"}, "either it or --actionness"),
        ({"actionness": (), "actionness_baseline": "logistic"}, "add --annotations"),
        ({"jobs": 0}, "it is 0"),
        ({"weights": (1.0,)}, "2 runs need one weight each, but there are 1"),
        ({"subset": "test"}, "need --annotations"),
        ({"number": 0}, "at least 1"),
        ({"seed": -1}, "seed"),
        ({"out": Path("p.txt")}, r"must end in \.npz, not p\.txt"),
        ({"weights": (1.0, -1.0)}, "positive weight"),
        ({"actionness": (Path("absent"),)}, "no run at absent"),
        ({"store": Path("absent.zarr")}, "absent.zarr"),
        ({"tag": TagOptions(thresholds=(0.9999,), smoothing=20.0)}, "no proposal in any of the 18 videos"),
    ],
)
def test_bad_requests_are_named(options, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        propose(replace(options, **changes))
    assert not options.out.exists()


def test_a_run_of_other_features_or_videos_elsewhere(data, options, tmp_path) -> None:
    other = create_store(tmp_path / "other.zarr", {"backbone": "other"}, "other")
    other.write("x", {"rgb": np.zeros((4, 24))}, np.array([(0, 1), (1, 2), (2, 3), (3, 4)]), {"duration": 4.0})
    with pytest.raises(UserError, match=r"rgb: the run was trained on features of recipe"):
        propose(replace(options, store=other.path))
    windows = replace(options, store=other.path, method="sliding", actionness=())
    with pytest.raises(UserError, match="none of the 18 videos"):
        propose(replace(windows, annotations=data.annotations))


def test_a_run_of_another_head_is_named(data, options) -> None:
    fit(data.options(data.folder / "ssn", optimisation=quick(epochs=1)))
    with pytest.raises(UserError, match=r"ssn is a run of the ssn head; actionness comes from"):
        propose(replace(options, actionness=(*options.actionness, data.folder / "ssn")))
