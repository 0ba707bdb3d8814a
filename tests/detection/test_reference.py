"""Every stage of detection against the original evaluation: merged scores, filter, NMS and regression rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import meta

from ssn_feat.detection.classifier import best_classes
from ssn_feat.detection.postprocess import PRESETS, PostprocessOptions, ScoredPairs, refine, select, suppress
from ssn_feat.detection.scores import ProposalScores, fuse

Golden = Callable[[str], dict[str, np.ndarray]]

# Command lines of the reference runs as options: (data set, streams, weights, classes of the classifier, options).
VARIANTS: dict[str, tuple[str, tuple[str, ...], tuple[float, ...], int | None, PostprocessOptions]] = {
    "A1": ("anet", ("rgb", "flow"), (), None, PRESETS["activitynet1.2"]),
    "A2": ("anet", ("rgb", "flow"), (1, 1.5), None, replace(PRESETS["activitynet1.2"], regression=False)),
    "A3": ("anet", ("rgb", "flow"), (1, 1.5), 2, PRESETS["activitynet1.2-classifier"]),
    "A4": ("anet", ("rgb",), (), 1, replace(PRESETS["activitynet1.2-classifier"], scoring="all", regression=False)),
    "T1": ("thumos", ("rgb", "flow"), (), None, PRESETS["thumos14"]),
    "T2": ("thumos", ("rgb", "flow"), (1, 1.5), None, replace(PRESETS["thumos14"], top_k=200, regression=False)),
    "T3": ("thumos", ("rgb", "flow"), (1, 1.5), 2, PRESETS["thumos14-classifier"]),
    "T4": ("thumos", ("flow",), (), None, replace(PRESETS["thumos14"], scoring="all", top_k=None, nms_threshold=0.4)),
}


def stream_scores(archive: dict[str, np.ndarray]) -> ProposalScores:
    """Scores of one stream; the videos have length 1, so seconds are the fractions of the reference."""
    sixteenth, sixtyfourth = np.float32(1 / 16), np.float32(1 / 64)
    activity = archive["q_act"].astype(np.float32) * sixteenth + archive["act_class_offset"][None, :]
    completeness = archive["q_comp"].astype(np.float32) * sixteenth + archive["comp_class_offset"][None, :]
    completeness += archive["comp_prop_offset"][:, None]
    regression = (archive["q_reg"].astype(np.float32) * sixtyfourth)[:, None, :]
    regression = regression + (archive["q_reg_class"].astype(np.float32) * sixtyfourth)[None]
    return ProposalScores(
        tuple(archive["video_id"].tolist()),
        archive["offsets"],
        tuple(f"class {c:03d}" for c in range(completeness.shape[1])),
        np.ones(len(archive["video_id"])),
        archive["rel_props"],
        activity,
        completeness,
        regression,
    )


class Run:
    """One reference run with the stages computed here."""

    def __init__(self, golden: Golden, variant: str) -> None:
        data, streams, weights, classes, self.options = VARIANTS[variant]
        self.expected = golden(f"eval_out_{variant}.npz")
        self.scores = fuse([stream_scores(golden(f"eval_{data}_{stream}.npz")) for stream in streams], weights)
        video_classes = None
        if classes is not None:
            table = golden(f"eval_{data}_cls.npz")
            by_video = dict(zip(table["video_id"].tolist(), table["scores"], strict=True))
            video_classes = best_classes(by_video, self.scores, classes)
        self.filtered = select(self.scores, self.options, video_classes)
        self.kept = suppress(self.scores, self.filtered, self.options)
        self.final = refine(self.scores, self.kept) if self.options.regression else self.kept

    def rows(self, candidates: ScoredPairs) -> np.ndarray:
        """Video, class and proposal of each candidate, int64 ``(M, 3)``."""
        video = self.scores.videos[candidates.proposals]
        return np.stack([video, candidates.classes, candidates.proposals - self.scores.offsets[video]], axis=1)

    def expected_rows(self, stage: str) -> np.ndarray:
        return np.stack(
            [self.expected[f"{stage}_{part}"].astype(np.int64) for part in ("video", "cls", "prop")], axis=1
        )


@pytest.fixture(scope="module", params=sorted(VARIANTS))
def reference(request: pytest.FixtureRequest, golden: Golden) -> Run:
    return Run(golden, request.param)


def order(rows: np.ndarray) -> np.ndarray:
    """Sorts rows by video, class, proposal."""
    return np.lexsort(rows.T[::-1])


def test_weights_are_those_of_the_reference(reference: Run) -> None:
    facts: dict[str, Any] = meta(reference.expected)
    assert facts["num_class"] == len(reference.scores.labels)
    assert facts["nms_threshold"] == reference.options.nms_threshold


def test_fused_scores(reference: Run) -> None:
    scores, expected = reference.scores, reference.expected
    for position, video in enumerate(scores.ids[:2]):
        own = scores[video]
        np.testing.assert_allclose(own.activity, expected[f"merged_first2/{position}_act"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(own.completeness, expected[f"merged_first2/{position}_comp"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(own.regression, expected[f"merged_first2/{position}_reg"], rtol=0, atol=1e-6)
    sums = [[part[scores.rows(v)].sum(dtype=float) for part in parts(scores)] for v in scores.ids]
    np.testing.assert_allclose(sums, expected["merged_sum"], rtol=1e-6, atol=1e-3)


def parts(scores: ProposalScores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    assert scores.regression is not None
    return scores.activity, scores.completeness, scores.regression


def test_filter_keeps_the_same_rows_with_the_same_scores(reference: Run) -> None:
    expected, own = reference.expected, reference.rows(reference.filtered)
    if "filter_video" in expected:
        wanted = reference.expected_rows("filter")
        np.testing.assert_array_equal(own[order(own)], wanted[order(wanted)])
        np.testing.assert_allclose(
            reference.filtered.scores[order(own)], expected["filter_score"][order(wanted)], rtol=2e-6
        )
    else:
        shape = expected["filter_count"].shape
        counts = np.bincount(own[:, 0] * shape[1] + own[:, 1], minlength=shape[0] * shape[1]).reshape(shape)
        np.testing.assert_array_equal(counts, expected["filter_count"])
        np.testing.assert_array_equal(np.bincount(own[:, 0], own[:, 2], shape[0]), expected["filter_prop_sum"])
        totals = np.bincount(own[:, 0], reference.filtered.scores.astype(float), shape[0])
        np.testing.assert_allclose(totals, expected["filter_score_sum"], rtol=1e-6)


def test_suppression_keeps_the_same_rows(reference: Run) -> None:
    own, wanted = reference.rows(reference.kept), reference.expected_rows("nms")
    np.testing.assert_array_equal(own[order(own)], wanted[order(wanted)])
    np.testing.assert_allclose(
        reference.kept.scores[order(own)], reference.expected["nms_score"][order(wanted)], rtol=2e-6
    )


def test_final_boundaries(reference: Run) -> None:
    boxes = reference.expected["final_box"]
    own, wanted = reference.rows(reference.final), reference.expected_rows("nms")[: len(boxes)]
    own_order, wanted_order = order(own), order(wanted)
    own_order = own_order[own[own_order, 1] <= wanted[:, 1].max()]
    np.testing.assert_array_equal(own[own_order], wanted[wanted_order])
    np.testing.assert_allclose(reference.final.intervals[own_order], boxes[wanted_order], rtol=0, atol=1e-6)
