"""Advice on what to try next, from an :class:`~ssn_feat.evaluation.explanation.Explanation`.

A rule applies only if it concerns at least FEW instances, and either SHARE of all instances or CLASS_SHARE of those of
a class. docs/detect-and-evaluate.md gives the effect of each rule where it was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssn_feat.evaluation.average_precision import truths_of
from ssn_feat.evaluation.explanation import FOUND, Advice, ClassOutcome, Explanation
from ssn_feat.evaluation.origin import Origin, command, second
from ssn_feat.proposals import Proposals
from ssn_feat.terminal import counted

FEW, SHARE, CLASS_SHARE = 3, 0.1, 0.3
# A class with fewer training instances than this is called small.
SMALL_CLASS = 10
# Number of heads to average.
HEADS = 5
# Number of classes that a sentence names.
_NAMED = 3


def advise(explanation: Explanation, origin: Origin) -> tuple[Advice, ...]:
    """What to try next: the advice of every rule that fits, in the order of the steps from proposals to scores."""
    return tuple(advice for rule in RULES if (advice := rule(explanation, origin)) is not None)


def _concerned(explanation: Explanation, count: Callable[[ClassOutcome], int]) -> str:
    """``14 of 63 instances``, with the classes that have most of them; empty if these are too few."""
    number, total = count(explanation.total), explanation.total.instances
    rows = [row for row in explanation.rows if count(row) >= FEW and count(row) >= CLASS_SHARE * row.instances]
    if number < FEW or (number < SHARE * total and not rows):
        return ""
    return f"{number} of {total} instances{_named(rows, count)}"


def _named(rows: list[ClassOutcome], count: Callable[[ClassOutcome], int]) -> str:
    rows = sorted(rows, key=lambda row: -count(row) / max(row.instances, 1))
    names = [f"{count(row)} of {row.instances} of {row.label!r}" for row in rows[:_NAMED]]
    more = f" and {len(rows) - _NAMED} more classes" if len(rows) > _NAMED else ""
    return f" ({', '.join(names)}{more})" if names else ""


def no_proposal(explanation: Explanation, origin: Origin) -> Advice | None:
    """Instances without a proposal cannot be found by any head."""
    what = _concerned(explanation, lambda row: row.instances - row.proposed)
    if not what or not explanation.from_proposals:
        return None
    sentence = f"{what} have no proposal with a tIoU of at least {explanation.tiou:.3g}: "
    proposals, lengths = origin.proposals, _lengths(explanation, origin)
    if proposals is not None and proposals.method != "tag":
        chosen = ("--annotations", origin.annotations, *(("--subset", origin.subset) if origin.subset else ()))
        compare = command("bench/proposals.py", origin.proposal_file, *chosen, "--methods", "sliding", "anchors")
        return Advice("no proposal", sentence + "compare other proposals with these.", (compare,))
    shortest, number = (0.0, None) if proposals is None else _limits(proposals)
    if shortest and (lengths < shortest).sum() * 2 >= len(lengths):
        sentence += f"most are shorter than the {shortest:g} s of --minimum-length. Lower it."
        return Advice("no proposal", sentence, (origin.propose("--minimum-length", "0"),))
    if number is not None and proposals is not None and _reach(proposals, number) >= 0.5:
        sentence += f"most videos have the {number} proposals that --number allows. Allow more."
        return Advice("no proposal", sentence, (origin.propose("--number", str(2 * number)),))
    snippet = _snippet(proposals)
    if snippet and (lengths < 2 * snippet).sum() * 2 >= len(lengths):
        sentence += f"most are shorter than two snippets of {snippet:.2g} s. Extract with a smaller --stride."
        target = second(Path(origin.store))
        options = ("--annotations", origin.annotations, "--stride", str(origin.half_stride))
        return Advice("no proposal", sentence, (command("extract/run.py", "VIDEOS", target, *options),))
    if len(origin.actionness) >= HEADS:
        return None
    sentence += "average the actionness of several heads of every stream."
    fits, runs = [], []
    for stream in origin.streams:
        out = f"runs/actionness-{stream}-{HEADS}"
        fits.append(origin.fit("actionness", "--streams", stream, "--seeds", str(HEADS), out=out))
        runs.append(f"{out}/seed-*")
    return Advice("no proposal", sentence, (*fits, origin.propose(runs=runs)))


def _lengths(explanation: Explanation, origin: Origin) -> NDArray[np.float64]:
    """Lengths of the instances without a proposal, seconds."""
    intervals = truths_of(origin.evaluated).intervals[explanation.overlaps < explanation.tiou]
    lengths: NDArray[np.float64] = intervals[:, 1] - intervals[:, 0]
    return lengths


def _limits(proposals: Proposals) -> tuple[float, int | None]:
    """The minimum length and the largest number of proposals that they were made with."""
    number = proposals.parameters.get("number")
    return float(proposals.parameters.get("minimum_length") or 0.0), None if number is None else int(number)


def _reach(proposals: Proposals, number: int) -> float:
    """Share of the videos that have ``number`` proposals."""
    return float(np.mean([len(intervals) >= number for intervals in proposals.intervals.values()]))


def _snippet(proposals: Proposals | None) -> float:
    """Length of a snippet in seconds; 0 if it is unknown."""
    spans = [] if proposals is None or proposals.spans is None else [s for s in proposals.spans.values() if len(s)]
    return float(np.median([np.diff(each).mean() for each in spans])) if spans else 0.0


def lost_proposal(explanation: Explanation, origin: Origin) -> Advice | None:
    """Every proposal is scored for every class, so a detection that is missing was removed afterwards."""
    what = _concerned(explanation, lambda row: row.missed_with_proposal)
    if not what or not explanation.from_proposals:
        return None
    sentence = (
        f"{what} have a proposal, but no detection of their class: a neighbouring detection suppressed it, or "
        "refinement moved it. Suppress less."
    )
    return Advice("lost proposal", sentence, (origin.detect_again("--nms-threshold", "0.4"),))


def wrong_label(explanation: Explanation, origin: Origin) -> Advice | None:
    """Instances that are only detected as another class need features that tell the classes apart."""
    what = _concerned(explanation, lambda row: row.wrong_label)
    if not what:
        return None
    confused = [row for row in explanation.rows if row.wrong_label]
    confused = sorted(confused, key=lambda row: -row.wrong_label)[:_NAMED]
    pairs = ", ".join(f"{row.label!r} as {row.taken_for!r}" for row in confused)
    sentence = f"{what} are detected only with a wrong label, most often {pairs}: "
    lacking = origin.lacking_streams
    if lacking:
        sentence += f"annotate more training instances of these classes, or add a head on the stream {lacking[0]}."
        data = ("--streams", lacking[0], "--proposals", origin.proposal_file)
        return Advice("wrong label", sentence, (origin.fit("ssn", *data, out=f"runs/{lacking[0]}"),))
    stream = "rgb" if len(origin.streams) > 1 else "flow"
    sentence += f"annotate more training instances of these classes, or train a {stream} network on your videos."
    videos = ("--stream", stream, "--videos", "VIDEOS", "--annotations", origin.annotations)
    network = ("--backbone", "efficientnet_lite0", "--out", f"runs/network-{stream}")
    return Advice("wrong label", sentence, (command("train/fit.py", "backbone", *videos, *network),))


def outranked(explanation: Explanation, origin: Origin) -> Advice | None:
    """Scores of several heads vary independently, so their mean ranks better."""
    what = _concerned(explanation, lambda row: row.outranked)
    if not what or len(origin.scores) >= HEADS:
        return None
    sentence = (
        f"{what} have a correct detection that scores below the threshold of its class: average the scores of several "
        "heads of every stream."
    )
    data = ("--proposals", origin.proposal_file, "--seeds", str(HEADS))
    fits = [origin.fit("ssn", "--streams", stream, *data, out=f"runs/{stream}-{HEADS}") for stream in origin.streams]
    return Advice("outranked", sentence, tuple(fits))


def false_in_empty_videos(explanation: Explanation, origin: Origin) -> Advice | None:
    """False alarms per hour should not be more in videos without any instance than in the others."""
    total = explanation.total
    rest = explanation.hours - explanation.empty_hours
    if total.in_empty_videos < FEW or not rest:
        return None
    rate = total.in_empty_videos / explanation.empty_hours
    other = (total.false_alarms - total.in_empty_videos) / rest
    if rate <= other:
        return None
    sentence = (
        f"{total.in_empty_videos} false alarms are in videos without any instance: {rate:.0f} per hour, {other:.0f} in "
        "the other videos. Annotate more training videos without actions, and train with them."
    )
    data = ("--proposals", origin.proposal_file, "--background-videos")
    fits = [origin.fit("ssn", "--streams", stream, *data, out=f"runs/{stream}-2") for stream in origin.streams]
    return Advice("false alarms in empty videos", sentence, tuple(fits))


def duplicates(explanation: Explanation, origin: Origin) -> Advice | None:
    """False alarms that repeat an instance are removed by stronger suppression."""
    number, total = explanation.total.duplicates, explanation.total.false_alarms
    if number < FEW or number < 2 * SHARE * total:
        return None
    sentence = f"{number} of {total} false alarms repeat an instance that another detection finds: suppress more."
    return Advice("duplicates", sentence, (origin.detect_again("--nms-threshold", "0.2"),))


def few_training_instances(explanation: Explanation, origin: Origin) -> Advice | None:
    """Classes with few training instances and bad results: a quarter is not found, or most detections are false."""
    training = origin.training
    if training is None:
        return None
    numbers = np.bincount(truths_of(training).classes, minlength=len(training.labels))
    by_label = dict(zip(training.labels, numbers.tolist(), strict=True))
    small = [
        row
        for row in explanation.rows
        if by_label.get(row.label, 0) < SMALL_CLASS
        and row.instances >= FEW
        and (row.found * 4 < row.instances * 3 or row.false_alarms > row.instances)
    ]
    if not small:
        return None
    small = sorted(small, key=lambda row: by_label.get(row.label, 0))
    names = [
        f"{row.label!r} ({counted(by_label.get(row.label, 0), 'training instance')}, {row.found} of {row.instances} "
        f"found, {counted(row.false_alarms, 'false alarm')})"
        for row in small[:_NAMED]
    ]
    more = f" and {len(small) - _NAMED} more classes" if len(small) > _NAMED else ""
    sentence = f"annotate more training instances of {', '.join(names)}{more}."
    return Advice("few training instances", sentence[0].upper() + sentence[1:])


def other_durations(explanation: Explanation, origin: Origin) -> Advice | None:
    """Instances that are not found and are much shorter or longer than every training instance of their class."""
    training = origin.training
    if training is None:
        return None
    learned, truths = truths_of(training), truths_of(origin.evaluated)
    length = truths.intervals[:, 1] - truths.intervals[:, 0]
    known = learned.intervals[:, 1] - learned.intervals[:, 0]
    classes = len(training.labels)
    shortest, longest = np.full(classes, np.inf), np.zeros(classes)
    np.minimum.at(shortest, learned.classes, known)
    np.maximum.at(longest, learned.classes, known)
    seen = longest[truths.classes] > 0
    odd = seen & ((length < shortest[truths.classes] / 1.5) | (length > 1.5 * longest[truths.classes]))
    odd &= explanation.outcomes != FOUND
    number = int(odd.sum())
    if number < FEW or number < SHARE * int((explanation.outcomes != FOUND).sum()):
        return None
    span = f"{length[odd].min():.1f} to {length[odd].max():.1f} s"
    sentence = (
        f"{number} instances that are not found are much shorter or longer than all training instances of their class "
        f"({span}): annotate training instances of such lengths."
    )
    return Advice("other durations", sentence)


RULES: tuple[Callable[[Explanation, Origin], Advice | None], ...] = (
    no_proposal,
    lost_proposal,
    few_training_instances,
    other_durations,
    wrong_label,
    outranked,
    duplicates,
    false_in_empty_videos,
)

__all__ = ["RULES", "advise"]
