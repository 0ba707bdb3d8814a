"""Dense scoring: the original's numbers with original_scoring, pooled features by default, and bad stages."""

import itertools

import numpy as np
import pytest
import torch
from conftest import meta
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssn_feat.errors import UserError
from ssn_feat.heads.dense import fold, pool_parts, score_dense
from ssn_feat.heads.ssn import SSNHead, SSNOptions
from ssn_feat.heads.stpp import Pyramid, RowSums, SegmentPooling, course_rows

PYRAMIDS = [(1, 1, 1), (1, (1, 2), 1), ((1, 2), (1, 2, 4), (1, 2)), (2, (1, 3, 5), (1, 3))]


def pool_rows(sums: RowSums, stages: Tensor, scaling: Tensor, pyramid: Pyramid) -> Tensor:
    """Pools all rows of each stage: float32 ``(N, 1 + parts, D)`` as :class:`SegmentPooling` makes of sampled segments.

    ``sums`` are those of features ``(T, D)``; ``stages`` int64 ``(N, 4)`` as in :meth:`Pyramid.part_rows`; ``scaling``
    ``(N, 2)``. Parts without a row are 0. Raises UserError as :func:`course_rows`.
    """
    begin, end = course_rows(stages, len(sums))
    activity = sums.means(begin, end)
    shares = torch.from_numpy(pyramid.part_shares()).to(scaling.device)
    parts = sums.means(*pyramid.part_rows(stages)) * (pyramid.part_scaling(scaling) * shares)[:, :, None]
    return torch.cat([activity[:, None], parts], dim=1).float()


def make_head(pyramid, width=24, classes=5, seed=0):
    options = SSNOptions(stpp=pyramid, segments=(4, 8, 4))
    head = SSNHead(width, classes, options).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, 0, 0.5, generator=generator)
    return head


def random_stages(rows, count, seed=0):
    """Stages in order, among them empty ones and courses of a single row."""
    generator = torch.Generator().manual_seed(seed)
    stages = torch.randint(0, rows + 1, (count, 4), generator=generator).sort(dim=1).values
    stages[:, 1].clamp_(max=rows - 1)
    stages[:, 0] = torch.minimum(stages[:, 0], stages[:, 1])
    stages[::5, 2] = stages[::5, 1] + 1
    stages[::5, 3] = torch.maximum(stages[::5, 2], stages[::5, 3])
    return stages, torch.rand(count, 2, generator=generator)


def test_pooling_of_snippet_scores_equals_the_original(golden):
    archive = golden("stpp_test.npz")
    compared = 0
    for case in meta(archive):
        a = {k.split("/")[1]: torch.from_numpy(v) for k, v in archive.items() if k.startswith(case["case"] + "/")}
        pyramid, k = Pyramid.of(case["stpp_cfg"]), case["num_class"]
        keep = ~a["undefined"] & (a["ticks"] >= 0).all(1)
        stages, scaling = a["ticks"][keep], a["scaling"][keep]
        rows, weights = pyramid.part_rows(stages), pyramid.part_scaling(scaling)
        slices = {name: a["scores"][:, slice(*case[f"{name}_slice"])] for name in ("act", "comp", "reg")}
        for name in ("act", "comp", "reg"):
            if name == "reg" and not case["with_regression"]:
                continue
            if name == "act" and case["standalong_classifier"]:
                assert slices["act"].shape[1] == k + 1
                ours = RowSums(slices["act"]).means(*course_rows(stages, case["n_frames"]))
            else:
                ours = pool_parts(slices[name], *rows, weights)
            torch.testing.assert_close(ours.float(), a[name][keep], atol=1e-5, rtol=1e-5)
            compared += len(stages)
    assert compared > 1500


