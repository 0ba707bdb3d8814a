"""Average precision against the official toolkit, published tables, plain readings of both definitions, and laws."""

import gzip
import json

import numpy as np
import pytest
from conftest import meta
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ssn_feat.annotations.activitynet import read_activitynet
from ssn_feat.annotations.dataset import Dataset, Instance, Video
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_precision import average_precision_of, mean_average_precision, truths_of
from ssn_feat.evaluation.evaluation_set import EvaluationSet
from ssn_feat.evaluation.matching import Scored, Truths, rank
from ssn_feat.evaluation.measure import evaluate_detections
from ssn_feat.results.detections import Detections

DEFINITIONS = ["activitynet", "thumos14"]


def measured(*arguments):
    """Average precision of what ``rank`` takes."""
    return average_precision_of(rank(*arguments))


def match(detections, truths, thresholds, definition="activitynet"):
    """Row of the truth that each detection is counted for, or -1, in the given order: ``(n_tiou, N)``."""
    classes = 1 + max(rows.classes.max(initial=0) for rows in (detections, truths))
    ranked = rank(detections, truths, classes, thresholds, definition)
    result = np.empty_like(ranked.matched)
    result[:, ranked.order] = ranked.matched
    return result


def average_precision(videos, dataset, thresholds, definition="activitynet", marks=None):
    """Of ``{video id: (intervals, labels, scores)}``."""
    rows = {v: (i, [dataset.label_index[x] for x in names], s) for v, (i, names, s) in videos.items()}
    detections = Detections.of(dataset.labels, rows)
    return evaluate_detections(detections, dataset, thresholds, definition, marks).average_precision


def test_equals_the_official_toolkit(golden, shared):
    dataset = read_activitynet(shared / "golden" / "toolkit_gt.json").subset("testing")
    golden("toolkit_detections.json")  # skips where it is absent
    detections = Detections.read(shared / "golden" / "toolkit_detections.json", dataset.labels)
    for expected in golden("toolkit_results.json")["detection"].values():
        evaluation = evaluate_detections(detections, dataset, expected["tiou"], elsewhere="count")
        by_name = dict(zip(dataset.labels, evaluation.average_precision, strict=True))
        assert set(by_name) == set(expected["ap_per_class"])
        for label, values in expected["ap_per_class"].items():
            np.testing.assert_allclose(by_name[label], values, rtol=0, atol=1e-9)
        np.testing.assert_allclose(evaluation.mean, expected["mAP"], rtol=0, atol=1e-9)
        assert evaluation.average == pytest.approx(expected["average_mAP"], abs=1e-9)


def truths_of_list(path):
    """Truths of an absolute SSN proposal list, as the original evaluates them: fractions of the video."""
    rows = []
    for number, block in enumerate(gzip.decompress(path.read_bytes()).decode().split("\n# ")):
        words = [line.split() for line in block.splitlines()[1:]]
        frames = int(float(words[1][0]) * float(words[2][0]))
        for label, start, end in (map(int, row) for row in words[4 : 4 + int(words[3][0])]):
            if start < frames and min(end, frames) > start:
                rows.append((number, label - 1, start / frames, min(end, frames) / frames))
    columns = np.array(rows)
    return Truths(columns[:, 0].astype(int), columns[:, 1].astype(int), columns[:, 2:])


