"""Proposals that need no learning."""

from __future__ import annotations

import numpy as np
import pytest

from ssn_feat.annotations.dataset import Dataset, Instance, Video
from ssn_feat.errors import UserError
from ssn_feat.proposals import oracle_proposals, random_proposals, sliding_proposals, sliding_windows


def test_windows_come_in_an_order_of_their_own() -> None:
    both = sliding_proposals({"a": 30.0, "b": 30.0}, seed=1)
    np.testing.assert_array_equal(both.intervals["a"], sliding_windows(30.0))
    assert sorted(both.scores["a"]) == list(range(len(both.intervals["a"])))
    assert both.scores["a"].tolist() != both.scores["b"].tolist()
    alone = sliding_proposals({"b": 30.0}, seed=1)  # other videos make no difference, the seed does
    np.testing.assert_array_equal(alone.scores["b"], both.scores["b"])
    assert sliding_proposals({"b": 30.0}, seed=2).scores["b"].tolist() != both.scores["b"].tolist()


def test_random_intervals_are_spread_over_the_video() -> None:
    made = random_proposals({"a": 40.0}, 2000)
    rows = made.intervals["a"]
    assert (len(rows), rows.min() >= 0, rows.max() <= 40) == (2000, True, True)
    np.testing.assert_allclose(rows.mean(axis=0), [40 / 3, 80 / 3], atol=1)
    np.testing.assert_array_equal(made.top(5).intervals["a"], random_proposals({"a": 40.0}, 5).intervals["a"])
    with pytest.raises(UserError, match="at least 1"):
        random_proposals({"a": 1.0}, 0)


def test_the_oracle_is_the_truth() -> None:
    dataset = Dataset.of(
        "toy", [Video("a", 9.0, "test", (Instance("x", 1, 2), Instance("x", 4, 8))), Video("b", 9.0, "test")]
    )
    made = oracle_proposals(dataset)
    assert made.intervals["a"].tolist() == [[1, 2], [4, 8]]
    assert len(made.intervals["b"]) == 0
