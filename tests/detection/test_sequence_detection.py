"""Suppression, voting and decoding of one-stage detections against reference numbers."""

import numpy as np
import pytest
import torch
from conftest import meta
from one_stage_cases import CASES, max_network, network_of, padded, videos_of

from ssn_feat.detection.sequence_detection import SuppressionOptions, suppress, vote
from ssn_feat.heads.points import decode, grid_of
from ssn_feat.heads.row_grid import RowGrid
from ssn_feat.heads.sequence_head import RowIntervals


def spans_of(rows, fps, stride=4, window=16):
    starts = np.arange(rows) * stride / fps
    return np.stack([starts, starts + window / fps], axis=1)


def detections(network, video, per_level, shortest=0.05):
    rows, packing = padded([video])
    with torch.inference_mode():
        points = network.eval()(rows, packing)
    return RowIntervals(
        *(part.numpy() for part in decode(points, grid_of(points.packings), 0, 0.001, per_level, shortest))
    )


@pytest.mark.parametrize(
    "case", ["soft_multiclass", "hard_multiclass", "soft_agnostic", "soft_agnostic_voting", "hard_agnostic_voting"]
)
def test_suppression_is_that_of_actionformer(golden, case):
    archive = golden("one_stage/attention.npz")
    given = meta(archive)[f"nms/{case}"]
    options = SuppressionOptions(
        suppression="soft" if given["use_soft_nms"] else "hard",
        soft_sigma=given["sigma"],
        hard_overlap=given["iou_threshold"],
        across_classes=not given["multiclass"],
        vote_overlap=given.get("voting_thresh", 0.0),
        minimum_score=given["min_score"],
        most=given["max_seg_num"],
    )
    parts = (archive[f"nms/{case}/{name}"] for name in ("segments", "scores"))
    found = suppress(RowIntervals(*(part.astype(float) for part in parts), archive[f"nms/{case}/labels"]), options)
    np.testing.assert_allclose(found.intervals, archive[f"nms/{case}/out_segments"], atol=1e-4)
    np.testing.assert_allclose(found.scores, archive[f"nms/{case}/out_scores"], atol=1e-5)
    np.testing.assert_array_equal(found.classes, archive[f"nms/{case}/out_labels"])


@pytest.mark.parametrize("case", CASES)
def test_detections_are_those_of_actionformer(golden, case):
    archive = golden("one_stage/attention.npz")
    network, given = network_of(archive, case), meta(archive)[case]["test_cfg"]
    for at, video in enumerate(videos_of(archive, case)):
        found = suppress(
            detections(network, video, given["pre_nms_topk"], given["duration_thresh"]),
            SuppressionOptions(most=given["max_seg_num"]),
        )
        seconds = RowGrid.of(spans_of(video.shape[1], 24)).seconds(found.intervals)
        clipped = np.clip(seconds, 0, archive[f"{case}/video{at}/duration"])
        np.testing.assert_allclose(clipped, archive[f"{case}/detections{at}/segments"], atol=1e-4)
        np.testing.assert_allclose(found.scores, archive[f"{case}/detections{at}/scores"], atol=1e-5)
        np.testing.assert_array_equal(found.classes, archive[f"{case}/detections{at}/labels"])


@pytest.mark.parametrize("kind", ["multiclass", "agnostic"])
def test_detections_are_those_of_temporalmaxer(golden, kind):
    archive = golden("one_stage/max.npz")
    network = max_network(archive)
    options = SuppressionOptions(across_classes=kind == "agnostic", vote_overlap=0.7)
    for at in range(2):
        video = archive[f"x{at}"]
        found = suppress(detections(network, video, 2000), options)
        seconds = np.maximum(RowGrid.of(spans_of(video.shape[1], 30)).seconds(found.intervals), 0)
        np.testing.assert_allclose(seconds, archive[f"eval/{at}/{kind}/segments"], atol=1e-4)
        np.testing.assert_allclose(found.scores, archive[f"eval/{at}/{kind}/scores"], atol=1e-5)
        np.testing.assert_array_equal(found.classes, archive[f"eval/{at}/{kind}/labels"])


def test_votes_count_by_score_and_overlap():
    candidates = np.array([[0.0, 10.0], [0.0, 8.0], [20.0, 30.0]])
    voted = vote(candidates[:1], candidates, np.array([1.0, 0.5, 1.0]), 0.7)
    np.testing.assert_allclose(voted, [[0.0, (10 * 1 + 8 * 0.5 * 0.8) / 1.4]])


def test_rows_keep_their_time_across_a_gap():
    spans = np.array([[0.0, 2.0], [1.0, 3.0], [100.0, 102.0], [101.0, 103.0]])
    grid = RowGrid.of(spans)
    np.testing.assert_allclose(grid.seconds(np.array([0.0, 1.0, 2.0, 3.0])), [1, 2, 101, 102])
    times = np.array([-3.0, 0.5, 1.5, 60.0, 101.5, 110.0])
    np.testing.assert_allclose(grid.seconds(grid.positions(times)), times)
    assert grid.positions(np.array([0.0]))[0] == pytest.approx(-1.0)


def test_a_video_of_one_row_has_a_grid():
    grid = RowGrid.of(np.array([[1.0, 3.0]]))
    np.testing.assert_allclose(grid.seconds(grid.positions(np.array([0.0, 2.0, 5.0]))), [0, 2, 5])