@pytest.mark.parametrize("variant", ["A1", "A2", "A3", "A4", "T1", "T2", "T3", "T4"])
def test_equals_the_evaluation_of_the_original(golden, variant):
    archive = golden(f"eval_out_{variant}.npz")
    kind = "anet" if variant[0] == "A" else "thumos"
    truths = truths_of_list(golden(f"eval_{kind}_proposal_list.txt.gz"))
    # Boxes of two variants are recorded for the first classes only; rows are sorted by class.
    rows = slice(0, len(archive["final_box"]))
    videos, classes, proposals = (archive[f"nms_{name}"][rows].astype(int) for name in ("video", "cls", "prop"))
    boxes = archive["final_box"].astype(float)
    if "--no_regression" in meta(archive)["argv"]:
        # Then they are the proposals, here in full precision: some tIoUs equal a threshold.
        scores = golden(f"eval_{kind}_rgb.npz")
        boxes = scores["rel_props"][scores["offsets"][videos] + proposals]
    ap = measured(
        Scored(videos, classes, boxes, archive["nms_score"][rows].astype(float)),
        truths,
        meta(archive)["num_class"],
        archive["iou"],
    )
    recorded = classes.max() + 1 if len(videos) < len(archive["nms_video"]) else len(ap)
    np.testing.assert_allclose(ap[:recorded], archive["ap"][:recorded], rtol=0, atol=1e-9)
    if recorded == len(ap):
        np.testing.assert_allclose(mean_average_precision(ap), archive["map"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["th14_test", "an12_val"])
def test_reproduces_published_tables(shared, name):
    published = json.loads((shared / "data/detections/autoloc" / f"{name}.json").read_text())
    numbers = {}

    def columns(rows):
        videos = [numbers.setdefault(row[1], len(numbers)) for row in rows]
        return np.array(videos), np.array([row[0] for row in rows]), np.array([row[2:4] for row in rows])

    truths = Truths(*columns(published["ground_truth"]))
    detections = Scored(*columns(published["detections"]), np.array([row[4] for row in published["detections"]]))
    ap = measured(detections, truths, truths.classes.max() + 1, published["tiou"])
    mean = mean_average_precision(ap)
    np.testing.assert_allclose(np.round(mean, 3), published["published_mAP"], atol=1e-12)
    assert round(mean.mean(), 3) == published["published_average"]


def test_truth_given_as_detections_is_perfect_on_real_annotations(shared):
    sample = shared / "data/detections/activitynet_sample/sample_detection_prediction.json"
    dataset = read_activitynet(shared / "data/annotations/activitynet/activity_net.v1-3.rebuilt.min.json")
    # Some of these truths have length zero, and all scores are equal.
    assert any(i.end == i.start for v in dataset.subset("validation").videos.values() for i in v.instances)
    detections = Detections.read(sample)
    evaluation = evaluate_detections(detections, dataset.subset("validation"), np.linspace(0.5, 0.95, 10))
    np.testing.assert_allclose(evaluation.average_precision, 1, atol=1e-12)


def toolkit_overlap(a, b):
    shared = max(min(a[1], b[1]) - max(a[0], b[0]), 0)
    union = (a[1] - a[0]) + (b[1] - b[0]) - shared
    return shared / union if union else float("inf")


def challenge_overlap(a, b):
    shared = min(a[1], b[1]) - max(a[0], b[0])
    return shared / (max(a[1], b[1]) - min(a[0], b[0])) if shared > 0 else 0


def plain_activitynet(detections, truths, threshold):
    """AP of one class, spelt out. Rows: (video, start, end, score) and (video, start, end)."""
    taken, hits = set(), []
    for video, start, end, _ in sorted(detections, key=lambda row: -row[3]):
        own = [(toolkit_overlap((start, end), t[1:]), i) for i, t in enumerate(truths) if t[0] == video]
        free = [pair for pair in own if pair[0] >= threshold and pair[1] not in taken]
        hits.append(bool(free))
        if free:
            taken.add(max(free)[1])
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    recall = np.cumsum(hits) / len(truths)
    return sum(
        max(precision[j] for j in range(i, len(hits))) * (recall[i] - (recall[i - 1] if i else 0))
        for i in range(len(hits))
    )


def plain_thumos14(detections, truths, threshold, ambiguous):
    """AP of one class of the challenge, spelt out."""
    ranked = sorted(detections, key=lambda row: -row[3])
    free, kept = [True] * len(ranked), []
    for video, *truth in truths:
        own = [i for i, row in enumerate(ranked) if row[0] == video and free[i]]
        best = max(own, key=lambda i: challenge_overlap(ranked[i][1:3], truth), default=None)
        if best is not None and challenge_overlap(ranked[best][1:3], truth) > threshold:
            free[best] = False
    for row, is_free in zip(ranked, free, strict=True):
        touches = any(challenge_overlap(row[1:3], mark[1:]) > 0 for mark in ambiguous if mark[0] == row[0])
        if not is_free or not touches:
            kept.append(not is_free)
    return sum(sum(kept[: i + 1]) / (i + 1) for i, hit in enumerate(kept) if hit) / len(truths)


# Whole numbers make tIoU ties, equality with thresholds, shared borders and empty intervals common.
moments = st.integers(0, 8)
spans = st.tuples(moments, moments).map(sorted)
truth_rows = st.lists(st.tuples(st.integers(0, 2), spans), min_size=1, max_size=8)
detection_rows = st.lists(st.tuples(st.integers(0, 3), spans), max_size=16)
threshold_lists = st.lists(st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 2 / 3, 0.75, 1.0]), min_size=1, max_size=4)


