"""The console command ``ssn-feat NAME …``, and the one list of what every command calls.

A script of the repository is its command without ``ssn-feat``: ``python train/fit.py …`` and ``ssn-feat fit …`` are the
same function below. What a command needs is imported when it is called, so that ``ssn-feat --help`` is quick.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from ssn_feat import __version__
from ssn_feat.cli import Command, read_yaml, run, run_chosen, run_one_of, run_verb


def toy() -> NoReturn:
    """Write a small data set of videos with known actions."""
    from ssn_feat.annotations.toy import ToyCommand, make_toy

    run(make_toy, ToyCommand)


def check_annotations() -> NoReturn:
    """Say what is wrong with a file of annotations, and mend it: annotations validate FILE."""
    from ssn_feat.annotations.validate import ValidateOptions, validate

    run_verb({"validate": Command(validate, ValidateOptions)})


def extract() -> NoReturn:
    """Features of videos into a store; run it again to go on."""
    from ssn_feat.extraction import ExtractOptions, main

    run(main, ExtractOptions)


def status() -> NoReturn:
    """What of a store is done, failed and pending."""
    from ssn_feat.extraction.maintenance import StatusOptions, print_status

    run(print_status, StatusOptions)


def verify() -> NoReturn:
    """Check every hash of a store, and repair it."""
    from ssn_feat.extraction.maintenance import VerifyOptions, verify_store

    run(verify_store, VerifyOptions)


def pack() -> NoReturn:
    """Copy a finished store into a few large files."""
    from ssn_feat.extraction.maintenance import PackOptions, pack_store

    run(pack_store, PackOptions)


def import_features() -> NoReturn:
    """Features of others into a store."""
    from ssn_feat.exchange import ImportOptions, import_main

    run(import_main, ImportOptions)


def export_features() -> NoReturn:
    """A store as features for other programs."""
    from ssn_feat.exchange import ExportOptions, export_main

    run(export_main, ExportOptions)


def fit() -> NoReturn:
    """Learn a head from a store, or a network from videos; fit sweep: many runs."""
    from ssn_feat.finetuning.clips import FitClipsOptions, fit_clips
    from ssn_feat.finetuning.end_to_end import PRESETS as PIXEL_PRESETS
    from ssn_feat.finetuning.end_to_end import EndToEndOptions, fit_end_to_end
    from ssn_feat.training.fit import fit as fit_head
    from ssn_feat.training.fit_options import FitOptions
    from ssn_feat.training.presets import PRESETS
    from ssn_feat.training.sweep import SWEEP_PRESETS, SweepOptions, sweep

    if sys.argv[1:2] == ["sweep"]:
        del sys.argv[1]
        run(sweep, SweepOptions, SWEEP_PRESETS)
    heads = Command(fit_head, FitOptions, PRESETS)
    run_one_of(
        "head",
        {"ssn": heads, "actionness": heads, "clips": Command(fit_clips, FitClipsOptions)},
        default="ssn",
        switches={"end-to-end": Command(fit_end_to_end, EndToEndOptions, PIXEL_PRESETS)},
    )


def propose() -> NoReturn:
    """Propose where actions may be."""
    from ssn_feat.proposals.propose import ProposeOptions
    from ssn_feat.proposals.propose import propose as function

    run(function, ProposeOptions)


def detect() -> NoReturn:
    """Detect actions in the videos of a store, or with --model in one video file."""
    from ssn_feat.detection.detect_store import PRESETS, DetectOptions
    from ssn_feat.detection.detect_store import detect as function
    from ssn_feat.detection.detect_video import DetectVideoOptions, detect_video

    def choose(arguments: list[str]) -> Command:
        first = arguments[0] if arguments else "--help"
        if any(argument.partition("=")[0] == "--model" for argument in arguments):
            one = True
        elif first.endswith((".yaml", ".yml")):
            one = "model" in read_yaml(Path(first))
        else:  # a video without --model: that it needs one is said then
            one = not first.startswith("-") and first not in PRESETS and Path(first).exists()
        return Command(detect_video, DetectVideoOptions) if one else Command(function, DetectOptions, PRESETS)

    run_chosen(choose)


def original() -> NoReturn:
    """Checkpoints of the original SSN code: original import FILE, original export RUN."""
    from ssn_feat.training.original_checkpoints import (
        ExportCheckpointOptions,
        ImportCheckpointOptions,
        export_checkpoint,
        import_checkpoint,
    )

    run_verb(
        {
            "import": Command(import_checkpoint, ImportCheckpointOptions),
            "export": Command(export_checkpoint, ExportCheckpointOptions),
        }
    )


def proposals() -> NoReturn:
    """Compare proposals with the truth: average recall."""
    from ssn_feat.evaluation.compare_proposals import CompareOptions, compare_proposals

    run(compare_proposals, CompareOptions)


def detections() -> NoReturn:
    """Measure detections: mean average precision, errors, curves, timelines."""
    from ssn_feat.evaluation.evaluate import PRESETS, EvaluateOptions, evaluate

    run(evaluate, EvaluateOptions, PRESETS)


def report() -> NoReturn:
    """One page of HTML of all results."""
    from ssn_feat.report.page import report as function
    from ssn_feat.report.report_options import ReportOptions

    run(function, ReportOptions)


COMMANDS: Mapping[str, Callable[[], NoReturn]] = {
    "toy": toy,
    "annotations": check_annotations,
    "extract": extract,
    "status": status,
    "verify": verify,
    "pack": pack,
    "import": import_features,
    "export": export_features,
    "fit": fit,
    "propose": propose,
    "detect": detect,
    "original": original,
    "proposals": proposals,
    "detections": detections,
    "report": report,
}


def usage() -> str:
    """What ``ssn-feat --help`` prints: every command with the line that its function says of itself."""
    width = max(map(len, COMMANDS))
    lines = (f"  {name:<{width}}  {inspect.getdoc(function)}" for name, function in COMMANDS.items())
    return "\n".join(["usage: ssn-feat COMMAND [options]; ssn-feat COMMAND --help says more", "", *lines])


def main() -> NoReturn:
    """Entry point of ``ssn-feat``: the first argument names a command, which reads the others.

    Exits with 0 after ``--help`` and ``--version``, with 2 where there is no such command, otherwise as the command
    does (:func:`ssn_feat.cli.run`).
    """
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(usage())
        sys.exit(0 if len(sys.argv) > 1 else 2)
    if name == "--version":
        print(f"ssn-feat {__version__}")
        sys.exit(0)
    if name not in COMMANDS:
        print(f"error: no command {name!r}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    sys.argv[:2] = [f"ssn-feat {name}"]
    COMMANDS[name]()


__all__ = ["COMMANDS", "main", "usage"]
