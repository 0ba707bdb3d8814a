"""Raw scores: files, fusion, and the original's pickles."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from ssn_feat.annotations import Dataset, Video
from ssn_feat.detection.scores import ProposalScores, VideoScores, fuse, read_original
from ssn_feat.errors import UserError

LABELS = ("jump", "run")


def scores(seed: int, counts: tuple[int, ...] = (3, 0, 2), regression: bool = True) -> ProposalScores:
    random = np.random.default_rng(seed)
    placed = np.random.default_rng(0)
    return ProposalScores.of(
        LABELS,
        {
            f"v{number}": VideoScores(
                np.sort(placed.uniform(0, 10, (n, 2)), axis=1),
                random.normal(size=(n, 3)).astype(np.float32),
                random.normal(size=(n, 2)).astype(np.float32),
                random.normal(size=(n, 2, 2)).astype(np.float32) if regression else None,
                10.0 + number,
            )
            for number, n in enumerate(counts)
        },
    )


def same(a: ProposalScores, b: ProposalScores) -> None:
    assert (a.ids, a.labels) == (b.ids, b.labels)
    for name in ("offsets", "durations", "intervals", "activity", "completeness"):
        assert getattr(a, name).dtype == getattr(b, name).dtype
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.regression is None) == (b.regression is None)
    if a.regression is not None and b.regression is not None:
        np.testing.assert_array_equal(a.regression, b.regression)


@pytest.mark.parametrize("regression", [True, False])
def test_a_file_gives_back_every_bit(tmp_path: Path, regression: bool) -> None:
    made = scores(1, regression=regression)
    made.save(tmp_path / "s.npz")
    same(ProposalScores.load(tmp_path / "s.npz"), made)
    assert os.listdir(tmp_path) == ["s.npz"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"words", pickle.dumps({"v": 1})])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"s\.npz"):
        ProposalScores.load(tmp_path / "s.npz")


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", a=np.zeros(3))
    with pytest.raises(UserError, match="is not a file of scores of format 1"):
        ProposalScores.load(tmp_path / "s.npz")
    np.savez(tmp_path / "o.npz", a=np.array([{}], dtype=object))
    with pytest.raises(UserError, match="is not a file of scores"):
        ProposalScores.load(tmp_path / "o.npz")


def test_values_that_are_not_finite_are_refused() -> None:
    made = scores(1)
    made.completeness[4, 1] = np.nan
    with pytest.raises(UserError, match="completeness of video 'v2' holds a value that is not finite"):
        made.only(made.ids)


def test_fusion_is_the_weighted_mean() -> None:
    a, b = scores(1), scores(2)
    fused = fuse([a, b], (1, 3))
    np.testing.assert_allclose(fused.activity, 0.25 * a.activity + 0.75 * b.activity, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fused.regression, 0.25 * a.regression + 0.75 * b.regression, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fuse([a, b]).completeness, (a.completeness + b.completeness) / 2, rtol=1e-5, atol=1e-6)


def test_one_run_is_itself_and_inputs_stay_as_they_are() -> None:
    a, b = scores(1), scores(2)
    same(fuse([a], (5.0,)), a)
    fuse([a, b])
    same(a, scores(1))


def test_runs_that_do_not_fit_are_refused() -> None:
    a = scores(1)
    with pytest.raises(UserError, match="3 weights for 2 runs"):
        fuse([a, a], (1, 1, 1))
    with pytest.raises(UserError, match="not negative"):
        fuse([a, a], (1, -1))
    with pytest.raises(UserError, match="not all zero"):
        fuse([a, a], (0, 0))
    with pytest.raises(UserError, match="other videos than run 1: v2"):
        fuse([a, a.only(["v0", "v1"])])
    with pytest.raises(UserError, match=r"other proposals of video 'v2' than run 1 \(1 against 2\)"):
        fuse([a, scores(1, (3, 0, 1))])
    with pytest.raises(UserError, match="regression"):
        fuse([a, scores(1, regression=False)])
    with pytest.raises(UserError, match="no scores to fuse"):
        fuse([])


def dataset() -> Dataset:
    return Dataset.of("toy", [Video(f"v{n}", 10.0 + n, "testing") for n in range(3)], LABELS)


def original(path: Path, made: ProposalScores, name: str = "frames/v_{}") -> Path:
    content = {}
    for number, video in enumerate(made.ids):
        own = made[video]
        relative = own.intervals / own.duration
        content[name.format(video)] = (
            relative[None] if number % 2 else relative,  # the original stores some with a leading axis
            own.activity,
            own.completeness,
            None if own.regression is None else own.regression.reshape(len(relative), 4),
        )
    path.write_bytes(pickle.dumps(content, protocol=2))
    return path


@pytest.mark.parametrize("name", ["{}", "frames/v_{}", "/data/{}.mp4", "v_{}.avi"])
def test_the_originals_scores_are_read_where_pickles_are_allowed(tmp_path: Path, name: str) -> None:
    made = scores(3)
    read = read_original(original(tmp_path / "s.pc", made, name), dataset(), allow_pickle=True)
    np.testing.assert_allclose(read.intervals, made.intervals, rtol=1e-12)
    np.testing.assert_array_equal(read.regression, made.regression)
    assert read.ids == made.ids


def test_pickles_are_refused_by_default(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--allow-pickle"):
        read_original(original(tmp_path / "s.pc", scores(3)), dataset())


class Evil:
    def __reduce__(self) -> tuple:
        return (os.mkdir, ("pwned",))


def test_even_an_allowed_pickle_runs_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.pc").write_bytes(pickle.dumps({"v0": Evil()}))
    with pytest.raises(UserError, match=r"wants to import .*mkdir"):
        read_original(tmp_path / "s.pc", dataset(), allow_pickle=True)
    assert not (tmp_path / "pwned").exists()


def test_original_scores_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    other = Dataset.of("other", [Video("x", 1.0, "testing")], LABELS)
    with pytest.raises(UserError, match="video 'frames/v_v0' is not in data set"):
        read_original(original(tmp_path / "s.pc", scores(3)), other, allow_pickle=True)
    more = Dataset.of("toy", dataset().videos.values(), ("jump", "run", "swim"))
    with pytest.raises(UserError, match="do not fit 3 classes"):
        read_original(original(tmp_path / "s.pc", scores(3)), more, allow_pickle=True)
    (tmp_path / "t.pc").write_bytes(b"\x80\x02broken")
    with pytest.raises(UserError, match="not a score pickle"):
        read_original(tmp_path / "t.pc", dataset(), allow_pickle=True)
