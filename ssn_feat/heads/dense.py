"""Scoring all proposals of a video in one pass over its snippets (SSN paper, "inference with reordered computation").

The layers of the head and the pooling are linear, so their order can be swapped: each snippet is scored once for every
part of the pyramid, and the score of a proposal is a weighted sum of mean snippet scores, in constant time per part.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ssn_feat.errors import UserError
from ssn_feat.heads.ssn import SSNHead
from ssn_feat.heads.stpp import Pyramid, RowSums, course_rows


@dataclass(frozen=True)
class FoldedHead:
    """The three layers of an :class:`SSNHead` as one linear layer on snippets; see :func:`fold`.

    Rows of ``weight``, float32 ``(columns, D)``: K + 1 of activity; then for each part K of completeness; then for each
    part 2K of regression. ``snippet_bias`` ``(columns,)`` is added to the scores of each snippet, ``proposal_bias``
    ``(4K + 1,)`` (activity, completeness, regression) to those of each proposal. ``part_shares`` ``(parts,)``: factor
    of each part in addition to the scaling of its stage.
    """

    pyramid: Pyramid
    classes: int
    weight: Tensor
    snippet_bias: Tensor
    proposal_bias: Tensor
    part_shares: Tensor


@torch.no_grad()
def fold(head: SSNHead, original_scoring: bool = False) -> FoldedHead:
    """Fold the three layers of ``head`` into one linear layer on snippets.

    By default the scores of a proposal are those of the head on features pooled over all snippets of each stage, the
    way it was trained. With ``original_scoring`` they are those of the original code, which made its published results
    this way: parts are not divided by the number of parts of their stage, and the biases of completeness and
    regression are spread over the parts, so they are scaled with the outer stages and lost with parts without snippets.
    The two differ for pyramids with more than one part in a stage, and in the biases where an extension is cut off.
    """
    parts, width = head.options.pyramid.parts, head.feature_dim
    activity, complete = head.activity_fc, head.completeness_fc
    weights, biases = zip((complete.weight, complete.bias), head.regression_layer(), strict=True)
    per_part = [each.view(-1, parts, width).transpose(0, 1).flatten(0, 1) for each in weights]
    weight = torch.cat([activity.weight, *per_part])
    shares = torch.from_numpy(head.options.pyramid.part_shares()).to(weight.device)
    if original_scoring:
        spread = [(bias / parts).repeat(parts) for bias in biases]
        snippet_bias = torch.cat([activity.bias, *spread])
        proposal_bias = weight.new_zeros(4 * head.classes + 1)
        shares = torch.ones_like(shares)
    else:
        snippet_bias = weight.new_zeros(len(weight))
        proposal_bias = torch.cat([activity.bias, *biases])
    return FoldedHead(head.options.pyramid, head.classes, weight, snippet_bias, proposal_bias, shares)


@torch.no_grad()
def score_dense(
    head: SSNHead | FoldedHead, features: Tensor, stages: Tensor, scaling: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Activity ``(N, K + 1)``, completeness ``(N, K)`` and regression ``(N, K, 2)`` of proposals of a video, float32.

    ``features`` ``(T, D)`` float16 or float32, one row per snippet; ``stages`` int64 ``(N, 4)``, the rows where each
    proposal's starting stage, course and ending stage begin and where its ending stage ends; ``scaling`` ``(N, 2)`` the
    fraction of its starting and ending extension inside the video. A stage without rows uses the row at its beginning;
    rows beyond T are cut off; parts without rows contribute nothing. Regression is normalised: multiply it by the
    standard deviation of the training targets and add their mean.

    Pass ``fold(head)`` to score many videos. Raises UserError for features of another width or with a value that is not
    finite, for a negative row, and for a course that begins after the last snippet.
    """
    folded = head if isinstance(head, FoldedHead) else fold(head)
    if features.ndim != 2 or features.shape[1] != folded.weight.shape[1]:
        raise UserError(f"the head takes features of shape (T, {folded.weight.shape[1]}), got {tuple(features.shape)}")
    if scaling.shape != (len(stages), 2):
        raise UserError(f"scaling must be of shape ({len(stages)}, 2), got {tuple(scaling.shape)}")
    k, pyramid = folded.classes, folded.pyramid
    begin, end = course_rows(stages, len(features))
    snippets = torch.addmm(folded.snippet_bias, features.to(folded.weight.dtype), folded.weight.T)
    activity, completeness, regression = snippets.split([k + 1, pyramid.parts * k, pyramid.parts * 2 * k], dim=1)
    rows, weights = pyramid.part_rows(stages), pyramid.part_scaling(scaling.double()) * folded.part_shares
    scores = torch.cat(
        [
            RowSums(activity).means(begin, end),
            pool_parts(completeness, *rows, weights),
            pool_parts(regression, *rows, weights),
        ],
        dim=1,
    )
    scores += folded.proposal_bias
    activity, completeness, regression = scores.float().split([k + 1, k, 2 * k], dim=1)
    return activity, completeness, regression.reshape(-1, k, 2)


def pool_parts(snippets: Tensor, begin: Tensor, end: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum over the parts of their mean snippet scores, float64 ``(N, L)``.

    ``snippets`` ``(T, parts * L)``: L columns for each part; ``begin``, ``end`` int64 ``(N, parts)``: rows of each part
    in each proposal (as in :class:`RowSums`); ``weights`` float64 ``(N, parts)``.
    """
    parts = begin.shape[1]
    # Each part has a contiguous table of sums, so that a range needs two reads of L adjacent numbers.
    tables = snippets.view(len(snippets), parts, -1).unbind(1)
    result = snippets.new_zeros(len(begin), tables[0].shape[1], dtype=torch.float64)
    for part, table in enumerate(tables):
        result += RowSums(table).means(begin[:, part], end[:, part]) * weights[:, part, None]
    return result
