"""Per-frame average precision and the metrics of segmentation: by hand, by plain loops, and from files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_feat.annotations import Dataset, Instance, Video, write_activitynet
from ssn_feat.errors import UserError
from ssn_feat.evaluation.frame_metrics import (
    edit_score,
    frame_average_precision,
    hits_at,
    segmental_scores,
    segments_of,
)
from ssn_feat.evaluation.frames import FrameEvaluation, FramesOptions, measure_frames
from ssn_feat.evaluation.points import equidistant_points, every_frame, true_labels
from ssn_feat.proposals import Proposals
from ssn_feat.results.detections import Detections


def plain_average_precision(scores: list[float], truth: list[bool]) -> float:
    """Mean over the true points of the share of true points among all points with at least this score."""
    precisions = []
    for own, is_true in zip(scores, truth, strict=True):
        if is_true:
            retrieved = [other for score, other in zip(scores, truth, strict=True) if score >= own]
            precisions.append(sum(retrieved) / len(retrieved))
    return sum(precisions) / len(precisions) if precisions else float("nan")


def plain_segments(labels: list[int]) -> list[tuple[int, int, int]]:
    """Label, start and end of each run, without background (-1)."""
    runs, start = [], 0
    for position in range(1, len(labels) + 1):
        if position == len(labels) or labels[position] != labels[start]:
            runs.append((labels[start], start, position))
            start = position
    return [run for run in runs if run[0] != -1]


def plain_distance(a: list[int], b: list[int]) -> int:
    table = [[max(i, j) if 0 in (i, j) else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            replaced = table[i - 1][j - 1] + (a[i - 1] != b[j - 1])
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, replaced)
    return table[-1][-1]


def plain_f1(predicted: list[list[int]], truth: list[list[int]], overlap: float) -> float:
    """As MS-TCN counts: the best true segment of the class must reach the overlap and be free."""
    true_positives = false_positives = false_negatives = 0
    for ours, theirs in zip(map(plain_segments, predicted), map(plain_segments, truth), strict=True):
        hit = [False] * len(theirs)
        for label, start, end in ours:
            best, at = 0.0, -1
            for position, (other, first, last) in enumerate(theirs):
                share = (min(end, last) - max(start, first)) / (max(end, last) - min(start, first))
                if other == label and share > best:
                    best, at = share, position
            if best >= overlap and not hit[at]:
                true_positives, hit[at] = true_positives + 1, True
            else:
                false_positives += 1
        false_negatives += hit.count(False)
    if not true_positives:
        return 0.0
    precision = true_positives / (true_positives + false_positives)
    recall = true_positives / (true_positives + false_negatives)
    return 2 * precision * recall / (precision + recall)


def test_average_precision_by_hand() -> None:
    scores, truth = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    assert frame_average_precision(scores, truth) == pytest.approx((1 + 2 / 3) / 2)
    # Equal scores are retrieved together; points without a score come last.
    assert frame_average_precision(np.array([0.5, 0.5, 0.1, -np.inf]), truth) == pytest.approx((1 / 2 + 2 / 3) / 2)
    unscored = np.full(4, -np.inf)
    assert frame_average_precision(unscored, truth) == 0.5
    assert np.isnan(frame_average_precision(scores, np.zeros(4, dtype=bool)))


@given(
    st.lists(st.tuples(st.sampled_from([-np.inf, -1.0, 0.0, 0.25, 0.5, 1.0]), st.booleans()), min_size=1), st.randoms()
)
def test_average_precision_is_that_of_a_plain_loop_in_any_order(points: list, random) -> None:
    expected = plain_average_precision(*map(list, zip(*points, strict=True)))
    for _ in range(2):
        scores, truth = (np.array(column) for column in zip(*points, strict=True))
        assert frame_average_precision(scores, truth) == pytest.approx(expected, abs=1e-12, nan_ok=True)
        random.shuffle(points)


def test_distinct_scores_give_the_mean_precision_at_true_points() -> None:
    """The formula of Charades_v1_localize.m: sort by score, average the precision at each true point."""
    random = np.random.default_rng(0)
    scores, truth = random.permutation(500).astype(float), random.random(500) < 0.2
    ranked = truth[np.argsort(-scores)]
    expected = (np.cumsum(ranked) / np.arange(1, 501))[ranked].mean()
    assert frame_average_precision(scores, truth) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_that_of_scikit_learn(seed: int) -> None:
    """Published evaluations of MultiTHUMOS use it; it also retrieves equal scores together."""
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(seed)
    scores, truth = random.integers(0, 50, 400) / 50, random.random(400) < 0.1
    unscored = np.where(scores < 0.2, -np.inf, scores)
    for ours, theirs in ((scores, scores), (unscored, np.where(scores < 0.2, -1.0, scores))):
        expected = metrics.average_precision_score(truth, theirs)
        assert frame_average_precision(ours, truth) == pytest.approx(expected, abs=1e-12)


def test_segmentation_by_hand() -> None:
    truth = np.array([0, 0, 0, 0, -1, -1, 1, 1, 1, 1])
    predicted = np.array([0, 0, -1, 0, -1, 2, 2, 1, 1, 1])
    ours, theirs = segments_of(predicted), segments_of(truth)
    assert (ours.labels.tolist(), ours.starts.tolist(), ours.ends.tolist()) == (
        [0, 0, 2, 1],
        [0, 3, 5, 7],
        [2, 4, 7, 10],
    )
    # 0 0 2 1 against 0 1: two labels must be deleted.
    assert edit_score(ours, theirs) == 1 - 2 / 4
    # IoU of the segments of class 0: 1/2 and 1/4, with the same instance, so one hit; of class 1: 3/4.
    assert hits_at(ours, theirs, (0.1, 0.25, 0.5, 0.6)).tolist() == [2, 2, 2, 1]
    scores = segmental_scores([predicted], [truth], (0.1, 0.25, 0.5, 0.6))
    assert scores.f1 == pytest.approx((2 * 2 / 6, 2 * 2 / 6, 2 * 2 / 6, 2 * 1 / 6))
    assert (scores.accuracy, scores.edit) == (0.7, 0.5)


def test_segmentation_without_segments() -> None:
    empty, full = np.full(4, -1), np.zeros(4, dtype=np.int64)
    assert segmental_scores([empty], [empty]).edit == 1.0
    assert np.isnan(segmental_scores([empty], [empty]).f1).all()
    assert segmental_scores([full], [empty]).f1 == (0.0, 0.0, 0.0)
    assert segmental_scores([empty], [full]).edit == 0.0
    assert len(segments_of(np.zeros(0, dtype=np.int64)).labels) == 0


labels = st.lists(st.integers(-1, 2), min_size=1, max_size=25)


@given(
    st.lists(
        st.tuples(labels, labels).map(lambda pair: [x[: min(map(len, pair))] for x in pair]), min_size=1, max_size=4
    )
)
def test_segmentation_is_that_of_plain_loops(videos: list) -> None:
    predicted, truth = map(list, zip(*videos, strict=True))
    scores = segmental_scores(*([np.array(each) for each in part] for part in (predicted, truth)), (0.1, 0.25, 0.5))
    names = [[[run[0] for run in plain_segments(each)] for each in part] for part in (predicted, truth)]
    edits = [1 - plain_distance(a, b) / max(len(a), len(b)) if a or b else 1.0 for a, b in zip(*names, strict=True)]
    assert scores.edit == pytest.approx(np.mean(edits), abs=1e-12)
    if any(names[0]) or any(names[1]):
        assert scores.f1 == pytest.approx([plain_f1(predicted, truth, t) for t in scores.overlaps], abs=1e-12)
    mapped = [np.array([[-1, 2, 0, 1][label + 1] for label in each]) for each in predicted]
    renamed = segmental_scores(mapped, [np.array([[-1, 2, 0, 1][label + 1] for label in each]) for each in truth])
    assert (renamed.accuracy, renamed.edit) == (scores.accuracy, scores.edit)
    assert renamed.f1 == pytest.approx(scores.f1, nan_ok=True)


def test_points_of_charades_and_frames() -> None:
    video = Video("v", 50.0, "test", (Instance("a", 2.0, 4.0), Instance("b", 4.0, 6.0)), fps=2.0)
    dataset = Dataset.of("d", [video, Video("w", 1.1, "test", fps=10.0)])
    points = equidistant_points(dataset, 25)
    assert points.times[:4].tolist() == [0, 2, 4, 6]
    assert (points.times[24], points.times[25]) == (48, 0)
    first, last = points.covered(np.array([0, 0]), video.intervals())
    assert (first.tolist(), last.tolist()) == ([1, 2], [3, 4])  # ends belong to instances
    frames = every_frame(dataset)
    assert np.diff(frames.offsets).tolist() == [100, 11]
    first, last = frames.covered(np.array([0, 0]), video.intervals())
    assert (first.tolist(), last.tolist()) == ([4, 8], [8, 12])
    assert np.diff(every_frame(dataset, fps=1.0).offsets).tolist() == [50, 2]
    with pytest.raises(UserError, match=r"the frame rate of video 'v' is unknown: .*--fps"):
        every_frame(Dataset.of("d", [replace(video, fps=None)]))


def test_one_label_where_instances_overlap() -> None:
    instances = (Instance("b", 0, 10), Instance("a", 4, 6), Instance("c", 4, 8))
    dataset = Dataset.of("d", [Video("v", 10.0, "test", instances, fps=1.0)])
    found, several = true_labels(dataset, every_frame(dataset))
    assert found.tolist() == [1, 1, 1, 1, 0, 0, 2, 2, 1, 1]
    assert several == 4


def random_case(seed: int, folder: Path, names: tuple[str, ...] = ("a", "b", "c"), flip: bool = False) -> FramesOptions:
    """Random instances and detections with tied scores; ``flip`` reverses the order of videos and rows."""
    random = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    videos, results = [], {}
    for number in range(4):
        ends = np.sort(random.integers(0, 41, (6, 2)) / 2, axis=1)
        classes, scores = random.integers(0, 3, 6), random.integers(1, 5, 6) / 4
        videos.append(
            Video(
                f"v{number}",
                20.0,
                "test",
                tuple(
                    Instance(names[c], *map(float, e))
                    for c, e in zip(classes[:3], ends[:3], strict=True)
                    if e[0] < e[1]
                ),
                fps=4.0,
            )
        )
        results[f"v{number}"] = [
            {"label": names[c], "score": float(s), "segment": e.tolist()}
            for c, s, e in zip(random.permutation(classes), scores, ends + random.integers(-1, 2), strict=True)
        ]
    if flip:
        videos = [replace(video, instances=video.instances[::-1]) for video in videos[::-1]]
        results = {video: rows[::-1] for video, rows in reversed(results.items())}
    write_activitynet(Dataset.of("d", videos, sorted(names)), folder / "truth.json")
    (folder / "d.json").write_text(json.dumps({"results": results}))
    return FramesOptions((folder / "d.json",), str(folder / "truth.json"), quiet=True, points=7, fps=4.0)


def plain_frames(options: FramesOptions) -> dict[str, list[float]]:
    """Per-frame average precision of each class at the points and at every frame, by loops over everything."""
    truth = json.loads(Path(options.annotations).read_text())["database"]
    results = json.loads(options.files[0].read_text())["results"]
    values: dict[str, list[float]] = {}
    for label in ("a", "b", "c"):
        for times, closed in (([20 * j / 7 for j in range(7)], True), ([j / 4 for j in range(80)], False)):
            scores, positive = [], []
            for video, entry in truth.items():
                for time in times:
                    inside = lambda s, e, t=time, c=closed: s <= t and (t <= e if c else t < e)  # noqa: E731
                    covering = [r["score"] for r in results[video] if r["label"] == label and inside(*r["segment"])]
                    scores.append(max(covering, default=-np.inf))
                    annotated = (i for i in entry["annotations"] if i["label"] == label)
                    positive.append(any(inside(*i["segment"]) for i in annotated))
            values.setdefault(label, []).append(plain_average_precision(scores, positive))
    return values


def numbers(result: FrameEvaluation) -> list[float]:
    segmental = result.segmental
    means = [np.nanmean(result.at_points), np.nanmean(result.at_frames)]
    return [*means, segmental.accuracy, segmental.edit, *segmental.f1]


@pytest.mark.parametrize("seed", range(5))
def test_files_are_measured_as_by_plain_loops(tmp_path: Path, seed: int) -> None:
    options = random_case(seed, tmp_path)
    (result,) = measure_frames(options)
    for position, values in enumerate(plain_frames(options).values()):
        ours = [result.at_points[position], result.at_frames[position]]
        assert ours == pytest.approx(values, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("seed", range(5))
def test_order_and_names_do_not_matter(tmp_path: Path, seed: int) -> None:
    (result,) = measure_frames(random_case(seed, tmp_path / "first"))
    (flipped,) = measure_frames(random_case(seed, tmp_path / "second", flip=True))
    assert numbers(flipped) == pytest.approx(numbers(result), abs=1e-12)
    # Ties between classes are decided by their order, so only average precision is compared.
    (renamed,) = measure_frames(random_case(seed, tmp_path / "third", names=("z", "y", "x")))
    assert renamed.at_frames[::-1] == pytest.approx(result.at_frames, abs=1e-12, nan_ok=True)


def truth_of_one(folder: Path) -> str:
    instances = (Instance("a", 0.0, 4.0), Instance("b", 4.0, 6.0))
    write_activitynet(Dataset.of("d", [Video("v", 8.0, "test", instances, fps=1.0)]), folder / "truth.json")
    return str(folder / "truth.json")


def snippets(path: Path, **changed: object) -> Path:
    scores = np.array([[0.9, 0.1], [0.8, 0.3], [0.2, 0.7], [0.4, 0.1]])
    spans = np.array([[0, 2], [2, 4], [4, 6], [6, 8]])
    arrays = {"ids": ["v"], "offsets": [0, 4], "labels": ["a", "b"], "scores": scores, "spans": spans}
    np.savez(path, **{**arrays, **changed})
    return path


def test_scores_of_snippets(tmp_path: Path, capsys) -> None:
    options = FramesOptions(
        (snippets(tmp_path / "s.npz"),), truth_of_one(tmp_path), fps=1.0, json=tmp_path / "out.json"
    )
    (result,) = measure_frames(options)
    assert result.at_frames.tolist() == [1.0, 1.0]
    assert (result.segmental.accuracy, result.segmental.edit, result.segmental.f1) == (1.0, 1.0, (1.0, 1.0, 1.0))
    assert "100.0" in capsys.readouterr().out
    written = json.loads((tmp_path / "out.json").read_text())["files"][0]
    assert (written["mAP_frames"], written["F1@10"], written["AP_frames"]) == (1.0, 1.0, {"a": 1.0, "b": 1.0})
    # From a score of 0.85 only the first snippet is an action.
    (strict,) = measure_frames(replace(options, threshold=0.85))
    assert (strict.segmental.accuracy, strict.segmental.edit) == (0.5, 0.5)
    # Columns in another order, and a class without scores.
    swapped = np.array([[0.1, 0.9], [0.3, 0.8], [0.7, 0.2], [0.1, 0.4]])
    (other,) = measure_frames(
        replace(options, files=(snippets(tmp_path / "o.npz", labels=["b", "a"], scores=swapped),))
    )
    assert other.plain | {"name": "s"} == result.plain
    (half,) = measure_frames(
        replace(options, files=(snippets(tmp_path / "h.npz", labels=["a"], scores=swapped[:, 1:]),))
    )
    assert half.at_frames.tolist() == [1.0, 0.25]


def test_actionness_is_measured_without_classes(tmp_path: Path) -> None:
    actionness = {"v": np.array([0.9, 0.8, 0.7, 0.2], dtype=np.float32)}
    spans = {"v": np.array([[0.0, 2], [2, 4], [4, 6], [6, 8]])}
    Proposals({"v": [(0, 6)]}, {"v": [1]}, "tag", {}, actionness, spans).save(tmp_path / "tag.npz")
    (result,) = measure_frames(FramesOptions((tmp_path / "tag.npz",), truth_of_one(tmp_path), fps=1.0, quiet=True))
    assert (result.labels, result.at_frames.tolist(), result.segmental.accuracy) == (("any action",), [1.0], 1.0)


def test_faults_are_named(tmp_path: Path) -> None:
    truth = truth_of_one(tmp_path)
    Detections.of(("c",), {"v": ([[0, 1]], [0], [0.5])}).write(tmp_path / "class.json")
    Detections.of(("a",), {"w": ([[0, 1]], [0], [0.5])}).write(tmp_path / "video.json")
    Proposals({"v": [(0, 6)]}, {"v": [1]}, "x").save(tmp_path / "bare.npz")
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "arrays.npz", ids=["v"])
    nan = np.full((4, 2), np.nan)
    for name, message in {
        "class.json": "unknown class 'c'",
        "video.json": "1 video is not in the annotations, such as 'w'",
        "bare.npz": "holds no actionness",
        "text.npz": "is not an .npz file of plain arrays",
        "arrays.npz": "it has no array 'offsets'",
        "absent.npz": "cannot read the scores",
        "x.txt": "is neither detections",
        snippets(tmp_path / "nan.npz", scores=nan).name: "video 'v', snippet 0 has a score",
        snippets(
            tmp_path / "late.npz", spans=np.array([[4, 6], [2, 4], [6, 7], [7, 8]])
        ).name: "snippet 1 starts before",
        snippets(tmp_path / "short.npz", offsets=[0, 3]).name: "offsets do not split 4 rows",
        snippets(tmp_path / "other.npz", ids=["w"]).name: "it holds 1 video, none",
        snippets(tmp_path / "label.npz", labels=["a", "z"]).name: "unknown class 'z'",
    }.items():
        with pytest.raises(UserError, match=message) as error:
            measure_frames(FramesOptions((tmp_path / name,), truth, fps=1.0, quiet=True))
        assert str(tmp_path / name) in str(error.value)
    with pytest.raises(UserError, match="fps must be above 0"):
        FramesOptions((), truth, fps=0.0)
    with pytest.raises(UserError, match="name at least one file"):
        measure_frames(FramesOptions((), truth))
