"""Working ahead changes when items are made, not which."""

import threading
from collections.abc import Iterator

import pytest

from ssn_feat.extraction.prefetch import prefetch


def test_order_is_kept() -> None:
    assert list(prefetch(iter(range(100)), depth=3)) == list(range(100))
    assert list(prefetch(iter([]))) == []


def test_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("broken")

    seen = []
    with pytest.raises(ValueError, match="broken"):
        seen.extend(prefetch(items()))
    results = prefetch(items())
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(ValueError, match="broken"):
        next(results)


def test_no_more_than_depth_items_wait() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in range(50):
            made.append(i)
            yield i

    for used in prefetch(items(), depth=2):
        # One in use, two waiting, one made and not yet in the queue.
        assert len(made) <= used + 1 + 2 + 1


def test_closing_early_stops_the_thread() -> None:
    results = prefetch(iter(range(1000)), depth=1)
    assert next(results) == 0
    results.close()
    assert not [t for t in threading.enumerate() if t.name == "work-ahead"]
