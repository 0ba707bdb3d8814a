"""Error analysis on cases made by hand, and against a plain reading of the definitions."""

from __future__ import annotations

import csv
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest

from ssn_feat.annotations import Dataset, Instance, Video, read_annotations, write_activitynet
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_precision import average_precision_of, truths_of
from ssn_feat.evaluation.error_analysis import KINDS, analyse, error_kinds, normalised_average_precision
from ssn_feat.evaluation.error_buckets import BUCKETS, Bucket, buckets_of, characteristics
from ssn_feat.evaluation.evaluate import PRESETS, EvaluateOptions, evaluate
from ssn_feat.evaluation.matching import Scored, rank
from ssn_feat.results.detections import Detections

DATASET = Dataset.of(
    "toy",
    [
        Video("one", 100.0, "testing", (Instance("jump", 10, 20), Instance("run", 40, 60))),
        Video("two", 100.0, "testing", (Instance("jump", 0, 10),)),
        Video("none", 100.0, "testing"),
    ],
)
JUMP, RUN = 0, 1


def scored(*rows: tuple[int, int, float, float]) -> Scored:
    """Detections (video, class, start, end), the first of highest score."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return Scored(
        table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2:], -np.arange(len(rows), dtype=float)
    )


# One detection of every kind at tIoU 0.5, best first.
EVERY_KIND = (
    ((0, JUMP, 10, 20), "true positive"),
    ((0, JUMP, 10, 19), "double detection"),
    ((0, JUMP, 41, 60), "wrong label"),
    ((0, JUMP, 16, 26), "localization"),  # tIoU 4 / 16
    ((0, JUMP, 55, 65), "confusion"),  # 5 / 25
    ((0, JUMP, 70, 80), "background"),
    ((0, JUMP, 58, 78), "background"),  # 2 / 38
    ((2, JUMP, 10, 20), "background"),
    ((1, RUN, 0, 10), "wrong label"),
    ((0, RUN, 40, 60), "true positive"),
)


def test_every_kind_by_hand() -> None:
    detections, truths = scored(*(row for row, _ in EVERY_KIND)), truths_of(DATASET)
    ranked = rank(detections, truths, 2, (0.5,))
    [kinds] = error_kinds(ranked, np.arange(len(EVERY_KIND)), truths, (0.5,))
    assert [KINDS[kind] for kind in kinds] == [kind for _, kind in EVERY_KIND]


def test_a_stricter_threshold_turns_hits_into_localization_errors() -> None:
    detections, truths = scored((0, JUMP, 10, 18)), truths_of(DATASET)
    ranked = rank(detections, truths, 2, (0.5, 0.9))
    kinds = error_kinds(ranked, np.arange(1), truths, (0.5, 0.9))
    assert [KINDS[kind] for kind in kinds[:, 0]] == ["true positive", "localization"]


def test_of_truths_of_the_same_seconds_the_one_of_its_class_counts() -> None:
    both = (Instance("diving", 0, 10), Instance("cliff", 0, 10))
    truths = truths_of(Dataset.of("d", [Video("v", 20.0, "testing", both)]))
    ranked = rank(scored((0, 1, 0, 10), (0, 1, 0, 9)), truths, 2, (0.5,))
    [kinds] = error_kinds(ranked, np.arange(2), truths, (0.5,))
    assert [KINDS[kind] for kind in kinds] == ["true positive", "double detection"]


def test_detections_are_counted_in_groups_of_as_many_as_truths() -> None:
    # jump has 2 truths: its first group are the first two detections. run has 1.
    found = analyse(scored(*(row for row, _ in EVERY_KIND)), DATASET, (0.5,))
    assert found.counts.shape == (1, 10, 6)
    by_group = [[KINDS[kind] for kind in np.repeat(np.arange(6), row)] for row in found.counts[0]]
    assert by_group[0] == ["true positive", "double detection", "wrong label"]
    assert by_group[1] == ["true positive", "wrong label", "localization"]
    assert by_group[2] == ["confusion", "background"]
    assert by_group[3] == ["background", "background"]
    assert not any(by_group[4:])
    np.testing.assert_allclose(found.shares[1], [1 / 3, 0, 1 / 3, 1 / 3, 0, 0])
    np.testing.assert_allclose(found.share, [0.2, 0.1, 0.2, 0.1, 0.1, 0.3])


def test_detections_beyond_ten_times_the_truths_are_not_looked_at() -> None:
    found = analyse(scored(*[(2, RUN, 0, 5)] * 14), DATASET, (0.5, 0.7))
    assert found.counts.sum(axis=(1, 2)).tolist() == [10, 10]


def test_gains_by_hand() -> None:
    # Both classes: N = 1.5 truths on the mean. jump: hit, double, hit; run: background, hit.
    detections = scored((0, JUMP, 10, 20), (0, JUMP, 10, 20), (1, JUMP, 0, 10), (2, RUN, 0, 9), (0, RUN, 40, 60))
    found = analyse(detections, DATASET, (0.5,))
    jump, run = (1 + 1.5 / 2.5) / 2, 1.5 / 2.5
    assert found.average_map == pytest.approx((jump + run) / 2)
    assert found.limited_map == pytest.approx(found.average_map)
    np.testing.assert_allclose(found.gains, [(1 - jump) / 2, 0, 0, 0, (1 - run) / 2])


def test_equal_numbers_of_truths_make_normalised_ap_plain_ap() -> None:
    dataset = Dataset.of("d", [Video("v", 100.0, "testing", (Instance("a", 0, 10), Instance("b", 20, 30)))])
    random = np.random.default_rng(0)
    detections = Scored(
        np.zeros(40, dtype=np.int64),
        random.integers(0, 2, 40),
        np.sort(random.random((40, 2)), axis=1) * 35,
        random.random(40),
    )
    truths = truths_of(dataset)
    ranked = rank(detections, truths, 2, (0.3,))
    own = normalised_average_precision(ranked.detections.classes, ranked.matched[0] >= 0, ranked.numbers, 1.0)
    np.testing.assert_allclose(own, average_precision_of(ranked)[:, 0])


def test_characteristics_by_hand() -> None:
    video = Video(
        "v",
        100.0,
        "testing",
        (Instance("a", 10, 20), Instance("a", 30, 50), Instance("b", 30, 50), Instance("b", 45, 60)),
    )
    found = characteristics(Dataset.of("d", [video, Video("w", 50.0, "testing", (Instance("a", 0, 60),))]))
    np.testing.assert_allclose(found["coverage"], [0.1, 0.2, 0.2, 0.15, 1.0])
    np.testing.assert_allclose(found["length"], [10, 20, 20, 15, 60])
    np.testing.assert_array_equal(found["instances"], [2, 2, 2, 2, 1])
    # 10 before and 10 after; 10 before, none after (twice the same seconds); none before, 40 after; none.
    np.testing.assert_allclose(found["context"], [20 / 10, 10 / 20, 10 / 20, 40 / 15, 0])


def test_characteristics_are_those_that_detad_published(shared: Path) -> None:
    """First instances of videos of THUMOS14 with what DETAD's file of extra characteristics says of them."""
    dataset = read_annotations(f"thumos14:{shared / 'data' / 'annotations' / 'thumos14'}").subset("testing")
    values, truths = characteristics(dataset), truths_of(dataset)
    for video, length, coverage, instances in (
        ("video_test_0000292", 1.5, 0.01971971708779218, 1),
        ("video_test_0000896", 6.2, 0.027340838834574693, 7),
        ("video_test_0000897", 3.0, 0.024961102282276784, 9),
        ("video_test_0000950", 9.2, 0.006994102147341406, 40),
        ("video_test_0001159", 7.9, 0.013085102858846526, 11),
        ("video_test_0001079", 2.5, 0.005092780270976653, 8),
    ):
        row = int(np.flatnonzero(truths.videos == list(dataset.videos).index(video))[0])
        found = [values[name][row] for name in ("length", "coverage", "instances")]
        np.testing.assert_allclose(found, [length, coverage, instances], rtol=1e-9, err_msg=video)


