"""A model folder: everything that is needed to detect actions in a video file, in a folder that can be moved.

::

    MODEL/model.yaml       options of proposals, fusion and post-processing
    MODEL/actionness-1/    run folder of each actionness head
    MODEL/ssn-1/           run folder of each SSN head; its checkpoint holds the recipe of the features
    MODEL/weights/         weights of the backbones, if they are files
    MODEL/operating-point.json   score thresholds, if they were chosen (bench/operating_point.py)

Each of these folders has a ``hashes.json`` (:mod:`ssn_feat.hashes`). ``model.yaml`` names files and folders inside the
model folder only.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssn_feat.cli import as_yaml, from_record, read_yaml
from ssn_feat.detection.postprocess import PostprocessOptions
from ssn_feat.errors import UserError
from ssn_feat.extraction import ExtractOptions, backbones_of
from ssn_feat.files import replacing_folder
from ssn_feat.hashes import HASHES, HashedFolder, read_checked
from ssn_feat.proposals import Proposals, TagOptions
from ssn_feat.proposals.actionness import FusionName
from ssn_feat.results.operating_point import FILE_NAME as OPERATING_POINT
from ssn_feat.results.operating_point import OperatingPoint
from ssn_feat.runs.checkpoints import CHECKPOINT, Run, load_run
from ssn_feat.store import FeatureStore
from ssn_feat.store.recipe import Recipe
from ssn_feat.store.stream_recipes import combine, conflicts, restrict, streams_of

SETTINGS = "model.yaml"
# Files of a run folder that a model needs, and those that record its origin.
_OF_A_RUN = (CHECKPOINT, "config.yaml", "environment.json", "summary.json")
# Runs of each kind that a model may name: more would only make a fabricated model slow.
MOST_RUNS = 64
# Parameters of a file of proposals that are not options of TAG.
_NOT_OF_TAG = ("store", "number", "runs", "weights", "fusion", "fingerprint")


@dataclass(frozen=True)
class ModelSettings:
    """The content of ``model.yaml``. Folders and files are named relative to the model folder."""

    actionness: tuple[str, ...]
    """Folders of the actionness runs."""
    ssn: tuple[str, ...]
    """Folders of the SSN runs."""
    actionness_weights: tuple[float, ...] = ()
    """Weight of each actionness run; by default equal."""
    actionness_fusion: FusionName = "mean"
    """How actionness runs are fused."""
    ssn_weights: tuple[float, ...] = ()
    """Weight of each SSN run; by default equal."""
    original_scoring: bool = False
    """Whether proposals are scored as in the original code."""
    backbones: dict[str, str] = field(default_factory=dict)
    """Weights of the backbone of each stream: a file, or a name that the backbone knows; by default its own weights."""
    flow_network: str = ""
    """File of weights of the network that computes optical flow, if a network does."""
    tag: TagOptions = field(default_factory=TagOptions)
    """How actionness is grouped."""
    proposals: int | None = None
    """Number of proposals kept per video, the best ones (train/propose.py --number); None: all."""
    postprocess: PostprocessOptions = field(default_factory=PostprocessOptions)
    """How raw scores become detections."""


def read_settings(path: Path) -> ModelSettings:
    """Read ``path``, a ``model.yaml`` of this version or of an earlier one.

    Unknown keys are ignored with a note. Raises UserError if the file cannot be read or a value is missing or invalid.
    """
    values = read_yaml(path)
    if "released" in values:  # the name of this setting in version 0.1
        values["original_scoring"] = values.pop("released")
    return from_record(ModelSettings, values, str(path))


def save_model(
    folder: Path,
    store: FeatureStore,
    proposals: Proposals,
    runs: Sequence[Path],
    weights: Sequence[float] = (),
    original_scoring: bool = False,
    options: PostprocessOptions | None = None,
    trusted: Collection[str] = (),
) -> None:
    """Write a model folder with everything that the detections on ``store`` were made with.

    An existing model in ``folder`` is replaced. ``proposals`` name the actionness runs and options that made them, the
    store names the weights of its backbones. ``trusted``: as in :meth:`Model.load`.
    Raises UserError if the proposals were not made by TAG, a file is missing or has changed, or ``folder`` holds
    something else than a model.
    """
    if folder.exists() and not (folder / SETTINGS).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not a model folder: choose another one")
    if options is not None and options.classifier is not None:
        raise UserError("a model folder cannot hold an outside classifier: save it without --classifier")
    made = _made_by(proposals)
    recipe = _recipe_of([load_run(run) for run in (*runs, *made["runs"])])
    store.require_recipe(recipe)
    chosen, flow_network = _weights_of(store, recipe)
    backbones_of(recipe, chosen, "cpu", flow_network, trusted)  # raises UserError on weights that have changed
    with replacing_folder(folder) as part:
        settings = ModelSettings(
            actionness=_copy_runs(made["runs"], part, "actionness"),
            ssn=_copy_runs(runs, part, "ssn"),
            actionness_weights=tuple(made["weights"]),
            actionness_fusion=made["fusion"],
            ssn_weights=tuple(weights),
            original_scoring=original_scoring,
            backbones={s: _copy_weights(w, part, s) for s, w in chosen.items() if w is not None},
            flow_network=_copy_weights(flow_network, part, "flow-network") if flow_network else "",
            tag=made["tag"],
            proposals=made["number"],
            postprocess=options or PostprocessOptions(),
        )
        HashedFolder(part).write(SETTINGS, as_yaml(settings).encode())


def _made_by(proposals: Proposals) -> dict[str, Any]:
    """Runs, weights, fusion and options of TAG, from the parameters of the proposals."""
    known = proposals.parameters
    if proposals.method != "tag" or "runs" not in known:
        raise UserError(
            f"a model needs proposals of the method 'tag', but these are of method {proposals.method!r}: "
            "make them by train/propose.py --actionness RUN"
        )
    options = from_record(TagOptions, {k: v for k, v in known.items() if k not in _NOT_OF_TAG}, "the file of proposals")
    runs = [Path(run) for run in known["runs"]]
    missing = [run for run in runs if not run.exists()]
    if missing:
        raise UserError(
            f"these proposals were made with the actionness run {missing[0]}, which does not exist: restore it, or "
            "start in the folder in which train/propose.py was started"
        )
    return {
        "runs": runs,
        **{k: known[k] for k in ("weights", "fusion")},
        "number": known.get("number"),
        "tag": options,
    }


def _recipe_of(runs: Sequence[Run], where: str = "this store") -> Recipe:
    """The recipe of the features that runs read. Raises UserError if they contradict each other."""
    first = runs[0]
    if all(run.fingerprint == first.fingerprint for run in runs):
        return first.recipe
    # A stream was added to the store, or removed from it, between two trainings.
    recipe = restrict(first.recipe, first.streams)
    for run in runs[1:]:
        run.require_features(first.fingerprints, f"the first SSN run of {where}")
        other = restrict(run.recipe, run.streams)
        fields = conflicts(recipe, other)
        if fields:
            listed = "; ".join(f"{name} was {before} and is {now}" for name, before, now in fields)
            raise UserError(f"the runs of {where} were trained on features of other recipes: {listed}")
        recipe = combine(recipe, other)
    return recipe


def _weights_of(store: FeatureStore, recipe: Recipe) -> tuple[dict[str, str | None], str]:
    """The weights, by stream, with which the features were extracted, and those of the flow network."""
    weights: dict[str, str | None] = dict.fromkeys(streams_of(recipe))
    flow_network = ""
    # Of several runs that extracted a stream, the first record counts.
    for run in reversed(store.runs()):
        options = from_record(ExtractOptions, run["options"], f"the store {store.path}")
        weights |= {stream: options.weights_of(stream) for stream in options.snippets.streams if stream in weights}
        if "flow" in options.snippets.streams and "flow" in weights:
            flow_network = options.snippets.flow_weights
    return weights, flow_network


def _copy_runs(runs: Sequence[Path], folder: Path, kind: str) -> tuple[str, ...]:
    if len(runs) > MOST_RUNS:
        raise UserError(f"a model holds at most {MOST_RUNS} {kind} runs, not {len(runs)}")
    names = []
    for number, run in enumerate(runs, start=1):
        load_run(run)  # raises UserError on a run that cannot be read
        target = HashedFolder(folder / f"{kind}-{number}")
        if run.is_file():  # a checkpoint of a run, such as best.pt
            target.write(CHECKPOINT, read_checked(run))
        for name in _OF_A_RUN:
            if run.is_dir() and (run / name).exists():
                target.write(name, read_checked(run / name))
        names.append(target.path.name)
    return tuple(names)


def _copy_weights(weights: str, folder: Path, name: str) -> str:
    """The name of the copy, or ``weights`` itself if it is not a file."""
    if not Path(weights).is_file():
        return weights
    target = f"{name}{Path(weights).suffix}"
    HashedFolder(folder / "weights").write(target, read_checked(Path(weights)))
    return f"weights/{target}"


@dataclass(frozen=True)
class ModelParts:
    """The content of a model folder."""

    settings: ModelSettings
    actionness: list[Run]
    ssn: list[Run]
    recipe: Recipe
    """The recipe of the features that the runs read."""
    weights: dict[str, str]
    """Weights of the backbone of each stream: the path of a file in the folder, or a name that the backbone knows."""
    flow_network: str
    """Path of the weights of the network that computes optical flow; "" if none does."""
    operating_point: OperatingPoint | None
    """Score thresholds of the classes, if they were chosen."""


def read_model(folder: Path) -> ModelParts:
    """Read the settings and runs of a model folder, and check the hash of every file.

    Raises UserError if a part is missing or damaged, if runs do not fit each other, or if ``model.yaml`` names
    something outside the folder, a run twice, or too many runs.
    """
    if not (folder / SETTINGS).is_file():
        raise UserError(
            f"{folder} is not a model folder: it has no {SETTINGS} (train/detect.py store --save-model makes one)"
        )
    where = folder / SETTINGS
    settings = read_settings(_inside(folder, SETTINGS))
    names = (*settings.actionness, *settings.ssn)
    if not settings.ssn or not settings.actionness:
        raise UserError(f"{where} must name at least one SSN run and one actionness run")
    if max(len(settings.ssn), len(settings.actionness)) > MOST_RUNS:
        raise UserError(f"{where} names {len(names)} runs: a model holds at most {MOST_RUNS} of each kind")
    folders: dict[Path, Path] = {}
    for name in names:
        path = _run_inside(folder, name)
        if folders.setdefault(path.resolve(), path) is not path:
            raise UserError(f"{where} names the run {name} more than once")
    weights = {stream: _weights_inside(folder, name) for stream, name in settings.backbones.items()}
    flow_network = str(_inside(folder, settings.flow_network)) if settings.flow_network else ""
    runs = [load_run(path) for path in folders.values()]
    actionness, ssn = runs[: len(settings.actionness)], runs[len(settings.actionness) :]
    recipe = _recipe_of([*ssn, *actionness], str(folder))
    point = OperatingPoint.load(folder) if _inside(folder, OPERATING_POINT).exists() else None
    return ModelParts(settings, actionness, ssn, recipe, weights, flow_network, point)


def _inside(folder: Path, name: str) -> Path:
    """The path ``name`` in the model folder. Raises UserError if it leads outside, also by a link."""
    path = folder / name
    try:
        path.exists()
        leads_outside = not path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # too long, with a NUL, a link to itself
        leads_outside = True
    if leads_outside or not name or name.startswith("/") or ".." in path.relative_to(folder).parts:
        raise UserError(
            f"{folder / SETTINGS} names {name[:200]!r}: a model may name files and folders inside its own folder only"
        )
    return path


def _run_inside(folder: Path, name: str) -> Path:
    """The run folder ``name``, of which no file leads outside the model folder."""
    run = _inside(folder, name)
    for file in (*_OF_A_RUN, HASHES):
        _inside(folder, f"{name}/{file}")
    return run


def _weights_inside(folder: Path, name: str) -> str:
    """The path of the file ``name`` in the model folder; ``name`` itself if it can only be a name of weights."""
    path = _inside(folder, name)
    if path.is_file():
        return str(path)
    if "/" in name or os.sep in name or Path(name).exists():
        raise UserError(f"{folder / SETTINGS} names the weights {name[:200]!r}, which are not in {folder}")
    return name


__all__ = ["MOST_RUNS", "SETTINGS", "ModelParts", "ModelSettings", "read_model", "read_settings", "save_model"]
