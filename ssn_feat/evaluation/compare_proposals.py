"""Proposal methods side by side on one data set: what ``bench/proposals.py`` does."""

from __future__ import annotations

import time

from ssn_feat.annotations import Dataset, read_annotations
from ssn_feat.annotations.matching import match_dataset
from ssn_feat.annotations.protocols import dataset_coverage, protocol
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_recall import (
    TIOU_GRIDS,
    recall_at_tiou,
    recall_by,
    recall_curve,
)
from ssn_feat.evaluation.compare_options import CompareOptions
from ssn_feat.evaluation.compare_output import MethodResult, print_table, tables, write_results
from ssn_feat.evaluation.compared_methods import ComparedMethod, compared_methods
from ssn_feat.store import open_store
from ssn_feat.terminal import printable_lines


def compare_proposals(options: CompareOptions) -> list[MethodResult]:
    """Evaluate every file and method, print tables, and write the results if requested.

    Raises UserError on invalid files, annotations or options, and if no evaluated video has proposals.
    """
    results, notes = compare(options)
    print(printable_lines("\n".join(notes)))
    for title, rows in tables(results, options).items():
        print_table(title, rows)
    if options.out is not None:
        write_results(results, options, notes, options.out)
    return results


def compare(options: CompareOptions) -> tuple[list[MethodResult], list[str]]:
    """The results of every file and method, and lines that describe what was counted; prints and writes nothing.

    Raises UserError as :func:`compare_proposals`.
    """
    dataset, notes = _evaluated_set(options)
    results = []
    for compared in compared_methods(dataset, options):
        results.append(_evaluate(compared, dataset, options))
        lacking = dataset_coverage(dataset, compared.proposals.ids)
        if lacking.unreachable:
            notes.append(f"{compared.name}: proposals of {lacking}".replace(" are available", ""))
    first = results[0].curve
    best = "all" if options.recall_number is None else f"the best {options.recall_number}"
    notes += [
        f"{dataset.name}: {first.videos} of {len(dataset.videos)} videos have instances, {first.instances} in total",
        f"AR: tIoU of {options.grid}, {options.budget} number of proposals up to {options.maximum}; "
        f"R: {best} proposals of a video",
        f"ranked by: {', '.join(f'{result.name}: {result.score}' for result in results)}",
    ]
    return results, notes


def _evaluated_set(options: CompareOptions) -> tuple[Dataset, list[str]]:
    """The evaluated data set, and lines that describe it."""
    dataset, notes = read_annotations(options.annotations), []
    if options.protocol is not None:
        chosen = protocol(options.protocol)
        notes.append(f"protocol {chosen.line(dataset)}")
        dataset = chosen.apply(dataset)
    elif options.subset:
        dataset = dataset.subset(options.subset)
    if options.store is not None:
        stored = open_store(options.store).ids
        dataset = match_dataset(dataset, stored, f"the store {options.store}")
        notes.append(f"store: {dataset_coverage(dataset, stored)}")
    return dataset, notes


def _evaluate(compared: ComparedMethod, dataset: Dataset, options: CompareOptions) -> MethodResult:
    started, proposals, grid = time.perf_counter(), compared.proposals, TIOU_GRIDS[options.grid]
    try:
        curve = recall_curve(proposals, dataset, options.maximum, grid, options.budget, numbers=options.numbers)
    except UserError as error:
        raise UserError(f"{compared.name}: {error}") from None
    recall = recall_at_tiou(proposals, dataset, options.tious, options.recall_number)
    by_length = recall_by(proposals, dataset, "length", options.lengths, grid, options.maximum)
    by_number = recall_by(proposals, dataset, "number", options.instances, grid, options.maximum)
    per_video = len(proposals.only(dataset.videos)) / len(dataset.videos)
    seconds = time.perf_counter() - started
    recalls = curve, recall, by_length, by_number
    return MethodResult(compared.name, proposals.score, per_video, *recalls, compared.seconds, seconds)


__all__ = ["CompareOptions", "MethodResult", "compare", "compare_proposals"]