def test_buckets_by_hand() -> None:
    # Found are the two of 10 s; the one of 20 s is missed. A false alarm of each class.
    detections = scored((0, JUMP, 10, 20), (0, JUMP, 80, 90), (1, JUMP, 0, 10), (0, RUN, 80, 90))
    found = analyse(detections, DATASET, (0.5,), "thumos14")
    lengths = {b.name: b for b in found.buckets["length"]}
    assert [lengths[n].instances for n in ("XS", "S", "M", "L", "XL")] == [0, 0, 2, 0, 1]
    assert (lengths["M"].missed, lengths["XL"].missed) == (0, 1)
    assert lengths["M"].average_map == pytest.approx((1 + 1.5 / 2.5) / 2)  # run has no truth of this length
    assert lengths["XL"].average_map == 0
    assert np.isnan(lengths["S"].missed)
    assert np.isnan(lengths["S"].average_map)
    assert (lengths["XL"].span, lengths["M"].span) == ("> 18", "6 – 12")
    assert found.plain["buckets"]["length"][4]["up_to"] is None
    assert [b.instances for b in found.buckets["instances"]] == [3, 0, 0, 0]


@pytest.mark.parametrize(
    ("values", "spans", "counts"),
    [
        (np.arange(1.0, 11), ["1 – 2", "2 – 4", "4 – 6", "6 – 8", "8 – 10"], [2, 2, 2, 2, 2]),
        ([1.0, 1, 1, 1, 1, 1, 7, 8, 9, 30], ["1 – 1", "1 – 8", "8 – 30"], [6, 2, 2]),
        ([2.0, 2, 2], ["2 – 2"], [3]),
        ([0.123456, 0.2, 0.223456], ["0.1235 – 0.2", "0.2 – 0.2235"], [2, 1]),
    ],
)
def test_buckets_are_fifths_of_the_data(values: list[float], spans: list[str], counts: list[int]) -> None:
    edges, names = buckets_of("quantiles", {"length": np.array(values)})["length"]
    made = [Bucket(name, *pair, 0, 0.0, 0.0) for name, pair in zip(names, itertools.pairwise(edges), strict=True)]
    assert [bucket.span for bucket in made] == spans
    inside = np.digitize(values, edges[1:-1], right=True)
    assert np.bincount(inside, minlength=len(names)).tolist() == counts