def arrays(rows, scores=None):
    videos = np.array([row[0] for row in rows], dtype=np.int64)
    intervals = np.array([row[1] for row in rows], dtype=np.float64).reshape(-1, 2)
    classes = np.zeros(len(rows), dtype=np.int64)
    return Truths(videos, classes, intervals) if scores is None else Scored(videos, classes, intervals, scores)


@settings(max_examples=300, deadline=None)
@given(detection_rows, truth_rows, truth_rows, threshold_lists, st.randoms(use_true_random=False))
def test_both_definitions_equal_their_plain_reading(found, known, doubtful, thresholds, random):
    scores = np.array([random.randrange(8) for _ in found], dtype=np.float64)
    detections, truths, marks = arrays(found, scores), arrays(known), arrays(doubtful[:2])
    plain_found = [(v, *span, s) for (v, span), s in zip(found, scores, strict=True)]
    plain_known = sorted(((v, *span) for v, span in known), key=lambda row: row[1:])
    plain_marks = [(v, *span) for v, span in doubtful[:2]]
    ours = measured(detections, truths, 1, thresholds)[0]
    theirs = [plain_activitynet(plain_found, plain_known, t) for t in thresholds]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    ours = measured(detections, truths, 1, thresholds, "thumos14", marks)[0]
    theirs = [plain_thumos14(plain_found, plain_known, t, plain_marks) for t in thresholds]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(detection_rows, truth_rows, st.sampled_from(DEFINITIONS), st.randoms(use_true_random=False))
