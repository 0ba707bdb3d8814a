"""Extracts a folder of videos into a feature store: prints a plan, isolates failures, resumes when run again."""

from __future__ import annotations

from collections.abc import Sized
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import joblib
import torch

from ssn_feat.backbones import usable_device
from ssn_feat.errors import exit_code_of
from ssn_feat.extraction.commit_video import Again
from ssn_feat.extraction.extract_options import ExtractOptions
from ssn_feat.extraction.extract_progress import Progress
from ssn_feat.extraction.plan import ExtractionPlan, describe_plan, make_plan, run_record
from ssn_feat.extraction.video_files import list_video_files
from ssn_feat.extraction.workers import outcomes
from ssn_feat.progress import progress_bar
from ssn_feat.store import FeatureStore, open_or_create_store
from ssn_feat.terminal import counted, listing, printable


@dataclass(frozen=True)
class ExtractReport:
    """The result of a run."""

    extracted: dict[str, int]
    """Number of snippets of each video that this run committed."""
    done_before: int
    """Videos that were committed before."""
    missing: tuple[str, ...]
    """Ids that the annotations name and that have no file."""
    failures: dict[str, str]
    """The reason, by id, for each video that could not be extracted."""
    warnings: dict[str, tuple[str, ...]]
    """Warnings, by id, about videos that were extracted."""
    elsewhere: tuple[str, ...] = ()
    """Ids of videos that other runs were working on."""
    changed: dict[str, str] = field(default_factory=dict)
    """How the file differs, by id, of each committed video that has another file now and was not extracted again."""
    seconds: float = 0.0
    """Time of extraction, without start-up."""

    def __repr__(self) -> str:
        parts = {
            "extracted": len(self.extracted),
            "there before": self.done_before,
            "failed": len(self.failures),
            "missing": len(self.missing),
            "left to other runs": len(self.elsewhere),
            "changed": len(self.changed),
        }
        return (
            f"ExtractReport(videos: {', '.join(f'{count} {what}' for what, count in parts.items() if count) or 'none'})"
        )

    @property
    def exit_code(self) -> int:
        """0: no failures. 1: some videos failed. 2: all videos failed."""
        return exit_code_of(len(self.failures), len(self.extracted) + self.done_before)


def extract(options: ExtractOptions, again: Again | None = None) -> ExtractReport:
    """Extract features of videos into a store: every stream in one pass, each video committed by itself.

    A video that the store holds with some of the streams gets those that it lacks. ``again``: extract only these
    committed videos and replace their features.

    Prints the plan, progress and failures unless ``options.quiet``. Raises UserError if no video can be extracted:
    there are no videos, weights do not fit, or the store has another recipe or cannot be written.
    """
    options = resolve_defaults(options)
    files = list_video_files(
        options.videos,
        options.annotations,
        options.subsets,
        options.prefix,
        options.name,
        options.ids,
        options.names,
        options.quiet,
    )
    plan = make_plan(options, files, again)
    if not options.quiet:
        print(describe_plan(plan), flush=True)
    changed = {} if options.update else plan.sources.changed
    report = ExtractReport({}, len(plan.done), files.missing, {}, {}, changed=changed)
    if options.dry_run:
        return report
    store = open_or_create_store(options.store, plan.recipe, files.name, options.compress)
    if again is None:
        store.record_run(run_record(plan, store))
    report = _run(store, plan, report)
    if not options.quiet:
        print(summarise(report), flush=True)
    return report


def _run(store: FeatureStore, plan: ExtractionPlan, report: ExtractReport) -> ExtractReport:
    """Carry out a plan. Returns ``report`` with its results."""
    extracted: dict[str, int] = {}
    failures: dict[str, str] = {}
    elsewhere: list[str] = []
    warnings: dict[str, tuple[str, ...]] = {}
    with nullcontext(None) if plan.options.quiet else progress_bar("videos", len(plan.todo)) as advance:
        progress = Progress(advance, plan.rows)
        for outcome in outcomes(plan, store, progress):
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


def run_extraction(options: ExtractOptions) -> int:
    """Extract features of a folder of videos into a feature store; run the same command again to resume."""
    return extract(options).exit_code


def resolve_defaults(options: ExtractOptions) -> ExtractOptions:
    """Options with device, precision, batch size and number of processes filled in.

    On a CPU, the default is single-threaded processes: two of them extracted twice as many snippets per second as one
    process with two threads, which wait for each other. Raises UserError for a device that cannot be used.
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
    return replace(
        options,
        device=device,
        precision=precision,
        batch=options.batch or (64 if gpu else 16),
        jobs=options.jobs or (len(device) if gpu else joblib.cpu_count()),
    )


def summarise(report: ExtractReport) -> str:
    """The lines that are printed at the end of a run."""

    def count(ids: Sized) -> str:
        return counted(len(ids), "video")

    snippets = sum(report.extracted.values())
    lines = [
        f"extracted {count(report.extracted)}, {snippets:,} snippets in {report.seconds:.1f} s "
        f"({snippets / max(report.seconds, 1e-9):,.1f} snippets/s); {report.done_before} were there before"
    ]
    if report.elsewhere:
        lines.append(f"{count(report.elsewhere)} skipped because other runs are extracting them into this store")
    if report.changed:
        lines.append(
            f"{count(report.changed)} changed since extraction: {listing(tuple(report.changed))}; --update extracts "
            "changed videos again"
        )
    if report.warnings:
        lines.append(f"{count(report.warnings)} with warnings:")
        lines += [
            f"  {printable(video_id)}: {printable('; '.join(warnings))}"
            for video_id, warnings in sorted(report.warnings.items())
        ]
    if report.failures:
        lines.append(f"{count(report.failures)} failed; run the same command again to retry:")
        lines += [
            f"  {printable(video_id)}: {printable(reason)}" for video_id, reason in sorted(report.failures.items())
        ]
    return "\n".join(lines)


__all__ = ["ExtractReport", "extract", "resolve_defaults", "run_extraction", "summarise"]
