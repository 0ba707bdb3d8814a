"""Ids become names of files that are safe on any file system, and distinct ids stay distinct."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_feat.errors import UserError
from ssn_feat.store.keys import id_of, key_of

HOSTILE = [
    "../x", "/etc/passwd", "a/b", "a\\b", "nul\0byte", ".", "..", ".hidden", "a" * 300, "é" * 300, "A" * 60,
    "v_QOlSCBRmfWY", "v_qolscbrmfwy", "con", "NUL", "com1", "__reserved", "a.b.", "a b", "C:\\x", "videos", "zarr.json",
    "%2e", "~",
    "\udc80",
]  # fmt: skip


@pytest.mark.parametrize("video_id", HOSTILE)
def test_key_is_a_safe_name(video_id: str) -> None:
    key = key_of(video_id)
    assert re.fullmatch(r"[a-z0-9%_~-]+", key)
    assert len(key) <= 160
    assert key not in {"con", "nul", "com1"}
    assert not key.startswith("__")


def test_hostile_ids_stay_distinct() -> None:
    assert len({key_of(i).casefold() for i in HOSTILE}) == len(HOSTILE)


def test_plain_ids_are_readable() -> None:
    assert key_of("video_test_0000004") == "video_test_0000004"
    assert unquote(key_of("v_QOlSCBRmfWY")) == "v_QOlSCBRmfWY"


def test_long_ids_that_share_their_beginning_differ() -> None:
    assert key_of("a" * 300) != key_of("a" * 301)
    assert id_of(key_of("a" * 300)) is None


@given(st.text(min_size=1, max_size=40))
def test_short_keys_give_the_id_back(video_id: str) -> None:
    back = id_of(key_of(video_id))
    assert back in (video_id, None)
    assert back is not None or len(video_id.encode()) > 50


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300))
def test_distinct_ids_have_distinct_keys(a: str, b: str) -> None:
    assert (key_of(a) == key_of(b)) == (a == b)


def test_empty_id_is_refused() -> None:
    with pytest.raises(UserError, match="empty"):
        key_of("")