def test_known_data_sets_have_the_buckets_of_detad() -> None:
    def scheme(annotations: str = "a.json", **more: str) -> str:
        return EvaluateOptions((), annotations, **more).bucket_scheme  # type: ignore[arg-type]

    assert scheme() == "quantiles"
    assert scheme(protocol="thumos14-211") == scheme("thumos14:folder") == "thumos14"
    assert scheme(protocol="activitynet1.3") == PRESETS["activitynet"].buckets == "activitynet"
    assert scheme(protocol="thumos14", buckets="quantiles") == "quantiles"
    assert PRESETS["thumos14-ssn"].buckets == "thumos14"


def test_truths_found_after_very_many_false_alarms_are_missed() -> None:
    detections = scored(*[(2, RUN, 0, 5)] * 40, (0, RUN, 40, 60))
    found = analyse(detections, DATASET, (0.5,))
    assert found.buckets["length"][0].missed == 1  # normalised precision is 1.5 / 41.5


def test_truths_without_length_are_left_out() -> None:
    points = Dataset.of("d", [Video("v", 9.0, "testing", (Instance("a", 3, 3),))])
    with pytest.raises(UserError, match="no instance of any length"):
        analyse(scored(), points, (0.5,))


def test_no_detections_at_all() -> None:
    found = analyse(scored(), DATASET, (0.5,))
    assert found.average_map == 0
    np.testing.assert_array_equal(found.gains, 0)
    assert np.isnan(found.shares).all()


def plain_kind(row: int, found: Scored, dataset: Dataset, matched: int, level: float) -> int:
    """The definition, spelt out for one detection."""
    if matched >= 0:
        return 0
    video = list(dataset.videos.values())[found.videos[row]]
    start, end = found.intervals[row]
    best, same = 0.0, False
    for instance in video.instances:
        shared = max(min(end, instance.end) - max(start, instance.start), 0)
        overlap = shared / (end - start + instance.end - instance.start - shared)
        own = dataset.label_index[instance.label] == found.classes[row]
        if (overlap, own) > (best, same):
            best, same = overlap, own
    if best >= level:
        return 1 if same else 2
    return (3 if same else 4) if best >= 0.1 else 5


