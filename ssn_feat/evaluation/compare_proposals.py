"""Proposal methods side by side on one data set: what ``bench/proposals.py`` does."""

from __future__ import annotations

import time

from ssn_feat.annotations import Dataset, read_annotations
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
    """Evaluate every file and method, print tables, write what was asked for.

    Raises UserError on files, annotations or options at fault, and for proposals of none of the videos.
    """
    results, said = compare(options)
    print(printable_lines("\n".join(said)))
    for title, rows in tables(results, options).items():
        print_table(title, rows)
    if options.out is not None:
        write_results(results, options, said, options.out)
    return results


def compare(options: CompareOptions) -> tuple[list[MethodResult], list[str]]:
    """What every file and method reaches, and lines that say what was counted; nothing is printed or written.

    Raises UserError as :func:`compare_proposals`.
    """
    dataset, said = _truth(options)
    results = []
    for compared in compared_methods(dataset, options):
        results.append(_evaluate(compared, dataset, options))
        lacking = dataset_coverage(dataset, compared.proposals.ids)
        if lacking.unreachable:
            said.append(f"{compared.name}: proposals of {lacking}".replace(" are there", ""))
    first = results[0].curve
    best = "all" if options.recall_number is None else f"the best {options.recall_number}"
    said += [
        f"{dataset.name}: {first.videos} of {len(dataset.videos)} videos have truth, {first.instances} instances",
        f"AR: tIoU of {options.grid}, {options.budget} number of proposals up to {options.maximum}; "
        f"R: {best} proposals of a video",
        f"ranked by: {', '.join(f'{result.name}: {result.score}' for result in results)}",
    ]
    return results, said


def _truth(options: CompareOptions) -> tuple[Dataset, list[str]]:
    """What counts, and the lines that say so."""
    dataset, said = read_annotations(options.annotations), []
    if options.protocol is not None:
        chosen = protocol(options.protocol)
        said.append(f"protocol {chosen.line(dataset)}")
        dataset = chosen.apply(dataset)
    elif options.subset:
        dataset = dataset.subset(options.subset)
    if options.store is not None:
        said.append(f"store: {dataset_coverage(dataset, open_store(options.store).ids)}")
    return dataset, said


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
    return MethodResult(
        compared.name,
        proposals.score,
        per_video,
        curve,
        recall,
        by_length,
        by_number,
        compared.seconds,
        seconds,
    )


__all__ = ["CompareOptions", "MethodResult", "compare", "compare_proposals"]