def test_folded_head_equals_the_original_with_original_scoring(golden):
    archive = golden("test_fc.npz")
    for case in meta(archive):
        a = {k.split("/", 1)[1]: torch.from_numpy(v) for k, v in archive.items() if k.startswith(case["case"] + "/")}
        k, parts = case["num_class"], case["feat_multiplier"]
        head = SSNHead(case["feat_dim"], k, SSNOptions(stpp=tuple(case["stpp_cfg"]), segments=(4, 8, 4))).eval()
        layers = {key: value for key, value in a.items() if key.split(".")[0] in dict(head.named_children())}
        head.load_state_dict(layers, strict=case["with_regression"])
        folded = fold(head, original_scoring=True)
        columns = len(a["test_fc.weight"])
        assert columns == k + 1 + parts * k * (3 if case["with_regression"] else 1)
        assert torch.equal(folded.weight[:columns], a["test_fc.weight"])
        torch.testing.assert_close(folded.snippet_bias[:columns], a["test_fc.bias"], atol=1e-7, rtol=0)
        scores = score_dense(folded, a["features"], a["ticks"], a["scaling"])
        torch.testing.assert_close(scores[0], a["act"], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(scores[1], a["comp"], atol=1e-5, rtol=1e-5)
        if case["with_regression"]:
            torch.testing.assert_close(scores[2].flatten(1), a["reg"], atol=1e-5, rtol=1e-5)


def pool_plainly(features, stages, scaling, pyramid):
    """Dense pooling spelt out, a proposal, a stage and a part at a time."""
    result = []
    for bounds, (start, end) in zip(stages.tolist(), scaling.tolist(), strict=True):
        pooled = [features[bounds[1] : max(bounds[1] + 1, bounds[2])].mean(0)]
        for stage, factor in enumerate((start, 1.0, end)):
            left = bounds[stage]
            right = max(left + 1, bounds[stage + 1])
            for count in pyramid.levels[stage]:
                for i in range(count):
                    rows = features[left + (right - left) * i // count : left + (right - left) * (i + 1) // count]
                    mean = rows.mean(0) if len(rows) else torch.zeros(features.shape[1])
                    pooled.append(mean / sum(pyramid.levels[stage]) * factor)
        result.append(torch.stack(pooled))
    return torch.stack(result)


@pytest.mark.parametrize("config", PYRAMIDS)
def test_dense_equals_pooled(config):
    head = make_head(config)
    features = torch.randn(83, 24, generator=torch.Generator().manual_seed(1))
    stages, scaling = random_stages(83, 200)
    pooled = pool_rows(RowSums(features), stages, scaling, head.options.pyramid)
    torch.testing.assert_close(
        pooled, pool_plainly(features, stages, scaling, head.options.pyramid), atol=1e-5, rtol=1e-5
    )
    with torch.no_grad():
        expected = head.score(pooled)
    for ours, theirs in zip(score_dense(head, features, stages, scaling), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", PYRAMIDS)
def test_all_rows_as_segments_equal_dense_pooling(config):
    pyramid = Pyramid.of(config)
    lengths, scaling = (6, 11, 5), torch.tensor([[0.7, 0.3]])
    features = torch.randn(30, 8)
    stages = torch.tensor([[3, 9, 20, 25]])
    sampled = SegmentPooling(pyramid, lengths)(features[None, 3:25], scaling)
    torch.testing.assert_close(pool_rows(RowSums(features), stages, scaling, pyramid), sampled, atol=1e-5, rtol=1e-5)


def test_original_scoring_and_default_differ_only_where_they_should():
    features = torch.randn(50, 24)
    stages, _ = random_stages(50, 40)
    whole, cut = torch.ones(40, 2), torch.full((40, 2), 0.5)
    single = make_head((1, 1, 1))
    for ours, theirs in zip(
        score_dense(single, features, stages, whole),
        score_dense(fold(single, original_scoring=True), features, stages, whole),
        strict=True,
    ):
        # An ending stage beyond the last row is lost, with its share of the bias with original_scoring.
        inside = stages[:, 2] < 50
        torch.testing.assert_close(ours[inside], theirs[inside], atol=1e-5, rtol=1e-5)
    ours, theirs = (
        score_dense(f, features, stages, cut)[1] for f in (fold(single), fold(single, original_scoring=True))
    )
    torch.testing.assert_close(ours[inside] - theirs[inside], (single.completeness_fc.bias / 3).expand_as(ours[inside]))
    multiple = make_head((1, (1, 2), 1))
    ours, theirs = (
        score_dense(f, features, stages, whole)[1] for f in (fold(multiple), fold(multiple, original_scoring=True))
    )
    assert (ours - theirs).abs().max() > 0.1


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_parts_tile_their_stage_on_every_level(data):
    levels = st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple)
    pyramid = Pyramid.of(data.draw(st.tuples(levels, levels, levels)))
    bounds = sorted(data.draw(st.lists(st.integers(0, 10_000), min_size=4, max_size=4)))
    begin, end = (rows[0].tolist() for rows in pyramid.part_rows(torch.tensor([bounds])))
    part = 0
    for stage, counts in enumerate(pyramid.levels):
        for count in counts:
            edges = list(zip(begin, end, strict=True))[part : part + count]
            part += count
            assert edges[0][0] == bounds[stage]
            assert edges[-1][1] == max(bounds[stage] + 1, bounds[stage + 1])
            assert all(a[1] == b[0] for a, b in itertools.pairwise(edges))
            sizes = {e - b for b, e in edges}
            assert max(sizes) - min(sizes) <= 1


def test_sums_over_a_long_table_stay_exact():
    table = torch.randn(200_000, 2) + 100
    sums = RowSums(table)
    begin = torch.tensor([0, 199_998, 7, 200_000, 199_999])
    end = torch.tensor([1, 199_999, 7, 200_003, 200_004])
    means = sums.means(begin, end)
    np.testing.assert_allclose(means[:2], table[[0, 199_998]].double(), atol=1e-8)
    assert means[2].tolist() == means[3].tolist() == [0, 0]
    np.testing.assert_allclose(means[4], table[-1].double(), atol=1e-8)


def test_half_precision_features_are_scored_in_float32():
    head = make_head((1, 1, 1))
    features = torch.randn(40, 24).half()
    stages, scaling = random_stages(40, 10)
    for ours, theirs in zip(
        score_dense(head, features, stages, scaling),
        score_dense(head, features.float(), stages, scaling),
        strict=True,
    ):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs)


def test_no_proposals_give_no_scores():
    scores = score_dense(
        make_head((1, 1, 1)), torch.randn(3, 24), torch.zeros(0, 4, dtype=torch.int64), torch.ones(0, 2)
    )
    assert [tuple(s.shape) for s in scores] == [(0, 6), (0, 5), (0, 5, 2)]


@pytest.mark.parametrize(
    ("features", "stages", "message"),
    [
        (torch.zeros(5, 24), [[0, 5, 6, 7]], r"proposal 1 has the stage rows \[0, 5, 6, 7\]"),
        (torch.zeros(5, 24), [[-1, 0, 2, 3]], r"proposal 1 has the stage rows \[-1, 0, 2, 3\]"),
        (torch.zeros(5, 23), [[0, 1, 2, 3]], r"features of shape \(T, 24\), got \(5, 23\)"),
        (torch.full((5, 24), torch.nan), [[0, 1, 2, 3]], "row 0 of 5 holds a value that is not finite"),
        (torch.zeros(5, 24), [[0.0, 1, 2, 3]], r"whole numbers of shape \(N, 4\)"),
        (torch.zeros(5, 24), [[0, 1, 2]], r"whole numbers of shape \(N, 4\)"),
    ],
)
def test_bad_input_is_named(features, stages, message):
    stages = torch.tensor(stages)
    first = torch.zeros(1, stages.shape[1], dtype=stages.dtype)
    with pytest.raises(UserError, match=message):
        score_dense(make_head((1, 1, 1)), features, torch.cat([first, stages]), torch.ones(2, 2))


def test_scaling_of_another_length_is_refused():
    with pytest.raises(UserError, match="scaling"):
        score_dense(make_head((1, 1, 1)), torch.zeros(5, 24), torch.zeros(2, 4, dtype=torch.int64), torch.ones(1, 2))
