"""Proposal methods side by side on one data set: what ``bench/proposals.py`` does."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ssn_feat.annotations import Dataset, read_annotations
from ssn_feat.annotations.joining import check_own_times, check_times, times_of_dataset
from ssn_feat.annotations.matching import match_dataset
from ssn_feat.annotations.protocols import dataset_coverage, protocol, separate_ambiguous
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_recall import (
    TIOU_GRIDS,
    RecallCurve,
    best_overlaps,
    counted_proposals,
    recall_curve,
    share_found,
)
from ssn_feat.evaluation.compare_options import CompareOptions
from ssn_feat.evaluation.compare_output import MethodResult, number_text, print_results, write_results
from ssn_feat.evaluation.compared_methods import ComparedMethod, Reference, compared_methods
from ssn_feat.evaluation.recall_groups import recall_by_class, recall_by_length, recall_by_number
from ssn_feat.proposals import Proposals
from ssn_feat.store import open_store
from ssn_feat.store.times import times_of_store
from ssn_feat.terminal import counted, printable_lines

_REFERENCES: dict[Reference, str] = {
    "oracle": "oracle: the annotated instances as proposals, which is the upper bound",
    "random": "random: segments with random ends, which is chance",
}


def compare_proposals(options: CompareOptions) -> list[MethodResult]:
    """Evaluate every file and method, print tables, and write the results if requested.

    Raises UserError on invalid files, annotations or options, and if no evaluated video has proposals.
    """
    results, notes = compare(options)
    print(printable_lines("\n".join(notes)))
    print_results(results, options)
    if options.out is not None:
        write_results(results, options, notes, options.out)
    return results


def compare(
    options: CompareOptions, dataset: Dataset | None = None, loaded: Sequence[Proposals] | None = None
) -> tuple[list[MethodResult], list[str]]:
    """The results of every file and method, and lines that describe what was counted; prints and writes nothing.

    ``dataset`` and ``loaded`` replace the annotations and the files that ``options`` name, if they were read before.
    Raises UserError as :func:`compare_proposals`.
    """
    dataset, notes = _evaluated_set(options, dataset)
    curves = [(each, _curve(each, dataset, options)) for each in compared_methods(dataset, options, loaded)]
    number = _counted_number([compared for compared, _ in curves], dataset, options)
    results = []
    for compared, curve in curves:
        results.append(_evaluate(compared, curve, dataset, options, number))
        lacking = dataset_coverage(dataset, compared.proposals.ids)
        if lacking.unreachable:
            notes.append(re.sub(" (is|are) available", "", f"{compared.name}: proposals of {lacking}"))
    first = results[0].curve
    notes += [
        f"{dataset.name}: {first.videos} of {counted(len(dataset.videos), 'video')} "
        f"{'has' if first.videos == 1 else 'have'} instances, {first.instances} in total",
        f"AR: mean recall over the tIoU thresholds of {options.grid}, at {options.budget} numbers of proposals per "
        f"video; AUC: area up to {options.maximum}",
        f"R@tIoU and groups of instances: {_number_line(number, options)}",
        f"ranked by: {', '.join(f'{result.name}: {result.score}' for result in results)}",
        *(_REFERENCES[result.reference] for result in results if result.reference is not None),
    ]
    return results, notes


def _counted_number(methods: Sequence[ComparedMethod], dataset: Dataset, options: CompareOptions) -> float | None:
    """The number of proposals per video that counts for recall at tIoU and of groups; None: all."""
    if options.recall_number == "all":
        return None
    if options.recall_number != "equal":
        return float(options.recall_number)
    compared = [method.proposals for method in methods if method.reference != "oracle"]
    averages = [float(counted_proposals(each, dataset, None, options.budget).mean()) for each in compared]
    return min([options.maximum, *filter(None, averages)]) if averages else None


def _number_line(number: float | None, options: CompareOptions) -> str:
    if number is None:
        return "all proposals"
    line = f"the best {number_text(number)} proposals per video" + (
        " on average" if options.budget == "average" else ""
    )
    return f"{line}, which every method has" if options.recall_number == "equal" else line


def _evaluated_set(options: CompareOptions, dataset: Dataset | None) -> tuple[Dataset, list[str]]:
    """The evaluated part of ``dataset`` or of the annotations, and lines that describe it."""
    dataset, notes = separate_ambiguous(dataset or read_annotations(options.annotations), options.ambiguous), []
    if options.protocol is not None:
        chosen = protocol(options.protocol)
        notes.append(f"protocol {chosen.line(dataset)}")
        dataset = chosen.apply(dataset)
    elif options.subset:
        dataset = dataset.subset(options.subset)
    check_own_times(dataset, options, source=options.annotations)
    if options.store is not None:
        store = open_store(options.store)
        stored = store.ids
        dataset = match_dataset(dataset, stored, f"the store {options.store}")
        annotated = times_of_dataset(dataset, options.annotations)
        check_times(annotated, times_of_store(store, dataset.videos), options)
        notes.append(f"store: {dataset_coverage(dataset, stored)}")
    return dataset, notes


def _curve(compared: ComparedMethod, dataset: Dataset, options: CompareOptions) -> RecallCurve:
    grid, proposals = TIOU_GRIDS[options.grid], compared.proposals
    try:
        return recall_curve(proposals, dataset, options.maximum, grid, options.budget, numbers=options.numbers)
    except UserError as error:
        raise UserError(f"{compared.name}: {error}") from None


def _evaluate(
    compared: ComparedMethod, curve: RecallCurve, dataset: Dataset, options: CompareOptions, number: float | None
) -> MethodResult:
    proposals, grid = compared.proposals, TIOU_GRIDS[options.grid]
    counts = counted_proposals(proposals, dataset, number, options.budget)
    overlaps = list(best_overlaps(proposals, dataset, counts))
    best = np.concatenate([each for _, each in overlaps])
    return MethodResult(
        name=compared.name,
        score=proposals.score,
        reference=compared.reference,
        per_video=len(proposals.only(dataset.videos)) / len(dataset.videos),
        curve=curve,
        number=number,
        average=float(share_found(best, grid).mean()),
        recall=share_found(best, options.tious).mean(axis=0),
        by_length=recall_by_length(overlaps, options.lengths, grid),
        by_number=recall_by_number(overlaps, options.instances, grid),
        by_class=recall_by_class(overlaps, dataset, grid),
        compute=compared.seconds,
    )


__all__ = ["CompareOptions", "MethodResult", "compare", "compare_proposals"]
