import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_feat.errors import UserError
from ssn_feat.video import snippet_grid

GAPS = st.lists(st.floats(1e-3, 10.0), min_size=1, max_size=200)


@given(gaps=GAPS, start=st.floats(-0.5, 3.0), stride=st.integers(1, 40), length=st.integers(1, 20))
def test_spans_partition_the_video(gaps, start, stride, length):
    times = start + np.concatenate([[0.0], np.cumsum(gaps)])
    duration = times[-1] + 0.02
    grid = snippet_grid(times, duration, stride, length)
    assert len(grid.first) == len(grid.spans) >= 1
    assert grid.spans.dtype == np.float64
    assert grid.first.dtype == np.int64
    assert grid.spans[0, 0] == min(times[0], 0.0)
    assert grid.spans[-1, 1] == duration
    np.testing.assert_array_equal(grid.spans[1:, 0], grid.spans[:-1, 1])
    assert np.all(grid.spans[:, 1] > grid.spans[:, 0])
    inside = (grid.spans[:, 0] <= times[:, None]) & (times[:, None] < grid.spans[:, 1])
    np.testing.assert_array_equal(inside.sum(1), 1)
    np.testing.assert_array_equal(np.diff(grid.first), stride)
    last = grid.first[-1]
    if len(times) > length:
        assert last + length < len(times) <= last + stride + length
    else:
        assert last == 0


def test_the_original_sampling():
    grid = snippet_grid(np.arange(20) / 10, 2.0, stride=6, length=5)
    assert grid.first.tolist() == [0, 6, 12]
    np.testing.assert_allclose(grid.spans, [[0, 0.6], [0.6, 1.2], [1.2, 2.0]])


@pytest.mark.parametrize(
    ("times", "duration", "stride", "length"),
    [([], 1, 6, 5), ([0, 0], 1, 6, 5), ([1, 0], 2, 6, 5), ([0, 1], 1, 6, 5), ([0], 1, 0, 5), ([0], 1, 6, 0),
     ([0, np.nan], 1, 6, 5), ([0], np.nan, 6, 5)],
)  # fmt: skip
def test_bad_input(times, duration, stride, length):
    with pytest.raises(UserError):
        snippet_grid(times, duration, stride, length)
