"""The rules of the THUMOS 2014 challenge, read plainly, on folders of annotations and result files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ssn_feat.errors import UserError
from ssn_feat.evaluation.evaluate import PRESETS, EvaluateOptions, evaluate, evaluate_files

CLASSES = ("Dive", "Jump")
THRESHOLDS = (0.1, 0.3, 0.5)


def write_files(folder: Path, seed: int) -> None:
    """A THUMOS14 folder ``truth`` of four test videos, in random order, and ``results.json``.

    Times are whole seconds and scores tenths, so that equal scores, equal tIoUs and tIoUs that equal a threshold are
    common; a third of the detected segments is reversed.
    """
    random = np.random.default_rng(seed)
    ids = [f"video_test_{number:07d}" for number in random.permutation(4)]
    (folder / "truth").mkdir(parents=True)
    (folder / "truth/test_durations.txt").write_text("".join(f"{i}.mp4\n40\n" for i in ids))

    def span() -> tuple[int, int]:
        start = int(random.integers(0, 30))
        return start, start + int(random.integers(1, 9))

    for label, number in {**dict.fromkeys(CLASSES, 8), "Ambiguous": 4}.items():
        rows = [f"{random.choice(ids)}  {a} {b}\n" for a, b in (span() for _ in range(number))]
        (folder / f"truth/{label}_test.txt").write_text("".join(rows))
    results = {}
    for id in random.permutation(ids).tolist():
        rows = []
        for _ in range(random.integers(0, 16)):
            segment = list(span())
            if random.random() < 1 / 3:
                segment.reverse()
            rows.append({"label": random.choice(CLASSES), "score": random.integers(0, 10) / 10, "segment": segment})
        results[id] = rows
    (folder / "results.json").write_text(json.dumps({"results": results}))


def plain_truth(path: Path) -> list[tuple[str, float, float]]:
    words = [line.split() for line in path.read_text().splitlines()]
    return sorted((video, float(start), float(end)) for video, start, end in words)


def plain_overlap(a: tuple[float, float], b: tuple[float, float]) -> float:
    shared = min(a[1], b[1]) - max(a[0], b[0])
    return shared / (max(a[1], b[1]) - min(a[0], b[0])) if shared > 0 else 0.0


def plain_average_precision(folder: Path, label: str, threshold: float) -> float:
    """AP of one class: segments in order, ranked by score, video and row; each truth takes the best free detection."""
    results = json.loads((folder / "results.json").read_text())["results"]
    ranked = sorted(
        (-row["score"], video, number, *sorted(row["segment"]))
        for video, rows in results.items()
        for number, row in enumerate(rows)
        if row["label"] == label
    )
    truths, marks = (plain_truth(folder / f"truth/{name}_test.txt") for name in (label, "Ambiguous"))
    hits = set()
    for video, *span in truths:
        candidates = [i for i, row in enumerate(ranked) if row[1] == video and i not in hits]
        best = max(candidates, key=lambda i: plain_overlap(ranked[i][3:], span), default=None)
        if best is not None and plain_overlap(ranked[best][3:], span) > threshold:
            hits.add(best)
    total, right, counted = 0.0, 0, 0
    for i, (_, video, _, *span) in enumerate(ranked):
        if i in hits:
            right, counted = right + 1, counted + 1
            total += right / counted
        elif not any(name == video and plain_overlap(span, mark) > 0 for name, *mark in marks):
            counted += 1
    return total / len(truths)


def options_of(folder: Path) -> EvaluateOptions:
    return EvaluateOptions(
        (folder / "results.json",),
        f"thumos14:{folder / 'truth'}",
        subset="testing",
        definition="thumos14",
        thresholds=THRESHOLDS,
        reversed="swap",
        bootstrap=0,
        quiet=True,
    )


def test_random_files_give_what_the_plain_reading_gives(tmp_path: Path) -> None:
    for seed in range(40):
        folder = tmp_path / str(seed)
        write_files(folder, seed)
        (evaluation,) = evaluate(options_of(folder))
        plain = [[plain_average_precision(folder, label, t) for t in THRESHOLDS] for label in CLASSES]
        np.testing.assert_allclose(evaluation.average_precision, plain, rtol=0, atol=1e-12)
        assert evaluation.labels == CLASSES


def test_reversed_segments_are_refused_swapped_or_dropped(tmp_path: Path) -> None:
    write_files(tmp_path, 0)
    with pytest.raises(UserError, match=r"ends before it starts: .* --reversed swap or drop accepts such segments"):
        evaluate(EvaluateOptions((tmp_path / "results.json",), f"thumos14:{tmp_path / 'truth'}", bootstrap=0))
    rows = [r for rows in json.loads((tmp_path / "results.json").read_text())["results"].values() for r in rows]
    backward = sum(row["segment"][0] > row["segment"][1] for row in rows)
    swap = options_of(tmp_path)
    swapped = evaluate_files(swap)
    dropped = evaluate_files(EvaluateOptions(**{**vars(swap), "reversed": "drop"}))
    assert (len(swapped.detections[0].scores), len(dropped.detections[0].scores)) == (len(rows), len(rows) - backward)
    assert f"{tmp_path / 'results.json'}: {backward} segments end before they start; their ends are swapped" in (
        swapped.notes
    )
    assert any(note.endswith(f"{backward} segments end before they start; they are left out") for note in dropped.notes)


def test_many_equal_scores_and_a_lack_of_ambiguous_instances_are_noted(tmp_path: Path) -> None:
    write_files(tmp_path, 0)
    evaluated = evaluate_files(options_of(tmp_path))
    assert any("detections (" in note and "rank by video id" in note for note in evaluated.notes)
    assert not any("excuses" in note for note in evaluated.notes)
    (tmp_path / "truth/Ambiguous_test.txt").unlink()
    assert any("'Ambiguous'" in note and "excuses" in note for note in evaluate_files(options_of(tmp_path)).notes)
    usual = EvaluateOptions(**{**vars(options_of(tmp_path)), "definition": "activitynet"})
    assert not any("excuses" in note for note in evaluate_files(usual).notes)


def test_the_preset_of_the_challenge_finds_the_ambiguous_instances(shared: Path, tmp_path: Path) -> None:
    results = {"video_test_0000004": [{"label": "CricketBowling", "score": 1.0, "segment": [1.0, 2.0]}]}
    (tmp_path / "results.json").write_text(json.dumps({"results": results}))
    preset = vars(PRESETS["thumos14-challenge"])
    annotations = f"thumos14:{shared / 'data/annotations/thumos14'}"
    options = EvaluateOptions(
        **{**preset, "files": (tmp_path / "results.json",), "annotations": annotations, "bootstrap": 0, "quiet": True}
    )
    evaluation_set = evaluate_files(options).evaluation_set
    assert len(evaluation_set.ambiguous.videos) == 99
    assert "Ambiguous" not in evaluation_set.dataset.labels
