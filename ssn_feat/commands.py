"""The console command ``ssn-feat NAME …``, and the one list of what every command calls.

A script of the repository is its command without ``ssn-feat``: ``python train/fit.py head ssn …`` and ``ssn-feat fit
head ssn …`` are the same function below. What a command needs is imported when it is chosen, so that the others, and
all help that lists commands, start quickly. (tyro's own subcommands would import all of them to read their options.)
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ssn_feat import __version__
from ssn_feat.cli import Command, Group, run


def toy() -> Command[Any]:
    """Write a small data set of videos with known actions."""
    from ssn_feat.annotations.toy import ToyCommand, make_toy

    return Command(make_toy, ToyCommand)


def validate() -> Command[Any]:
    """List the faults of annotations, and mend them."""
    from ssn_feat.annotations.validate import ValidateOptions
    from ssn_feat.annotations.validate import validate as function

    return Command(function, ValidateOptions)


def extract() -> Command[Any]:
    """Extract features of videos into a store."""
    from ssn_feat.extraction import ExtractOptions, run_extraction

    common = ("annotations", "backbone", "weights", "streams", "stride", "crop", "device", "jobs", "dry_run")
    return Command(run_extraction, ExtractOptions, common=common)


def status() -> Command[Any]:
    """Show how many videos are done, failed and pending."""
    from ssn_feat.store.maintenance import StatusOptions, print_status

    return Command(print_status, StatusOptions)


def verify() -> Command[Any]:
    """Check every hash of a store, and repair it."""
    from ssn_feat.extraction.repair import VerifyOptions, verify_store

    return Command(verify_store, VerifyOptions)


def remove() -> Command[Any]:
    """Remove videos or a stream from a store."""
    from ssn_feat.store.removal import RemoveOptions
    from ssn_feat.store.removal import remove as function

    return Command(function, RemoveOptions)


def pack() -> Command[Any]:
    """Copy a finished store into a few large files."""
    from ssn_feat.store.maintenance import PackOptions, pack_store

    return Command(pack_store, PackOptions)


def import_features() -> Command[Any]:
    """Convert features of other programs into a store."""
    from ssn_feat.exchange import ImportFeaturesOptions, import_main

    common = ("layout", "files", "fps", "stride", "window", "offset", "origin", "dry_run")
    return Command(import_main, ImportFeaturesOptions, common=common)


def export_features() -> Command[Any]:
    """Write a store as features for other programs."""
    from ssn_feat.exchange import ExportFeaturesOptions, export_main

    return Command(export_main, ExportFeaturesOptions)


# Options of every training from features.
_FIT = ("streams", "subset", "epochs", "lr", "device", "resume", "overwrite")


def fit_ssn() -> Command[Any]:
    """Train an SSN head, which scores and refines proposals."""
    from ssn_feat.training.fit import fit
    from ssn_feat.training.fit_options import FitOptions
    from ssn_feat.training.presets import PRESETS

    common = (*_FIT, "proposals", "dropout", "seeds", "eval")
    return Command(fit, FitOptions, PRESETS, fixed={"head": "ssn"}, common=common)


def fit_actionness() -> Command[Any]:
    """Train an actionness head, which scores snippets."""
    from ssn_feat.training.fit import fit
    from ssn_feat.training.fit_options import FitOptions
    from ssn_feat.training.presets import PRESETS

    common = (*_FIT, "random_windows", "action_rows", "background_rows")
    return Command(fit, FitOptions, PRESETS, fixed={"head": "actionness"}, common=common)


def fit_one_stage() -> Command[Any]:
    """Train a one-stage detector, which needs no proposals."""
    from ssn_feat.training.fit import fit
    from ssn_feat.training.sequence_options import ONE_STAGE_PRESETS, OneStageFitOptions

    common = (*_FIT, "pyramid", "width", "levels", "window", "longest", "seeds", "eval")
    return Command(fit, OneStageFitOptions, ONE_STAGE_PRESETS, fixed={"head": "one-stage"}, common=common)


def fit_own(word: str) -> Command[Any] | None:
    """Train a head of your own, package.module:Class."""
    if ":" not in word:
        return None
    from ssn_feat.training.fit import fit
    from ssn_feat.training.sequence_options import options_of

    return Command(fit, options_of(word), fixed={"head": word})


def fit_backbone() -> Command[Any]:
    """Train the network of one stream on trimmed actions."""
    from ssn_feat.finetuning.clips import FitClipsOptions, fit_clips

    common = ("backbone", "weights", "subset", "steps", "batch", "segments", "rate", "crop", "device", "resume")
    return Command(fit_clips, FitClipsOptions, fixed={"head": "clips"}, common=common)


def fit_end_to_end() -> Command[Any]:
    """Train an SSN head and a network together, on videos."""
    from ssn_feat.finetuning.end_to_end import PRESETS, EndToEndOptions
    from ssn_feat.finetuning.end_to_end import fit_end_to_end as function

    common = ("proposals", "streams", "subset", "init_head", "weights", "epochs", "lr", "backbone_lr", "device")
    return Command(
        function, EndToEndOptions, PRESETS, fixed={"end_to_end": True, "head": "ssn"}, common=(*common, "resume")
    )


def sweep_ssn() -> Command[Any]:
    """Train an SSN head for each combination of options."""
    return _sweep("ssn", ("proposals", "eval"))


def sweep_actionness() -> Command[Any]:
    """Train an actionness head for each combination."""
    return _sweep("actionness", ("random_windows",))


def _sweep(head: str, common: tuple[str, ...]) -> Command[Any]:
    from ssn_feat.training.sweep import SWEEP_PRESETS, SweepOptions, sweep

    common = (*_FIT, "seeds", "vary", "jobs", *common)
    return Command(sweep, SweepOptions, SWEEP_PRESETS, fixed={"head": head}, common=common)


def propose() -> Command[Any]:
    """Propose where actions may be."""
    from ssn_feat.proposals.propose import ProposeOptions
    from ssn_feat.proposals.propose import propose as function

    common = ("method", "actionness", "weights", "actionness_baseline", "annotations", "subset", "number", "ssn_list")
    return Command(function, ProposeOptions, common=common)


def detect_store() -> Command[Any]:
    """Detect actions in the videos of a store."""
    from ssn_feat.detection.detect_store import PRESETS, DetectOptions, detect

    common = ("store", "proposals", "checkpoint", "scores", "weights", "out", "save_model", "annotations", "subset")
    return Command(detect, DetectOptions, PRESETS, common=common)


def detect_video() -> Command[Any]:
    """Detect actions in one video file with a model folder."""
    from ssn_feat.detection.detect_video import DetectVideoOptions
    from ssn_feat.detection.detect_video import detect_video as function

    return Command(function, DetectVideoOptions)


def import_original() -> Command[Any]:
    """Convert a checkpoint of the original code to a run."""
    from ssn_feat.training.original_checkpoints import ImportCheckpointOptions, import_checkpoint

    return Command(import_checkpoint, ImportCheckpointOptions)


def export_original() -> Command[Any]:
    """Convert a run to a checkpoint of the original code."""
    from ssn_feat.training.original_checkpoints import ExportCheckpointOptions, export_checkpoint

    return Command(export_checkpoint, ExportCheckpointOptions)


def proposals() -> Command[Any]:
    """Compare proposals with annotations: average recall."""
    from ssn_feat.evaluation.compare_options import CompareOptions
    from ssn_feat.evaluation.compare_proposals import compare_proposals

    common = ("subset", "protocol", "methods", "store", "actionness", "grid", "out")
    return Command(compare_proposals, CompareOptions, common=common)


def detections() -> Command[Any]:
    """Measure detections: mAP, errors, curves."""
    from ssn_feat.evaluation.evaluate import PRESETS, EvaluateOptions, evaluate

    common = ("protocol", "subset", "definition", "thresholds", "per_class", "json", "curves", "analysis")
    return Command(evaluate, EvaluateOptions, PRESETS, common=(*common, "picture", "videos", "proposals"))


def frames() -> Command[Any]:
    """Measure labels of frames: per-frame mAP, F1, edit."""
    from ssn_feat.evaluation.frames import FramesOptions, measure_frames

    return Command(measure_frames, FramesOptions)


def operating_point() -> Command[Any]:
    """Choose score thresholds for showing detections."""
    from ssn_feat.evaluation.choose_operating_point import choose_operating_point
    from ssn_feat.evaluation.operating_point_options import OperatingPointOptions

    return Command(choose_operating_point, OperatingPointOptions)


def report() -> Command[Any]:
    """Write one HTML page of all results."""
    from ssn_feat.report.page import report as function
    from ssn_feat.report.report_options import ReportOptions

    common = ("annotations", "out", "protocol", "subset", "definition", "thresholds", "store", "videos", "title")
    return Command(function, ReportOptions, common=common)


def former_fit(arguments: Sequence[str]) -> str | None:
    """The present spelling of ``fit`` with arguments of version 0.1, in which options chose what is trained."""
    if not _begins_options(arguments):
        return None
    head, rest = _without(arguments, "--head")
    end_to_end = "--end-to-end" in rest
    rest = [each for each in rest if each != "--end-to-end"]
    verb = "end-to-end" if end_to_end else "backbone" if head == "clips" else f"head {head or 'ssn'}"
    return f"{verb} {shlex.join(rest)}".strip()


def former_sweep(arguments: Sequence[str]) -> str | None:
    """The present spelling of ``fit sweep`` with arguments of version 0.1, in which an option chose the head."""
    if not _begins_options(arguments):
        return None
    head, rest = _without(arguments, "--head")
    return f"{head or 'ssn'} {shlex.join(rest)}".strip()


def former_detect(arguments: Sequence[str]) -> str | None:
    """The present spelling of ``detect`` with arguments of version 0.1, in which ``--model`` stood for one video."""
    model, _ = _without(arguments, "--model")
    if not model and not _begins_options(arguments):
        return None
    return f"{'video' if model else 'store'} {shlex.join(arguments)}"


def _begins_options(arguments: Sequence[str]) -> bool:
    """Whether arguments begin as those of a command do: with a preset, a YAML file or an option."""
    presets = ("thumos14", "activitynet1.2", "activitynet1.3", "small", "thumos14-classifier")
    return arguments[0].startswith("-") or arguments[0].endswith((".yaml", ".yml")) or arguments[0] in presets


def _without(arguments: Sequence[str], flag: str) -> tuple[str, list[str]]:
    """The value of ``flag``, empty if it is not there, and the arguments without it."""
    rest = list(arguments)
    for at, argument in enumerate(rest):
        name, equals, value = argument.partition("=")
        if name == flag:
            if equals:
                return value, rest[:at] + rest[at + 1 :]
            return " ".join(rest[at + 1 : at + 2]), rest[:at] + rest[at + 2 :]
    return "", rest


ANNOTATIONS = Group("Check files of annotations.", {"validate": validate})
FIT = Group(
    "Train a head on the features of a store, the network of one stream on videos, or both together.",
    {
        "head": Group(
            "Train a head on the features of a store; package.module:Class is a head of your own.",
            {"ssn": fit_ssn, "actionness": fit_actionness, "one-stage": fit_one_stage},
            other=fit_own,
        ),
        "backbone": fit_backbone,
        "end-to-end": fit_end_to_end,
        "sweep": Group(
            "Train a head for each combination of some options' values.",
            {"ssn": sweep_ssn, "actionness": sweep_actionness},
            former_sweep,
        ),
    },
    former_fit,
)
DETECT = Group("Detect actions.", {"store": detect_store, "video": detect_video}, former_detect)
ORIGINAL = Group(
    "Convert checkpoints of the original SSN code.", {"import": import_original, "export": export_original}
)
COMMANDS = Group(
    "Temporal action detection with structured segment networks, from cached features.",
    {
        "toy": toy,
        "annotations": ANNOTATIONS,
        "extract": extract,
        "status": status,
        "verify": verify,
        "remove": remove,
        "pack": pack,
        "import": import_features,
        "export": export_features,
        "fit": FIT,
        "propose": propose,
        "detect": DETECT,
        "original": ORIGINAL,
        "proposals": proposals,
        "detections": detections,
        "frames": frames,
        "operating-point": operating_point,
        "report": report,
    },
)


def main() -> NoReturn:
    """Entry point of ``ssn-feat``: the first words name a command, which reads the others.

    Exits with 0 after ``--help`` and ``--version``, with 2 where there is no such command, otherwise as the command
    does (:func:`ssn_feat.cli.run`).
    """
    if sys.argv[1:2] == ["--version"]:
        print(f"ssn-feat {__version__}")
        sys.exit(0)
    run(COMMANDS, "ssn-feat")


__all__ = ["ANNOTATIONS", "COMMANDS", "DETECT", "FIT", "ORIGINAL", "main"]
