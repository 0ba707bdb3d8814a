"""Dense anchors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_feat.errors import UserError
from ssn_feat.intervals import tiou
from ssn_feat.proposals import AnchorOptions, anchors


def test_by_hand() -> None:
    made = anchors(4.0, AnchorOptions(shortest=1.0, per_octave=1, anchor_step=0.5))
    ones = [[n / 2, n / 2 + 1] for n in range(7)]
    assert made.tolist() == [*ones, [0, 2], [1, 3], [2, 4], [0, 4]]
    assert anchors(0.5).tolist() == [[0, 0.5]]
    assert anchors(1.0).tolist() == [[0, 1]]


@given(st.floats(2.0, 300.0), st.floats(0, 1), st.floats(0, 1))
def test_nothing_of_a_second_or_more_is_far_from_an_anchor(duration: float, at: float, share: float) -> None:
    """Half a step aside and half a rung too long or short leave a tIoU of 2^(-1/4) * (1 - 1/8) or more."""
    length = 1.0 + share * (duration - 1.0)
    start = at * (duration - length)
    rows = anchors(duration)
    assert ((rows >= 0) & (rows <= duration)).all()
    assert (rows[:, 1] > rows[:, 0]).all()
    assert len(np.unique(rows, axis=0)) == len(rows)
    assert tiou([(start, start + length)], rows).max() >= 0.65


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AnchorOptions(shortest=0.0), "longer than 0 seconds"),
        (lambda: AnchorOptions(per_octave=0), "at least 1 length"),
        (lambda: AnchorOptions(anchor_step=1.5), "not 1.5"),
        (lambda: anchors(float("nan")), "not nan"),
        (lambda: anchors(-1.0), "not -1"),
    ],
)
def test_bad_values_are_named(call, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()