def plain_ap(hits: list[bool], truths: int, typical: float) -> float:
    """AP_N of one class, spelt out."""
    precision, right = [], 0
    for place, hit in enumerate(hits, start=1):
        right += hit
        expected = right / truths * typical
        precision.append(expected / (expected + place - right))
    return sum(max(precision[i:]) / truths for i, hit in enumerate(hits) if hit)


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_plain_reading(seed: int) -> None:
    random = np.random.default_rng(seed)
    videos = [
        Video(
            f"v{n}",
            30.0,
            "testing",
            tuple(
                Instance(str(random.choice(["a", "b", "c"])), float(s), float(s + 1 + random.random() * 5))
                for s in random.random(random.integers(0, 6)) * 20
            ),
        )
        for n in range(8)
    ]
    dataset = Dataset.of("r", videos, ("a", "b", "c", "unused"))
    levels, truths = (0.3, 0.5), truths_of(dataset)
    jitter = random.integers(0, len(truths.videos), 150)
    detections = Scored(
        truths.videos[jitter],
        random.integers(0, 3, 150),
        np.sort(truths.intervals[jitter] + random.normal(0, 1, (150, 2)), axis=1),
        random.permutation(150).astype(float),
    )
    found = analyse(detections, dataset, levels, "activitynet")
    ranked = rank(detections, truths, 4, levels)
    numbers = np.bincount(truths.classes, minlength=4)
    typical = numbers.sum() / (numbers > 0).sum()
    kinds = [
        [plain_kind(row, ranked.detections, dataset, m, t) for row, m in enumerate(matched)]
        for t, matched in zip(levels, ranked.matched, strict=True)
    ]
    aps, gains, missed = [], np.zeros((2, 5)), np.ones((2, len(truths.videos)))
    for level, matched in enumerate(ranked.matched):
        base, without = [], np.zeros((3, 5))
        for label in range(3):
            own = [r for r in range(150) if ranked.detections.classes[r] == label]
            top = own[: 10 * numbers[label]]
            base.append(plain_ap([kinds[level][r] == 0 for r in top], numbers[label], typical))
            for kind in range(1, 6):
                kept = [kinds[level][r] == 0 for r in top if kinds[level][r] != kind]
                without[label, kind - 1] = plain_ap(kept, numbers[label], typical)
            right = 0
            for place, r in enumerate(own, start=1):
                right += matched[r] >= 0
                expected = right / numbers[label] * typical
                if matched[r] >= 0 and expected / (expected + place - right) > 0.05:
                    missed[level, matched[r]] = 0
        aps.append(np.mean(base))
        gains[level] = without.mean(axis=0) - np.mean(base)
    assert found.limited_map == pytest.approx(np.mean(aps))
    np.testing.assert_allclose(found.gains, gains.mean(axis=0))
    assert found.buckets["length"][0].missed == pytest.approx(missed.mean())
    for group, row in enumerate(found.counts.sum(axis=0)):
        expected_row = np.zeros(6)
        for own_kinds in kinds:
            for label in range(3):
                first = np.searchsorted(ranked.detections.classes, label)
                count = int((ranked.detections.classes == label).sum())
                for place in range(group * numbers[label], min((group + 1) * numbers[label], count)):
                    expected_row[own_kinds[first + place]] += 1
        np.testing.assert_array_equal(row, expected_row)


def test_edges_fit_names() -> None:
    for scheme in BUCKETS.values():
        for edges, names in scheme.values():
            assert len(edges) == len(names) + 1


def test_tables_csv_json_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_activitynet(DATASET, tmp_path / "truth.json")
    files = []
    for name, rows in (("[red]$a$", EVERY_KIND), ("b", EVERY_KIND[3:])):
        table = np.array([row for row, _ in rows])
        videos = {
            video: (table[own, 2:], table[own, 1].astype(int), -np.flatnonzero(own))
            for number, video in enumerate(DATASET.videos)
            for own in [table[:, 0] == number]
        }
        files.append(tmp_path / f"{name}.json")
        Detections.of(DATASET.labels, videos).write(files[-1])
    options = EvaluateOptions(
        files=tuple(files),
        annotations=str(tmp_path / "truth.json"),
        thresholds=(0.5,),
        bootstrap=0,
        json=tmp_path / "n.json",
        analysis_csv=tmp_path / "a.csv",
        analysis_picture=tmp_path / "a.svg",
    )
    evaluate(options)
    said = capsys.readouterr().out
    assert "errors of [red]$a$" in said
    assert re.search(r"^wrong label +33\.3 % +20\.0 %", said, re.MULTILINE)
    analysis = json.loads((tmp_path / "n.json").read_text())["files"][0]["analysis"]
    assert analysis["share_in_10G"]["background"] == pytest.approx(0.3)
    with (tmp_path / "a.csv").open(newline="") as file:
        cells = {(r["file"], r["table"], r["row"], r["column"]): r["value"] for r in csv.DictReader(file)}
    assert float(cells["[red]$a$", "top detections", "2G", "localization"]) == pytest.approx(1 / 3)
    assert cells["b", "top detections", "9G", "background"] == ""
    assert cells["b", "length", "S", "instances"] == "2.0"
    assert "limits of the buckets: fifths of these instances" in said
    for number in (1, 2):
        assert "<svg" in (tmp_path / f"a-{number}.svg").read_text()[:1000]


def test_detections_outside_the_data_set_are_background() -> None:
    found = analyse(scored((7, JUMP, 10, 20), (0, JUMP, 10, 20)), DATASET, (0.5,))
    assert found.counts[0].sum(axis=0).tolist() == [1, 0, 0, 0, 0, 1]
