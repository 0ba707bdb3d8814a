"""The functions of ``import ssn_feat``: the commands as Python functions, which return what they made.

Each takes the options of its command as keywords, those of nested groups by their own names (``lr=0.01``), prints
nothing unless ``quiet=False``, and imports what it needs when it is called.
"""

from __future__ import annotations

import dataclasses
import typing
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import tyro

from ssn_feat.cli import from_dict, to_dict
from ssn_feat.cli.options import suggestion
from ssn_feat.errors import UserError
from ssn_feat.terminal import printable

if TYPE_CHECKING:
    from ssn_feat.annotations import Dataset
    from ssn_feat.evaluation.measure import Evaluation
    from ssn_feat.extraction import ExtractReport
    from ssn_feat.proposals import Proposals
    from ssn_feat.results.detections import Detections
    from ssn_feat.runs.checkpoints import Run
    from ssn_feat.store import FeatureStore
    from ssn_feat.training.fit_options import TrainingOptions

T = TypeVar("T")


def extract(videos: Path | str, store: Path | str, **options: Any) -> ExtractReport:
    """Extract features of a folder of videos into a feature store, or resume an extraction.

    ``options``: the fields of :class:`ssn_feat.extraction.ExtractOptions` and of its ``snippets``. Videos that fail are
    in the report and in a warning. Raises UserError if nothing can be extracted at all.

    ::

        report = sf.extract("videos", "features.zarr", annotations="annotations.json", stride=8)
        report.failures  # the reason for each video that failed
    """
    from ssn_feat.extraction import ExtractOptions
    from ssn_feat.extraction import extract as run

    report = run(options_from_keywords(ExtractOptions, {"videos": videos, "store": store, "quiet": True} | options))
    for video, reason in report.failures.items():
        warnings.warn(printable(f"{video} was not extracted: {reason}"), stacklevel=2)
    return report


def fit(
    store: FeatureStore | Path | str,
    annotations: Dataset | Path | str,
    out: Path | str,
    *,
    preset: str | None = None,
    **options: Any,
) -> Run | list[Run]:
    """Train a head on features; ``out`` is the folder of the run.

    ``head``, one of the options: ssn (the default), actionness, one-stage, or ``package.module:Class`` for your own.
    ``preset``: thumos14, activitynet1.2, activitynet1.3 or small (tens of videos); for one-stage, thumos14-i3d,
    activitynet1.3-tsp or small. ``options``: the fields of :class:`ssn_feat.training.fit_options.FitOptions` (or
    :class:`ssn_feat.training.sequence_options.OneStageFitOptions`) and of its groups. Returns the trained run, or a
    list of them if the options ask for several heads (``seeds=5``, ``fusion="late"``). Raises UserError if the inputs
    do not fit together, or if ``out`` holds a run and neither ``resume`` nor ``overwrite`` is True.

    ::

        actionness = sf.fit(store, truth, "runs/actionness", head="actionness", preset="small")
        ssn = sf.fit(store, truth, "runs/ssn", proposals=proposals, streams=["rgb", "flow"], lr=0.01)
    """
    from ssn_feat.runs.checkpoints import load_run
    from ssn_feat.training.fit import fit as run
    from ssn_feat.training.fit import runs_of, stream_runs

    given = {"store": store, "annotations": annotations, "out": out, "quiet": True} | options
    cls, presets = _fit_options(options.get("head"))
    chosen = options_from_keywords(cls, given, presets, preset)
    run(chosen)
    heads = stream_runs(chosen).values() if chosen.fusion == "late" else [chosen]
    runs = [load_run(each.out, [chosen.head]) for head in heads for each in runs_of(head)]
    return runs if chosen.seeds > 1 or chosen.fusion == "late" else runs[0]


def _fit_options(head: Any) -> tuple[type[TrainingOptions], Mapping[str, TrainingOptions]]:
    """The options of a training of this head, and their presets."""
    from ssn_feat.heads.kinds import is_own
    from ssn_feat.training.fit_options import FitOptions
    from ssn_feat.training.presets import PRESETS
    from ssn_feat.training.sequence_options import ONE_STAGE_PRESETS, OneStageFitOptions, options_of

    if head == "one-stage":
        return OneStageFitOptions, ONE_STAGE_PRESETS
    return (options_of(head), {}) if is_own(head) else (FitOptions, PRESETS)


def propose(store: FeatureStore | Path | str, out: Path | str, **options: Any) -> Proposals:
    """Propose intervals where actions may be in the videos of a store; ``out`` is the file (.npz) to write.

    ``options``: the fields of :class:`ssn_feat.proposals.propose.ProposeOptions` and of its groups. Raises UserError if
    the inputs do not fit together, or if there is not a single proposal.

    ::

        proposals = sf.propose(store, "proposals.npz", actionness=actionness, number=200)
        proposals.intervals["v1"]  # float64 (N, 2), seconds
    """
    from ssn_feat.proposals.propose import ProposeOptions
    from ssn_feat.proposals.propose import propose as run

    return run(options_from_keywords(ProposeOptions, {"store": store, "out": out, "quiet": True} | options))


