"""A folder of videos into a feature store: says what it will do, does it, survives bad videos, can be run again."""

from __future__ import annotations

from collections.abc import Collection, Sized
from dataclasses import dataclass, replace

import joblib
import torch

from ssn_feat.backbones import usable_device
from ssn_feat.extraction.extract_options import ExtractOptions
from ssn_feat.extraction.extract_progress import Progress
from ssn_feat.extraction.plan import Plan, describe, make_plan, run_record
from ssn_feat.extraction.video_files import coverage
from ssn_feat.extraction.workers import outcomes
from ssn_feat.progress import progress_bar
from ssn_feat.store import FeatureStore, open_or_create_store
from ssn_feat.terminal import printable
from ssn_feat.video import resolved_method


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
    elsewhere: tuple[str, ...] = ()
    """Ids of videos that other runs were at work on."""
    seconds: float = 0.0
    """Time of extraction, without start-up."""

    def __repr__(self) -> str:
        parts = {
            "extracted": len(self.extracted),
            "there before": self.done_before,
            "failed": len(self.failures),
            "missing": len(self.missing),
            "left to other runs": len(self.elsewhere),
        }
        return (
            f"ExtractReport(videos: {', '.join(f'{count} {what}' for what, count in parts.items() if count) or 'none'})"
        )

    @property
    def exit_code(self) -> int:
        """0: no failures. 1: some videos failed. 2: nothing but failures."""
        if not self.failures:
            return 0
        return 1 if self.extracted or self.done_before else 2


def extract(options: ExtractOptions, again: Collection[str] = ()) -> ExtractReport:
    """Extract features of videos into a store: every stream in one pass, each video committed by itself.

    ``again``: ids of the only videos to extract, in place of what is committed of them.

    Prints what it will do, shows progress, prints what failed. Raises UserError where nothing can be done at all:
    no videos, weights that do not fit, a store of another recipe or one that cannot be written.
    """
    options = settled(options)
    found = coverage(options.videos, options.annotations, options.subsets, options.prefix, options.name)
    plan = make_plan(options, found, again)
    print(describe(plan, options), flush=True)
    report = ExtractReport({}, len(plan.done), found.missing, {}, {})
    if options.dry_run:
        return report
    store = open_or_create_store(options.store, plan.recipe, found.name, options.compress)
    if again:
        for video_id in plan.todo:
            store.discard(video_id)
    else:
        store.record_run(run_record(plan, options, store))
    report = _run(options, store, plan, report)
    print(summarise(report), flush=True)
    return report


def _run(options: ExtractOptions, store: FeatureStore, plan: Plan, report: ExtractReport) -> ExtractReport:
    """Carry out a plan; the report filled in."""
    extracted: dict[str, int] = {}
    failures: dict[str, str] = {}
    elsewhere: list[str] = []
    warnings: dict[str, tuple[str, ...]] = {}
    with progress_bar("videos", len(plan.todo)) as advance:
        progress = Progress(advance, plan.rows)
        for outcome in outcomes(options, store, plan, progress):
            if outcome.failure is not None:
                failures[outcome.id] = outcome.failure
            elif outcome.elsewhere:
                elsewhere.append(outcome.id)
            else:
                extracted[outcome.id] = outcome.rows
            if outcome.warnings:
                warnings[outcome.id] = outcome.warnings
            progress.video()
    return replace(
        report,
        extracted=extracted,
        failures=failures,
        warnings=warnings,
        elsewhere=tuple(elsewhere),
        seconds=progress.seconds,
    )


def main(options: ExtractOptions) -> int:
    """Extract features of a folder of videos into a feature store; run the same command again to resume."""
    return extract(options).exit_code


def settled(options: ExtractOptions) -> ExtractOptions:
    """Options with device, precision, flow method, batch and number of processes chosen where they are left open.

    On a CPU, processes of one thread each: two gave twice the snippets a second of one with two threads, whose threads
    wait for each other. Raises UserError for a device that cannot be used.
    """
    device = options.device
    if device == ("auto",):
        device = ("cuda",) if torch.cuda.is_available() else ("cpu",)
    if not options.dask:
        for name in device:
            usable_device(name)
    gpu = device[0].startswith("cuda")
    precision = options.precision
    if precision == "auto":
        precision = "float16" if gpu else "float32"
    snippets = options.snippets
    if snippets.flow_method == "auto":
        snippets = replace(snippets, flow_method=resolved_method("auto", "cuda" if gpu else "cpu"))
    return replace(
        options,
        device=device,
        precision=precision,
        snippets=snippets,
        batch=options.batch or (64 if gpu else 16),
        jobs=options.jobs or (len(device) if gpu else joblib.cpu_count()),
    )


def summarise(report: ExtractReport) -> str:
    """The lines that are printed when a run is over."""

    def count(ids: Sized) -> str:
        return f"{len(ids)} video{'s' if len(ids) != 1 else ''}"

    snippets = sum(report.extracted.values())
    lines = [
        f"extracted {count(report.extracted)}, {snippets:,} snippets in {report.seconds:.1f} s "
        f"({snippets / max(report.seconds, 1e-9):,.1f} snippets/s); {report.done_before} were there before"
    ]
    if report.elsewhere:
        lines.append(f"{count(report.elsewhere)} left to other runs that are at work on this store")
    if report.warnings:
        lines.append(f"{count(report.warnings)} with something odd:")
        lines += [
            f"  {printable(video_id)}: {printable('; '.join(found))}"
            for video_id, found in sorted(report.warnings.items())
        ]
    if report.failures:
        lines.append(f"{count(report.failures)} failed; running the same command again tries again:")
        lines += [
            f"  {printable(video_id)}: {printable(reason)}" for video_id, reason in sorted(report.failures.items())
        ]
    return "\n".join(lines)