def test_laws(found, known, definition, random):
    scores = np.array(random.sample(range(100), len(found)), dtype=np.float64)
    detections, truths = arrays(found, scores), arrays(known)
    thresholds = np.linspace(0.05, 1, 12)
    ap = measured(detections, truths, 1, thresholds, definition)[0]
    assert ((ap >= 0) & (ap <= 1 + 1e-12)).all()
    # Order of the rows does not matter where scores differ, nor does any rising function of the scores.
    order = np.array(random.sample(range(len(found)), len(found)), dtype=np.int64)
    shuffled = detections.rows(order)._replace(scores=np.exp(scores[order] / 20))
    np.testing.assert_array_equal(measured(shuffled, truths, 1, thresholds, definition)[0], ap)
    # Nor do shift and (here exact) scale of time, nor the numbers of videos.
    moved = (
        detections._replace(intervals=detections.intervals * 4 + 16),
        truths._replace(intervals=truths.intervals * 4 + 16),
    )
    moved = tuple(rows._replace(videos=rows.videos * 7 + 3) for rows in moved)
    np.testing.assert_array_equal(measured(*moved, 1, thresholds, definition)[0], ap)
    # All thresholds at once are the thresholds one by one.
    single = [measured(detections, truths, 1, t, definition)[0, 0] for t in thresholds]
    np.testing.assert_array_equal(single, ap)
    # A false alarm of the lowest score costs nothing.
    worse = Scored(
        *(np.concatenate(pair) for pair in zip(detections, arrays([(9, (0, 1))], np.array([-1.0])), strict=True))
    )
    np.testing.assert_allclose(measured(worse, truths, 1, thresholds, definition)[0], ap, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(detection_rows, truth_rows, truth_rows, st.sampled_from(DEFINITIONS), st.randoms(use_true_random=False))
def test_the_order_of_annotations_does_not_matter(found, known, doubtful, definition, random):
    ids, labels = ("c", "a", "d", "b"), ("jump", "run")
    instances = [(ids[v], Instance(random.choice(labels), *span)) for v, span in known]
    marks = [(ids[v], Instance("Ambiguous", *span)) for v, span in doubtful[:2]]
    rows = {id: [(span, random.choice(labels), random.randrange(3)) for v, span in found if ids[v] == id] for id in ids}
    detections = Detections.of(
        labels,
        {id: ([r[0] for r in own], [labels.index(r[1]) for r in own], [r[2] for r in own]) for id, own in rows.items()},
    )

    def result(order, instances):
        videos = [
            Video(
                id,
                9.0,
                "testing",
                tuple(i for v, i in instances if v == id),
                ambiguous=tuple(i for v, i in marks if v == id),
            )
            for id in order
        ]
        dataset = Dataset.of("d", videos, labels)
        ambiguous = EvaluationSet(dataset, dataset, 0, True, None).ambiguous
        return evaluate_detections(detections, dataset, [0.1, 0.25, 0.5], definition, ambiguous).average_precision

    first = result(ids, instances)
    for _ in range(3):
        order, shuffled = random.sample(ids, len(ids)), random.sample(instances, len(instances))
        np.testing.assert_array_equal(result(order, shuffled), first)


def test_detections_that_are_not_evaluated_keep_the_order_of_ties():
    dataset = Dataset.of("d", [Video("b", 9.0, "x", (Instance("run", 0, 4),))])
    inside, outside = ([(0, 4)], [0], [1.0]), ([(0, 4)], [0], [1.0])
    for other, expected in (("a", 0.5), ("c", 1.0)):
        detections = Detections.of(["run"], {other: outside, "b": inside})
        assert evaluate_detections(detections, dataset, [0.5], elsewhere="count").average == expected


def test_tied_detections_are_counted():
    dataset = Dataset.of("d", [Video("a", 9.0, "x", (Instance("run", 0, 4), Instance("jump", 0, 4)))])
    rows = ([(0, 4)] * 5, [0, 0, 0, 1, 1], [0.5, 0.5, 0.1, 0.5, 0.2])
    assert evaluate_detections(Detections.of(["jump", "run"], {"a": rows}), dataset, [0.5]).tied == 2


@settings(max_examples=100, deadline=None)
@given(truth_rows, st.sampled_from(DEFINITIONS))
@example([(0, [0, 2]), (0, [0, 2]), (1, [0, 2])], "activitynet")
def test_perfect_detections_have_precision_one(known, definition):
    # Those of length zero overlap nothing in the challenge's definition.
    known = [(video, (start, end + (start == end))) for video, (start, end) in known]
    truths = arrays(known)
    detections = Scored(*truths, np.ones(len(known)))
    ap = measured(detections, truths, 1, [0.1, 0.5, 0.99], definition)
    np.testing.assert_allclose(ap, 1, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(detection_rows, st.sampled_from(DEFINITIONS), st.randoms(use_true_random=False))
def test_never_rises_with_the_threshold_for_one_truth_a_video(found, definition, random):
    # With several truths a stricter threshold can free one for a better use, so this is no law in general.
    scores = np.array(random.sample(range(100), len(found)), dtype=np.float64)
    truths = arrays([(0, (1, 4)), (1, (2, 7)), (2, (3, 6))])
    ap = measured(arrays(found, scores), truths, 1, np.linspace(0, 1, 21), definition)[0]
    assert (np.diff(ap) <= 1e-12).all()


@settings(max_examples=100, deadline=None)
@given(detection_rows, truth_rows, threshold_lists, st.sampled_from(DEFINITIONS))
def test_matches_are_one_to_one_and_good_enough(found, known, thresholds, definition):
    detections, truths = arrays(found, np.arange(len(found), dtype=np.float64)), arrays(known)
    matched = match(detections, truths, thresholds, definition)
    assert matched.shape == (len(thresholds), len(found))
    overlap = toolkit_overlap if definition == "activitynet" else challenge_overlap
    for threshold, row in zip(thresholds, matched, strict=True):
        used = row[row >= 0]
        assert len(set(used.tolist())) == len(used)
        for detection, truth in zip(np.flatnonzero(row >= 0), used, strict=True):
            assert found[detection][0] == known[truth][0]
            value = overlap(found[detection][1], known[truth][1])
            assert value >= threshold if definition == "activitynet" else value > threshold


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_working_in_small_pieces_changes_nothing(monkeypatch, definition):
    random = np.random.default_rng(0)
    found = [(v, sorted(span)) for v, span in zip(random.integers(0, 5, 60), random.random((60, 2)), strict=True)]
    detections, truths = arrays(found[:45], random.random(45)), arrays(found[40:])
    whole = match(detections, truths, [0.1, 0.3], definition)
    monkeypatch.setattr("ssn_feat.evaluation.matching._PAIRS_AT_ONCE", 7)
    np.testing.assert_array_equal(match(detections, truths, [0.1, 0.3], definition), whole)


def test_equality_with_the_threshold():
    truths, detections = arrays([(0, (0, 4))]), arrays([(0, (0, 2))], np.ones(1))
    assert measured(detections, truths, 1, [0.5]).item() == 1
    assert measured(detections, truths, 1, [0.5], "thumos14").item() == 0


def test_the_definitions_differ_in_who_chooses():
    # The surer detection fits the first truth best, the other fits it still better.
    truths = arrays([(0, (0, 10)), (0, (12, 20))])
    detections = arrays([(0, (0, 14)), (0, (0, 10))], np.array([0.9, 0.8]))
    assert match(detections, truths, [0.05]).tolist() == [[0, -1]]
    assert match(detections, truths, [0.05], "thumos14").tolist() == [[1, 0]]


def test_ambiguous_intervals_forgive_false_positives_only():
    truths = arrays([(0, (0, 10)), (1, (0, 10))])
    detections = arrays([(0, (20, 30)), (0, (1, 10)), (1, (20, 30)), (1, (0, 10))], np.array([4.0, 3, 2, 1]))
    marks = arrays([(0, (5, 21))])
    plain = measured(detections, truths, 1, [0.5], "thumos14").item()
    assert plain == pytest.approx((1 / 2 + 2 / 4) / 2)
    forgiving = measured(detections, truths, 1, [0.5], "thumos14", marks).item()
    assert forgiving == pytest.approx((1 + 2 / 3) / 2)
    # A shared border is no touch.
    bordering = arrays([(0, (15, 20))])
    assert measured(detections, truths, 1, [0.5], "thumos14", bordering).item() == plain
    assert measured(detections, truths, 1, [0.5], "activitynet", marks).item() == pytest.approx(1 / 2)


def make_dataset():
    first = Video("first", 30, "testing", (Instance("run", 0, 10), Instance("jump", 12, 20)))
    return Dataset.of("d", [first, Video("second", 30, "testing")], ["jump", "run", "walk"])


def test_classes_without_truth_have_no_average_precision():
    detections = {
        "second": ([(0, 5)], ["run"], [0.9]),
        "first": ([(0, 10), (12, 20)], ["run", "jump"], [0.8, 0.7]),
    }
    ap = average_precision(detections, make_dataset(), [0.5, 0.9])
    np.testing.assert_allclose(ap, [[1, 1], [0.5, 0.5], [np.nan, np.nan]])
    np.testing.assert_allclose(mean_average_precision(ap), 0.75)
    marks = Truths(np.array([1]), np.array([0]), np.array([[4.0, 6]]))
    ap = average_precision(detections, make_dataset(), [0.5], "thumos14", marks)
    np.testing.assert_allclose(ap, [[1], [1], [np.nan]])


def test_truths_keep_the_order_of_the_data_set():
    truths = truths_of(make_dataset())
    assert truths.videos.tolist() == [0, 0]
    assert truths.classes.tolist() == [1, 0]
    assert truths.intervals.tolist() == [[0, 10], [12, 20]]


def test_detections_elsewhere_are_dropped_or_counted():
    dataset = make_dataset()
    detections = Detections.of(["run"], {"other": ([(0, 10)], [0], [0.9]), "first": ([(0, 10)], [0], [0.8])})
    assert evaluate_detections(detections, dataset, [0.5]).average_precision[1, 0] == 1
    assert evaluate_detections(detections, dataset, [0.5], elsewhere="count").average_precision[1, 0] == 0.5


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_nothing_detected_and_nothing_to_detect(definition):
    ap = average_precision({}, make_dataset(), [0.5], definition)
    np.testing.assert_array_equal(ap, [[0], [0], [np.nan]])
    ap = average_precision(
        {"a": ([(0, 1)], ["run"], [1])}, Dataset.of("d", [Video("a", 9, "x")], ["run"]), [0.5], definition
    )
    assert np.isnan(ap).all()
    assert np.isnan(mean_average_precision(ap)).all()


@pytest.mark.parametrize("thresholds", [[], [1.5], [-0.1], [np.nan], [50]])
def test_impossible_thresholds_are_refused(thresholds):
    with pytest.raises(UserError, match="tIoU thresholds"):
        average_precision({}, make_dataset(), thresholds)


def test_arrays_that_do_not_fit_are_refused():
    truths, detections = arrays([(0, (0, 4))]), arrays([(0, (0, 2))], np.ones(1))
    for wrong in (
        detections._replace(videos=np.zeros(2, dtype=np.int64)),
        detections._replace(classes=np.zeros(1)),
        detections._replace(classes=np.array([-1])),
        detections._replace(scores=np.ones(2)),
        detections._replace(scores=np.array([np.nan])),
    ):
        with pytest.raises(UserError):
            match(wrong, truths, [0.5])
    with pytest.raises(UserError, match="definition"):
        match(detections, truths, [0.5], "voc")
