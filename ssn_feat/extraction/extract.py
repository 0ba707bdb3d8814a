"""A folder of videos into a feature store: says what it will do, does it, survives bad videos, can be run again."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, replace

import torch

from ssn_feat.extraction.options import ExtractOptions
from ssn_feat.extraction.plan import Plan, describe, make_plan
from ssn_feat.extraction.progress import Progress
from ssn_feat.extraction.sources import coverage
from ssn_feat.extraction.workers import outcomes
from ssn_feat.store import FeatureStore


@dataclass(frozen=True)
class ExtractReport:
    """What a run did."""

    extracted: dict[str, int]
    """Number of snippets of each video that this run committed."""
    done_before: int
    """Videos that were there already."""
    missing: tuple[str, ...]
    """Ids that the annotations name and that have no file."""
    failures: dict[str, str]
    """Why, by id, for each video that could not be extracted."""
    warnings: dict[str, tuple[str, ...]]
    """What was odd, by id, about videos that were extracted."""
    seconds: float
    """Time of extraction, without start-up."""

    @property
    def exit_code(self) -> int:
        """0: no failures. 1: some videos failed. 2: nothing but failures."""
        if not self.failures:
            return 0
        return 1 if self.extracted or self.done_before else 2


def extract(options: ExtractOptions) -> ExtractReport:
    """Extract features of videos into a store: every stream in one pass, each video committed by itself.

    Prints what it will do, shows progress, prints what failed. Raises UserError where nothing can be done at all:
    no videos, weights that do not fit, a store of another recipe or one that cannot be written.
    """
    options = replace(options, device=_device(options.device))
    found = coverage(options.videos, options.annotations, options.subsets, options.prefix, options.name)
    plan = make_plan(options, found)
    print(describe(plan, options), flush=True)
    report = ExtractReport({}, len(plan.done), found.missing, {}, {}, 0.0)
    if options.dry_run:
        return report
    store = FeatureStore.open_or_create(options.store, plan.recipe, found.name)
    try:
        report = _run(options, store, plan, report)
    finally:
        store.staging.close()
    print(summarise(report), flush=True)
    return report


def _run(options: ExtractOptions, store: FeatureStore, plan: Plan, report: ExtractReport) -> ExtractReport:
    """Carry out a plan; the report filled in."""
    extracted: dict[str, int] = {}
    failures: dict[str, str] = {}
    warnings: dict[str, tuple[str, ...]] = {}
    with Progress(len(plan.todo), round(sum(plan.rows.values()))) as progress:
        for outcome in outcomes(options, store, plan, progress):
            if outcome.failure is None:
                extracted[outcome.id] = outcome.rows
            else:
                failures[outcome.id] = outcome.failure
            if outcome.warnings:
                warnings[outcome.id] = outcome.warnings
            progress.video(plan.rows[outcome.id], outcome.rows)
        return replace(report, extracted=extracted, failures=failures, warnings=warnings, seconds=progress.seconds)


def main(options: ExtractOptions) -> int:
    """Extract features of a folder of videos into a feature store; run the same command again to resume."""
    return extract(options).exit_code


def _device(name: str) -> str:
    return name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def summarise(report: ExtractReport) -> str:
    """The lines that are printed when a run is over."""

    def count(ids: Sized) -> str:
        return f"{len(ids)} video{'s' if len(ids) != 1 else ''}"

    snippets = sum(report.extracted.values())
    lines = [
        f"extracted {count(report.extracted)}, {snippets:,} snippets in {report.seconds:.1f} s "
        f"({snippets / max(report.seconds, 1e-9):,.1f} snippets/s); {report.done_before} were there before"
    ]
    if report.warnings:
        lines.append(f"{count(report.warnings)} with something odd:")
        lines += [f"  {video_id}: {'; '.join(found)}" for video_id, found in sorted(report.warnings.items())]
    if report.failures:
        lines.append(f"{count(report.failures)} failed; running the same command again tries again:")
        lines += [f"  {video_id}: {reason}" for video_id, reason in sorted(report.failures.items())]
    return "\n".join(lines)
