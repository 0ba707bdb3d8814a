"""What became of every instance, on cases made by hand and against a plain reading; the advice and its commands."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ssn_feat import cli, commands
from ssn_feat.annotations import Dataset, Instance, Video, write_activitynet
from ssn_feat.errors import UserError
from ssn_feat.evaluation.advice import RULES, advise
from ssn_feat.evaluation.average_precision import truths_of
from ssn_feat.evaluation.evaluate import EvaluateOptions, evaluate, evaluate_files
from ssn_feat.evaluation.explanation import OUTCOMES, ClassOutcome, Explanation, explain
from ssn_feat.evaluation.explanation_output import sentences
from ssn_feat.evaluation.matching import Scored, rank
from ssn_feat.evaluation.origin import Origin
from ssn_feat.evaluation.score_thresholds import Criterion, class_thresholds
from ssn_feat.intervals import tiou
from ssn_feat.proposals import Proposals
from ssn_feat.results.detections import Detections
from ssn_feat.store import create_store

JUMP, RUN = 0, 1
DATASET = Dataset.of(
    "toy",
    [
        Video("one", 1800.0, "testing", tuple(Instance("jump", t, t + 10) for t in (0, 100, 200, 300, 400, 500))),
        Video("two", 900.0, "testing", (Instance("run", 0, 10), Instance("run", 50, 60))),
        Video("none", 900.0, "testing"),
    ],
)
# Video, class, start, end, score.
ROWS = (
    (0, JUMP, 0, 10, 0.9),  # found
    (0, JUMP, 100, 109, 0.8),  # found
    (0, JUMP, 1, 10, 0.7),  # repeats an instance
    (2, JUMP, 0, 10, 0.6),  # in a video without instances
    (0, JUMP, 200, 210, 0.5),  # found: with it F1 is highest
    (0, JUMP, 700, 710, 0.3),
    (0, JUMP, 720, 730, 0.3),
    (0, JUMP, 740, 750, 0.3),
    (0, JUMP, 300, 310, 0.2),  # outranked
    (0, RUN, 400, 410, 0.9),  # jump with a wrong label
    (1, RUN, 0, 10, 0.8),
    (1, RUN, 52, 60, 0.7),
    (0, RUN, 300, 302, 0.6),
)


def scored(rows: tuple[tuple[float, ...], ...] = ROWS) -> Scored:
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    return Scored(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2:4], table[:, 4])


def explained(**more: object) -> Explanation:
    ranked = rank(scored(), truths_of(DATASET), 2, (0.5,))
    return explain(ranked, DATASET, 0, 0.5, **more)  # type: ignore[arg-type]


def test_every_outcome_by_hand() -> None:
    found = explained()
    assert [OUTCOMES[outcome] for outcome in found.outcomes] == [
        *("found", "found", "found", "outranked", "wrong label", "missed"),
        *("found", "found"),
    ]
    jump, run = found.rows
    counts = (jump.instances, jump.found, jump.wrong_label, jump.outranked, jump.missed)
    assert counts == (6, 3, 1, 1, 1)
    assert (jump.false_alarms, jump.duplicates, jump.in_empty_videos, jump.threshold) == (2, 1, 1, 0.5)
    assert (jump.taken_for, jump.taken_for_it) == ("run", 0)
    assert (run.found, run.false_alarms, run.taken_for, run.taken_for_it) == (2, 1, "", 1)
    assert run.threshold == 0.7
    assert (found.hours, found.empty_hours, found.total.false_alarms_per_hour) == (1.0, 0.25, 3.0)
    assert found.total.instances == 8
    assert repr(found) == (
        "Explanation('detections' at tIoU 0.5: 5 of 8 instances found, 1 with a wrong label, 1 outranked, 1 missed)"
    )


def test_instances_are_compared_with_proposals_if_there_are_some() -> None:
    assert [row.proposed for row in explained().rows] == [5, 2]
    proposals = {"one": np.array([[0.0, 10], [100, 120], [300, 311]]), "elsewhere": np.array([[0.0, 1]])}
    found = explained(proposals=proposals)
    assert [row.proposed for row in found.rows] == [3, 0]
    np.testing.assert_allclose(found.overlaps, [1, 0.5, 0, 10 / 11, 0, 0, 0, 0])
    assert explained(proposals={"one": np.array([[500.0, 510]])}).rows[0].missed_with_proposal == 1


def test_thresholds_of_an_operating_point_decide_what_counts() -> None:
    found = explained(thresholds=np.array([0.0, np.nan]), operating_point="chosen elsewhere")
    jump, run = found.rows
    assert (jump.found, jump.wrong_label, jump.outranked, jump.missed, jump.false_alarms) == (4, 0, 0, 2, 5)
    assert (run.found, run.outranked, run.false_alarms) == (0, 2, 0)
    assert "Score thresholds: chosen elsewhere." in " ".join(sentences(found))
    assert found.plain["classes"][1]["threshold"] is None
    json.dumps(found.plain, allow_nan=False)


def test_nothing_detected() -> None:
    found = explain(rank(scored(()), truths_of(DATASET), 2, (0.5,)), DATASET, 0, 0.5)
    assert (found.total.missed, found.total.false_alarms, found.total.proposed) == (8, 0, 0)
    assert np.isnan([row.threshold for row in found.rows]).all()


@pytest.mark.parametrize("seed", range(5))
def test_equals_a_plain_reading(seed: int) -> None:
    random = np.random.default_rng(seed)
    starts = np.cumsum(random.uniform(2, 9, (4, 8)), axis=1)
    videos = [
        Video(f"v{n}", 90.0, "testing", tuple(Instance("abc"[random.integers(3)], s, s + 4) for s in row))
        for n, row in enumerate(starts[:3])
    ]
    dataset = Dataset.of("random", [*videos, Video("v3", 90.0, "testing")], ["a", "b", "c"])
    rows = []
    for video, row in enumerate(starts):
        for start in np.repeat(row, 4):
            begin = start + random.normal(0, 1.5)
            rows.append((video, random.integers(3), begin, begin + random.uniform(2, 5), random.integers(30)))
    truths, level = truths_of(dataset), 0.4
    ranked = rank(scored(tuple(rows)), truths, 3, (level,))
    found = explain(ranked, dataset, 0, level)
    cut = [row.threshold for row in found.rows]
    detections = ranked.detections
    kept = [score >= cut[label] for score, label in zip(detections.scores, detections.classes, strict=True)]
    false = [row for row, match in enumerate(ranked.matched[0]) if match < 0 and kept[row]]
    assert found.total.false_alarms == len(false)
    for number, outcome in enumerate(found.outcomes):
        row = np.flatnonzero(ranked.matched[0] == number)
        interval, label, video = truths.intervals[number], truths.classes[number], truths.videos[number]
        others = [
            f
            for f in false
            if (detections.videos[f], detections.classes[f] != label) == (video, True)
            and tiou([interval], [detections.intervals[f]])[0, 0] >= level
        ]
        if len(row) and kept[row[0]]:
            expected = "found"
        elif others:
            expected = "wrong label"
        else:
            expected = "outranked" if len(row) else "missed"
        assert OUTCOMES[outcome] == expected


def test_thresholds_by_hand() -> None:
    scores = [0.9, 0.8, 0.8, 0.6, 0.5, 0.4]
    hits = [True, True, False, False, True, False]
    rows = [(0, JUMP, 100 * n if hit else 1000 + 20 * n, 100 * n + 10 if hit else 1010 + 20 * n, score)
            for n, (hit, score) in enumerate(zip(hits, scores, strict=True))]  # fmt: skip
    ranked = rank(scored(tuple(rows)), truths_of(DATASET), 2, (0.5,))

    def threshold(**criterion: float) -> float:
        jump, run = class_thresholds(ranked, 0, Criterion(**criterion), 2.0)
        assert np.isnan(run)
        return float(jump)

    # F1 is 2/7, 4/9, 4/10, 6/11 (at 0.5), 6/12; of the two detections of score 0.8 none is kept alone.
    assert threshold() == 0.5
    assert [threshold(precision=p) for p in (1, 0.9, 2 / 3, 0.6, 0.5)] == [0.9, 0.9, 0.8, 0.5, 0.5]
    assert [threshold(false_alarms=n) for n in (0, 0.4, 0.5, 0.9, 1.0, 9)] == [0.9, 0.9, 0.8, 0.8, 0.5, 0.5]
    assert np.isnan(class_thresholds(rank(scored(ROWS[5:6]), truths_of(DATASET), 2, (0.5,)), 0, Criterion(), 1.0)).all()


def outcome(label: str, instances: int = 20, **counts: int) -> ClassOutcome:
    names = ("proposed", "found", "wrong_label", "outranked", "missed", "missed_with_proposal")
    values = {"proposed": instances, **dict.fromkeys((*names[1:], "false_alarms", "duplicates", "in_empty_videos"), 0)}
    return ClassOutcome(label, instances, **(values | counts), false_alarms_per_hour=0.0, taken_for="run")


# Training instances of 2 and 8 seconds; in the other subset 20 instances of 4 seconds.
TRAINING = tuple(
    Video(f"t{n}", 100.0, "training", tuple(Instance("jump", 20.0 * k, 20.0 * k + (2, 8)[k % 2]) for k in range(4)))
    for n in range(5)
)


def known(length: float = 4.0, videos: int = 5) -> Dataset:
    testing = Video("x", 900.0, "testing", tuple(Instance("jump", 40.0 * k, 40.0 * k + length) for k in range(20)))
    return Dataset.of("known", [*TRAINING[:videos], testing], ["jump", "run"])


def origin(
    dataset: Dataset | None = None, method: str = "tag", folder: Path | None = None, **options: object
) -> Origin:
    dataset = dataset or known()
    parameters = {"store": "no.zarr", "runs": ["runs/a"], "weights": [], "fusion": "mean", "number": None} | options
    two, spans = np.array([[0.0, 9], [1, 2]]), np.arange(60)[:, None] * 1.0 + [0, 1]
    actionness = {"x": np.ones(60, np.float32)}
    proposals = Proposals({"x": two}, {"x": np.array([1.0, 0.5])}, method, parameters, actionness, {"x": spans})
    file = (folder or Path("a b")) / "found.json"
    return Origin(dataset, dataset.subset("testing"), "truth.csv", "testing", file, proposals)


def explanation(row: ClassOutcome, overlap: float = 1.0, found: bool = False) -> Explanation:
    outcomes = np.full(20, 0 if found else 3)
    return Explanation("d", 0.5, (row,), row, outcomes, np.full(20, overlap), True, "", 1.0, 0.25)


def parsed(line: str) -> None:
    """Raise unless the command takes this line; scripts are named as in the repository."""
    script, *words = shlex.split(line)[1:]
    names = {
        "train/fit.py": "fit",
        "train/propose.py": "propose",
        "train/detect.py": "detect",
        "extract/run.py": "extract",
        "bench/proposals.py": "proposals",
    }
    command, arguments, prog = cli.choose(commands.COMMANDS, [names[script], *words], "ssn-feat")
    cli.parse(command, arguments, prog)


@pytest.mark.parametrize(
    ("row", "overlap", "made", "rule", "said"),
    [
        (outcome("jump", proposed=6), 0.1, origin(), "no proposal", "14 of 20 instances (14 of 20 of 'jump') have no"),
        (outcome("jump", proposed=6), 0.1, origin(minimum_length=5.0), "no proposal", "--minimum-length 0 "),
        (outcome("jump", proposed=6), 0.1, origin(number=2, smoothing=0.1), "no proposal", "0.1 --number 4 "),
        (outcome("jump", proposed=6), 0.1, origin(known(1.5)), "no proposal", "shorter than two snippets of 1 s"),
        (outcome("jump", proposed=6), 0.1, origin(method="sliding"), "no proposal", "bench/proposals.py PROPOSALS.npz"),
        (outcome("jump", missed_with_proposal=6), 1, origin(), "lost proposal", "0.4 --out 'a b/found-2.json'"),
        (outcome("jump", wrong_label=6), 1, origin(), "wrong label", "'jump' as 'run': annotate more"),
        (outcome("jump", outranked=6), 1, origin(), "outranked", "head ssn small --store no.zarr"),
        (outcome("jump", false_alarms=9, duplicates=4), 1, origin(), "duplicates", "4 of 9 false alarms repeat"),
        (
            *(outcome("jump", false_alarms=9, in_empty_videos=6), 1, origin()),
            *("false alarms in empty videos", "24 per hour, 4 in the other videos. Annotate more training videos"),
        ),
        (
            *(outcome("jump", found=9), 1, origin(known(videos=2))),
            *("few training instances", "of 'jump' (8 training instances, 9 of 20 found, 0 false alarms)"),
        ),
        (outcome("jump"), 1, origin(known(1.1)), "other durations", "20 instances that are not found are much shorter"),
    ],
)  # fmt: skip
def test_each_rule_says_what_to_try(row: ClassOutcome, overlap: float, made: Origin, rule: str, said: str) -> None:
    [advice] = [a for a in advise(explanation(row, overlap), made) if a.rule == rule]
    assert said in " ".join([advice.sentence, *advice.commands])
    for line in advice.commands:
        parsed(line)


@pytest.mark.parametrize(
    "row",
    [
        outcome("jump", found=20),
        outcome("jump", proposed=18, found=18, missed=2),
        outcome("jump", found=14, wrong_label=2, outranked=2, missed=2, missed_with_proposal=2),
        outcome("jump", found=20, false_alarms=30, duplicates=5),
        outcome("jump", found=20, false_alarms=30, in_empty_videos=7),
    ],
)
def test_rules_are_silent_where_they_do_not_fit(row: ClassOutcome) -> None:
    assert advise(explanation(row, found=True), origin()) == ()


def test_a_class_with_few_training_instances_is_named_for_its_results_only() -> None:
    few = origin(known(videos=2))
    assert advise(explanation(outcome("jump", found=15, false_alarms=20), found=True), few) == ()
    [advice] = advise(explanation(outcome("jump", found=15, false_alarms=21), found=True), few)
    assert advice.rule == "few training instances"


def test_advice_that_was_followed_is_not_repeated(tmp_path: Path) -> None:
    for seed in range(5):
        (tmp_path / f"found.scores-{seed + 1}-seed-{seed}.npz").touch()
    row = outcome("jump", outranked=6, proposed=10)
    assert advise(explanation(row, 0.1), origin(runs=[f"runs/{n}" for n in range(5)], folder=tmp_path)) == ()


def test_a_stream_without_a_head_is_advised(tmp_path: Path) -> None:
    store = create_store(tmp_path / "s.zarr", {"snippets": {"stride": 16}}, "toy")
    rows = np.zeros((3, 4), np.float16)
    store.write("v", {"rgb": rows, "flow": rows}, np.arange(3.0)[:, None] + [0, 1], {"duration": 3.0})
    row = outcome("jump", wrong_label=6)
    for names, said in (
        (("flow",), "--streams rgb "),
        (("rgb",), "--streams flow "),
        (("rgb", "flow"), "backbone --stream rgb "),
        (("mine",), "backbone --stream rgb "),
    ):
        folder = tmp_path / "-".join(names)
        folder.mkdir()
        for number, name in enumerate(names, start=1):
            (folder / f"found.scores-{number}-{name}.npz").touch()
        made = origin(folder=folder, store=str(tmp_path / "s.zarr"))
        assert (made.streams, made.half_stride) == (("rgb", "flow"), 8)
        [advice] = advise(explanation(row), made)
        assert said in advice.commands[0]
        parsed(advice.commands[0])


def test_commands_parse_without_any_knowledge_of_the_origin() -> None:
    row = outcome("jump", proposed=6, wrong_label=6, outranked=6, missed_with_proposal=6, false_alarms=9, duplicates=9)
    advices = advise(explanation(row, 0.1), Origin(known(), known().subset("testing")))
    assert {a.rule for a in advices} == {"no proposal", "lost proposal", "wrong label", "outranked", "duplicates"}
    for advice in advices:
        for line in advice.commands:
            parsed(line)
    assert len(RULES) == 8


def test_classes_are_named_worst_first() -> None:
    rows = tuple(outcome(f"c{n}", proposed=20 - 2 * n) for n in range(8))
    total = outcome("all", 160, proposed=sum(row.proposed for row in rows))
    found = Explanation("d", 0.5, rows, total, np.full(20, 3), np.zeros(20), True, "", 1.0, 0.0)
    [advice] = [a for a in advise(found, origin()) if a.rule == "no proposal"]
    assert "(14 of 20 of 'c7', 12 of 20 of 'c6', 10 of 20 of 'c5' and 2 more classes)" in advice.sentence


def test_the_command_begins_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_activitynet(DATASET, tmp_path / "truth.json")
    table = np.array(ROWS)
    videos = {
        video: (table[own, 2:4], table[own, 1].astype(int), table[own, 4])
        for number, video in enumerate(DATASET.videos)
        for own in [table[:, 0] == number]
    }
    Detections.of(DATASET.labels, videos).write(tmp_path / "found.json")
    options = EvaluateOptions(
        files=(tmp_path / "found.json",),
        annotations=str(tmp_path / "truth.json"),
        bootstrap=0,
        json=tmp_path / "n.json",
    )
    evaluate(options)
    said = capsys.readouterr().out
    assert said.startswith(
        "Why: found\n  5 of 8 instances are found at tIoU 0.5. Of the others, 1 is detected only with"
    )
    written = json.loads((tmp_path / "n.json").read_text())["files"][0]["explanation"]
    assert (written["total"]["found"], written["classes"][0]["label"]) == (5, "jump")
    # The definition of the challenge changes mAP, but not what is found.
    [again] = evaluate_files(replace(options, definition="thumos14")).explanations
    assert again.total == evaluate_files(options).explanations[0].total
    # Proposals of other videos say nothing about these instances.
    proposals = {video: np.array([[0.0, 10]]) for video in ("one", "two", "elsewhere")}
    scores = {video: np.zeros(1) for video in proposals}
    Proposals(proposals, scores, "tag").only(["one"]).save(tmp_path / "one.npz")
    note = evaluate_files(replace(options, proposals=tmp_path / "one.npz")).notes[-1]
    assert note.startswith("1 evaluated video is not in the proposals")
    Proposals(proposals, scores, "tag").only(["elsewhere"]).save(tmp_path / "other.npz")
    with pytest.raises(UserError, match="hold none of the 2 evaluated videos with instances"):
        evaluate_files(replace(options, proposals=tmp_path / "other.npz"))