def detect(
    store: FeatureStore | Path | str | None = None,
    proposals: Proposals | Path | str | None = None,
    checkpoint: Run | Path | str | Sequence[Run | Path | str] = (),
    *,
    preset: str | None = None,
    **options: Any,
) -> Detections:
    """Detect actions in the videos of a store: score proposals with trained heads, fuse, suppress and refine.

    ``checkpoint``: one run or several, whose scores are fused; ``proposals`` may be None if all of them are runs of
    one-stage heads or your own. ``preset``: the post-processing of a data set, such
    as thumos14. ``options``: the fields of :class:`ssn_feat.detection.detect_store.DetectOptions` and of its
    ``postprocess``; with ``scores``, files of an earlier call, nothing is scored again. Writes the detections to
    ``out`` (default: detections.json) and the raw scores beside it. Raises UserError if the inputs do not fit together.

    ::

        detections = sf.detect(store, proposals, [rgb, flow], annotations=truth, subset="testing", nms_threshold=0.4)
        detections["v1"].intervals  # float64 (N, 2), seconds, best first
    """
    from ssn_feat.detection.detect_store import PRESETS, DetectOptions
    from ssn_feat.detection.detect_store import detect as run

    given = {"store": store, "proposals": proposals, "checkpoint": checkpoint, "quiet": True} | options
    return run(options_from_keywords(DetectOptions, given, PRESETS, preset))


def evaluate(
    detections: Detections | Path | str,
    annotations: Dataset | Path | str,
    *,
    preset: str | None = None,
    **options: Any,
) -> Evaluation:
    """Mean average precision of detections, with 95 % bootstrap intervals over videos.

    ``preset``: the thresholds and the subset of a data set, such as thumos14. ``options``: the fields of
    :class:`ssn_feat.evaluation.evaluate_options.EvaluateOptions`. Raises UserError on unknown classes, and on videos
    that ``annotations`` do not have unless ``unknown_videos`` says what to do with them.

    ::

        result = sf.evaluate(detections, truth, subset="testing", thresholds=[0.5])
        result.average  # mAP averaged over the thresholds; result.mean: at each of them
    """
    from ssn_feat.annotations import Dataset
    from ssn_feat.evaluation.evaluate import PRESETS, EvaluateOptions
    from ssn_feat.evaluation.evaluate import evaluate as run
    from ssn_feat.results.detections import Detections

    named = {"detections": detections} if isinstance(detections, Detections) else None
    dataset = annotations if isinstance(annotations, Dataset) else None
    given = {
        "files": () if named else [detections],
        "annotations": annotations if dataset is None else dataset.source or dataset.name,
        "quiet": True,
    }
    return run(options_from_keywords(EvaluateOptions, given | options, PRESETS, preset), named, dataset)[0]


def options_from_keywords(
    cls: type[T], keywords: Mapping[str, Any], presets: Mapping[str, T] | None = None, preset: str | None = None
) -> T:
    """Options of the dataclass ``cls``; those of its groups are given by their own names, as on the command line.

    What knows its file (a store, a run, proposals, annotations) stands for it, and a single value for a tuple of one.
    ``preset``: the name of one of ``presets``, which gives the values that ``keywords`` do not. Raises UserError on an
    unknown name, and as :func:`ssn_feat.cli.from_dict`.
    """
    if preset is not None and preset not in (presets or {}):
        raise UserError(f"unknown preset {preset!r}{suggestion(preset, presets or {})}: {', '.join(presets or {})}")
    values = {} if preset is None or presets is None else _given(to_dict(presets[preset]))
    fields = _fields_of(cls)
    for name, value in keywords.items():
        if name not in fields:
            raise UserError(f"unknown option {name!r}{suggestion(name, fields)}; {cls.__name__} lists all of them")
        groups, hint = fields[name]
        inner = values
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[name] = _plain(name, value)
        if _takes_many(hint) and not isinstance(inner[name], list | None):
            inner[name] = [inner[name]]
    return from_dict(cls, values, "options")


def _fields_of(cls: Any, groups: tuple[str, ...] = ()) -> dict[str, tuple[tuple[str, ...], Any]]:
    """For each option the groups that lead to it, and its type."""
    fields: dict[str, tuple[tuple[str, ...], Any]] = {}
    for name, hint in typing.get_type_hints(cls).items():
        if dataclasses.is_dataclass(hint):
            fields |= _fields_of(hint, (*groups, name))
        else:
            fields[name] = groups, hint
    return fields


def _takes_many(hint: Any) -> bool:
    """Whether the type is a tuple of any length, or may be one."""
    return typing.get_origin(hint) is tuple or any(typing.get_origin(part) is tuple for part in typing.get_args(hint))


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a preset without those that it leaves to the user."""
    given = {name: _given(value) if isinstance(value, dict) else value for name, value in values.items()}
    return {name: value for name, value in given.items() if value is not tyro.MISSING}


def _plain(name: str, value: Any) -> Any:
    """``value`` as lists, text and numbers; what knows its file as the path of the file."""
    if hasattr(value, "tolist"):  # of NumPy
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(name, item) for item in value]
    for attribute in ("path", "source"):
        if hasattr(value, attribute):
            if getattr(value, attribute) is None:
                raise UserError(f"{name}: {value!r} is in memory only; save it, and give the path of the file")
            return str(getattr(value, attribute))
    return str(value) if isinstance(value, Path) else value


__all__ = ["detect", "evaluate", "extract", "fit", "options_from_keywords", "propose"]
