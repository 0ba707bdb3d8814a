"""Single wrong timestamps are interpolated; lasting jumps are gaps."""

from __future__ import annotations

import numpy as np
import pytest

from ssn_feat.video.clock import timed
from ssn_feat.video.grid import snippet_grid

STEP = 0.04


def times(stamps: list[float | None], jumps: bool = False) -> tuple[list[float], list[int], list[int]]:
    """Times, numbers of repaired frames, numbers of frames after a gap."""
    items = list(timed(((None, stamp) for stamp in stamps), STEP, jumps))
    repaired = [i for i, item in enumerate(items) if item.repaired]
    return [item.time for item in items], repaired, [i for i, item in enumerate(items) if item.gap]


def regular(count: int, start: float = 0.0) -> list[float | None]:
    return [start + STEP * k for k in range(count)]


@pytest.mark.parametrize("wrong", [9.0, 0.0, -3.0, None])
@pytest.mark.parametrize("at", [5, 0, 19])
def test_a_single_wrong_timestamp_is_interpolated(wrong: float | None, at: int) -> None:
    stamps = regular(20)
    stamps[at] = wrong
    found, repaired, gaps = times(stamps)
    if at == 19 and wrong == 9.0:  # nothing after it tells that it is wrong
        return
    if at == 0 and wrong in (0.0, -3.0):  # which may be true
        return
    np.testing.assert_allclose(found, regular(20), atol=1e-9)
    assert (repaired, gaps) == ([at], [])


def test_variable_rates_are_left_alone() -> None:
    stamps: list[float | None] = [0, 0.04, 0.08, 1.0, 1.04, 12.0, 12.04, 12.08, 12.12, 30.0]
    assert times(stamps) == (stamps, [], [])


@pytest.mark.parametrize(("jumps", "gaps"), [(True, [10]), (False, [])])
def test_a_lasting_jump_forward_is_a_gap_where_formats_have_them(jumps: bool, gaps: list[int]) -> None:
    stamps = [*regular(10), *regular(10, start=60.0)]
    assert times(stamps, jumps) == (stamps, [], gaps)


def test_a_lasting_jump_back_is_a_gap_after_which_time_goes_on() -> None:
    found, repaired, gaps = times([*regular(10, start=5.0), *regular(10)])
    np.testing.assert_allclose(found, regular(20, start=5.0), atol=1e-9)
    assert (repaired, gaps) == ([], [10])


def test_frames_without_any_timestamp_follow_at_the_nominal_rate() -> None:
    found, repaired, _ = times([None] * 6)
    np.testing.assert_allclose(np.diff(found), STEP)
    assert len(repaired) >= 5


def test_no_row_spans_a_gap() -> None:
    stamps = np.array([*regular(20), *regular(9, start=60.0)], dtype=float)
    grid = snippet_grid(stamps, 60.36, 6, [20])
    assert grid.first.tolist() == [0, 6, 12, 20]
    assert grid.stop.tolist() == [20, 20, 20, 29]
    np.testing.assert_allclose(grid.spans, [[0, 0.24], [0.24, 0.48], [0.48, 0.8], [60.0, 60.36]])
