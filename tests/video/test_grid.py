import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_feat.errors import UserError
from ssn_feat.video import snippet_grid
from ssn_feat.video.grid import FLOW_LENGTH

GAPS = st.lists(st.floats(1e-3, 10.0), min_size=1, max_size=200)


@given(gaps=GAPS, start=st.floats(-0.5, 3.0), stride=st.integers(1, 40))
def test_spans_partition_the_video(gaps, start, stride):
    times = start + np.concatenate([[0.0], np.cumsum(gaps)])
    duration = times[-1] + 0.02
    grid = snippet_grid(times, duration, stride)
    assert len(grid.first) == len(grid.spans) >= 1
    assert grid.spans.dtype == np.float64
    assert grid.first.dtype == np.int64
    assert grid.spans[0, 0] == times[0]
    assert grid.spans[-1, 1] == duration
    np.testing.assert_array_equal(grid.spans[1:, 0], grid.spans[:-1, 1])
    assert np.all(grid.spans[:, 1] > grid.spans[:, 0])
    inside = (grid.spans[:, 0] <= times[:, None]) & (times[:, None] < grid.spans[:, 1])
    np.testing.assert_array_equal(inside.sum(1), 1)
    np.testing.assert_array_equal(np.diff(grid.first), stride)
    last = grid.first[-1]
    if len(times) > FLOW_LENGTH:
        assert last + FLOW_LENGTH < len(times) <= last + stride + FLOW_LENGTH
    else:
        assert last == 0


def test_the_original_sampling():
    grid = snippet_grid(np.arange(20) / 10, 2.0, stride=6)
    assert grid.first.tolist() == [0, 6, 12]
    np.testing.assert_allclose(grid.spans, [[0, 0.6], [0.6, 1.2], [1.2, 2.0]])


@pytest.mark.parametrize(
    ("times", "duration", "stride"),
    [([], 1, 6), ([0, 0], 1, 6), ([1, 0], 2, 6), ([0, 1], 1, 6), ([0], 1, 0), ([0, np.nan], 1, 6), ([0], np.nan, 6)],
)
def test_bad_input(times, duration, stride):
    with pytest.raises(UserError):
        snippet_grid(times, duration, stride)
