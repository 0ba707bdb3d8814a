"""SSN proposal lists: byte-exact round trips, conversion, seconds, and every kind of damage."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssn_feat.annotations.dataset import Dataset, Instance, Video
from ssn_feat.errors import UserError
from ssn_feat.proposals import (
    ListedBlock,
    Proposals,
    list_blocks,
    listed_proposals,
    read_listed_videos,
    read_ssn_list,
    write_ssn_list,
)

TEXT = """\
# 0
frames/v_abc
100
1
2
3 10 20
1 30 45
2
3 0.5000 1.0000 12 17
0 0.0000 0.0000 50 60
# 7
v_def.mp4
50.5
2
0
1
0 0.0000 0.0000 9 5
"""

REAL = [
    "golden/anet_val_normalized_proposal_list.txt.gz",
    "golden/anet_val_proposal_list.txt.gz",
    "data/proposals/activitynet1.2_tag_val_normalized_proposal_list.txt",
    "data/proposals/thumos14_tag_test_normalized_proposal_list.from_ctap.txt",
]


def content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


@pytest.fixture
def listed(tmp_path: Path):
    """Writes a text to a file, gives its path."""

    def write(text: str | bytes) -> Path:
        path = tmp_path / "list.txt"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


@pytest.mark.parametrize("name", REAL)
def test_real_lists_survive_a_round_trip_byte_for_byte(shared, listed, tmp_path: Path, name: str) -> None:
    before = content(shared / name)
    blocks = read_ssn_list(listed(before))
    write_ssn_list(blocks, tmp_path / "again.txt", normalised="normalized" in name)
    assert (tmp_path / "again.txt").read_bytes() == before


def test_parsed_records_of_a_real_list(golden, listed) -> None:
    reference = golden("anet_dataset_parse.npz")
    videos = read_listed_videos(listed(content(golden("anet_val_proposal_list.txt.gz"))))
    assert [v.id for v in videos] == [f"frames/v_{id}" for id in reference["video_id"]] or [
        v.id for v in videos
    ] == reference["video_id"].tolist()
    np.testing.assert_array_equal([v.frames for v in videos], reference["n_frames"])
    np.testing.assert_array_equal([len(v.truth) for v in videos], reference["n_gt_raw"])
    np.testing.assert_array_equal([len(v.proposals) for v in videos], reference["n_prop_raw"])


def test_parsed_records_of_the_edge_cases(golden) -> None:
    expected = golden("edge_proposal_list.json")["load_proposal_file"]
    videos = read_listed_videos(golden("edge_proposal_list.txt"))
    assert [(v.id, v.frames) for v in videos] == [(id, frames) for id, frames, _, _ in expected]
    for video, (_, _, truth, proposals) in zip(videos, expected, strict=True):
        assert video.truth.tolist() == [[int(x) for x in row] for row in truth]
        assert video.proposals.tolist() == [[float(x) for x in row] for row in proposals]


def test_records_by_hand(listed) -> None:
    first, second = read_listed_videos(listed(TEXT))
    assert (first.id, first.frames, second.id, second.frames) == ("frames/v_abc", 100, "v_def.mp4", 101)
    assert first.truth.tolist() == [[3, 10, 20], [1, 30, 45]]
    assert first.proposals.tolist() == [[3, 0.5, 1, 12, 17], [0, 0, 0, 50, 60]]
    assert (second.truth.shape, second.proposals.shape) == ((0, 3), (1, 5))
    assert [b.number for b in read_ssn_list(listed(TEXT))] == [0, 7]


@pytest.mark.parametrize(
    "change", [lambda t: b"\xef\xbb\xbf" + t, lambda t: t.replace(b"\n", b"\r\n"), lambda t: b"\n" + t + b"\n\n"]
)
def test_marks_line_ends_and_blank_lines_are_no_fault(listed, tmp_path: Path, change) -> None:
    write_ssn_list(read_ssn_list(listed(change(TEXT.encode()))), tmp_path / "clean.txt", normalised=False)
    assert (tmp_path / "clean.txt").read_text() == TEXT


def test_times_in_seconds(listed) -> None:
    blocks = read_ssn_list(listed(TEXT))
    both = listed_proposals(blocks, {"v_abc": 4.0, "v_def.mp4": 8.0})
    assert both.ids == ("v_abc", "v_def.mp4")
    np.testing.assert_allclose(both.intervals["v_abc"], [[0.48, 0.68], [2, 2.4]])
    assert both.scores["v_abc"].tolist() == [0, -1]
    assert (both.score, both.parameters) == ("order", {"unknown_videos": 0, "reversed_rows": 1})
    known = listed_proposals(blocks, {"abc": 4.0})
    np.testing.assert_allclose(known.intervals["abc"], [[0.48, 0.68], [2, 2.4]])
    assert known.parameters["unknown_videos"] == 1
    with pytest.raises(UserError, match="'frames/v_abc'"):
        listed_proposals(blocks, {"other": 25.0})
    with pytest.raises(UserError, match=r"block # 0 .*frames/v_abc.: the length must be above 0"):
        listed_proposals(read_ssn_list(listed(TEXT.replace("\n100\n", "\n0\n"))), {"abc": 4.0})
    with pytest.raises(UserError, match=r"block # 7 .* of video 'abc', as is an earlier block"):
        listed_proposals(read_ssn_list(listed(TEXT.replace("v_def.mp4", "v_abc"))), {"abc": 4.0})


def test_a_list_of_proposals_and_truth(listed, tmp_path: Path) -> None:
    videos = [
        Video("a", 8.0, "test", (Instance("run", 2, 4), Instance("jump", 5, 8))),
        Video("b", 5.0, "test"),
        Video("no proposals", 5.0, "test"),
    ]
    dataset = Dataset.of("toy", videos)
    proposals = Proposals(
        {"b": [(0, 1)], "a": [(2, 3), (6.5, 8)], "other": []}, {"b": [1], "a": [2, 1], "other": []}, "test"
    )
    write_ssn_list(list_blocks(proposals, dataset), tmp_path / "n.txt", normalised=True)
    assert (tmp_path / "n.txt").read_text().split("\n") == [
        *("# 0", "a", "1", "1", "2", "2 0.2500 0.5000", "1 0.6250 1.0000"),
        *("2", "2 0.5000 1.0000 0.2500 0.3750", "1 0.5000 1.0000 0.8125 1.0000"),
        *("# 1", "b", "1", "1", "0", "1", "0 0.0000 0.0000 0.0000 0.2000", ""),
    ]
    with pytest.raises(UserError, match="none of the 1 video "):
        list_blocks(proposals.only(["other"]), dataset)


_NUMBERS = (
    st.from_regex(r"[0-9]{1,9}\.[0-9]{0,9}|\.[0-9]{1,17}|[0-9]{1,15}", fullmatch=True)
    | st.floats(0, 1).map("{:.4f}".format)
    | st.floats(-1e9, 1e9).map(repr)
    | st.sampled_from(["-0", "+1", "1e-3", "999999999999999", "0.99999999999999", "0.999999999999999"])
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 200), _NUMBERS, _NUMBERS), min_size=1, max_size=4), st.sampled_from([" ", "  "])
)
def test_numbers_are_those_of_float_to_the_last_bit(tmp_path: Path, rows, gap: str) -> None:
    lines = [gap.join(map(str, row)) for row in rows]
    (tmp_path / "list.txt").write_text("\n".join(["# 0", "v", "1", "1", str(len(rows)), *lines, "0", ""]))
    (block,) = read_ssn_list(tmp_path / "list.txt")
    expected = np.array([list(map(float, row)) for row in rows])
    assert block.truth.tobytes() == expected.tobytes()


@pytest.mark.parametrize("row", ["1 2", "1 2 3 4", "1 2 3.4.5", "1 2 .", "1 2 3,4", "1 2 0x10", "1 2 ٣٣", "1 2 3_0"])
def test_what_is_nearly_a_row_of_numbers(listed, row: str) -> None:
    with pytest.raises(UserError, match=r"line 6: expected 'class start end' of instance 1 of 2"):
        read_ssn_list(listed(f"# 0\nv\n1\n1\n2\n{row}\n1 2 3\n0\n"))


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        (TEXT, "", 1, "is empty"),
        (TEXT, "hello\n", 1, "expected the start of a block, '# <number>', not 'hello'"),
        ("# 7", "# seven", 11, "the number of the block, not '# seven'"),
        ("frames/v_abc\n", "\n", 2, "path of the video, not an empty line"),
        ("\n100\n", "\nnan\n", 3, "length in frames, not 'nan'"),
        ("\n100\n", "\n1e300\n", 3, "a video cannot have 1e+300 frames"),
        ("\n2\n3 10", "\n2.5\n3 10", 5, "number of instances, not '2.5'"),
        ("\n2\n3 10", "\n3\n3 10", 8, "instance 3 of 3, not '2'"),
        ("\n2\n3 10", "\n1\n3 10", 7, "number of proposals, not '1 30 45'"),
        ("\n2\n3 10", "\n999999999\n3 10", 5, "999999999 instances should follow, but only 12 lines are left"),
        ("\n2\n3 10", "\n" + "9" * 400 + "\n3 10", 5, "number of instances"),
        ("3 10 20", "3 10", 6, "expected 'class start end' of instance 1 of 2, not '3 10'"),
        ("3 10 20", "-1 10 20", 6, "not '-1 10 20'"),
        ("3 10 20", "1.5 10 20", 6, "not '1.5 10 20'"),
        ("3 10 20", f"{10**20} 10 20", 6, "not '1000"),
        ("12 17", "12 inf", 9, "proposal 1 of 2"),
        ("12 17", "12 x", 9, "proposal 1 of 2"),
        ("0 0.0000 0.0000 9 5\n", "", 16, "1 proposals should follow, but only 0 lines are left"),
        ("0 0.0000 0.0000 9 5\n", "0 0.0 0.0 9 5\n0 0.0 0.0 9 5\n", 18, "start of a block"),
    ],
)
def test_damage_is_named_with_its_line(listed, old: str, new: str, line: int, message: str) -> None:
    path = listed(TEXT.replace(old, new, 1))
    with pytest.raises(UserError) as error:
        read_ssn_list(path)
    assert str(error.value).startswith(f"{path}, line {line}: ")
    assert message in str(error.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.data())
def test_any_damage_is_an_error_with_a_line_or_harmless(tmp_path: Path, data: st.DataObject) -> None:
    lines = TEXT.split("\n")
    at = data.draw(st.integers(0, len(lines) - 1))
    lines[at] = data.draw(st.text(max_size=8) | st.sampled_from(["nan", "-1", "1e400", "9" * 30, "1 2 3", "#", "\t"]))
    path = tmp_path / "list.txt"
    path.write_bytes("\n".join(lines[: data.draw(st.integers(at, len(lines)))]).encode("utf-8", "surrogateescape"))
    error = ""
    try:
        read_ssn_list(path)
    except UserError as raised:
        error = str(raised)
    assert not error or (f"{path}, line " in error and "\n" not in error)


def test_what_is_no_text_or_no_list_in_frames(listed, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="byte 4 is not UTF-8"):
        read_ssn_list(listed(b"# 0\n\xff\xfe"))
    with pytest.raises(UserError, match="No such file"):
        read_ssn_list(tmp_path / "absent.txt")
    shares = TEXT.replace("3 10 20", "3 0.1 0.2")
    with pytest.raises(UserError, match=r"block # 0 \(frames/v_abc\) is normalised"):
        read_listed_videos(listed(shares))
    with pytest.raises(UserError, match="whole frames"):
        write_ssn_list(read_ssn_list(listed(shares)), tmp_path / "out.txt", normalised=False)
    with pytest.raises(UserError, match="cannot write"):
        write_ssn_list([], tmp_path, normalised=False)


@pytest.mark.parametrize("path", ["", " a", "a ", "# a", "a\nb", "a\rb", "\ud800", "\t"])
def test_a_path_that_a_list_cannot_hold(listed, tmp_path: Path, path: str) -> None:
    blocks = [replace(block, path=path) for block in read_ssn_list(listed(TEXT))]
    with pytest.raises(UserError, match="cannot stand in a proposal list"):
        write_ssn_list(blocks, tmp_path / "out.txt", normalised=False)


@given(st.text(min_size=1, max_size=6).filter(lambda text: not text.startswith("#") and text == text.strip()))
def test_any_other_path_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    path = re.sub("[\r\n\ud800-\udfff]", "-", path)
    folder = tmp_path_factory.mktemp("lists") / "of its own"
    block = ListedBlock(path, 100, 1, np.array([[1.0, 2, 3]]), np.zeros((0, 5)), 0)
    write_ssn_list([block], folder / "list.txt", normalised=False)
    assert read_ssn_list(folder / "list.txt")[0].path == path
