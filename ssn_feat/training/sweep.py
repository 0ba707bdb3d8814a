"""A grid over options: one run for each combination, several at the same time, and one table of the results."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import quote

import yaml
from joblib import Parallel, delayed
from rich.table import Table

from ssn_feat.cli import from_dict, to_dict
from ssn_feat.drawing.tables import cell, show, table_of
from ssn_feat.errors import UserError
from ssn_feat.files import write_text
from ssn_feat.runs.folders import RESUME_MAY_CHANGE, is_run, run_folders, terms_of
from ssn_feat.terminal import printable_lines
from ssn_feat.training.fit import fit
from ssn_feat.training.fit_options import FitOptions
from ssn_feat.training.presets import PRESETS

Combination = dict[str, Any]


@dataclass(frozen=True)
class SweepOptions(FitOptions):
    """Learn a head with each combination of some options' values."""

    vary: tuple[str, ...] = ()
    """Options and their values in YAML syntax: lr=0.001,0.01 dropout=0.5,0.8 stpp=[1,1,1],[1,[1,2],1]. Each combination
    is trained in its own run folder in OUT."""
    jobs: int = 1
    """Combinations to train at the same time. Each is a process with --threads threads that reads all features."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.jobs < 1:
            raise UserError(f"jobs must be at least 1, not {self.jobs}")


SWEEP_PRESETS = {
    name: SweepOptions(**{field.name: getattr(preset, field.name) for field in fields(preset)})
    for name, preset in PRESETS.items()
}


def sweep(options: SweepOptions) -> list[dict[str, Any]]:
    """Learn a head with each combination of the values of --vary; print one table, write all numbers to
    OUT/sweep.json.

    The result has one entry for each combination, in the order of the grid: its ``values``, its folder ``out`` and its
    ``summary``, or ``error`` where the training failed, for example because the learning rate is too high. With
    ``resume``, finished runs are not repeated. Raises UserError for options that do not exist or values that are out of
    range, before anything is trained, and where all combinations fail.
    """
    grid = [_run(options, values) for values in combinations(options.vary)]
    _require_free(options, [run for _, run in grid])
    outcomes = Parallel(n_jobs=options.jobs)(delayed(_outcome)(run) for _, run in grid)
    failed = [each["error"] for each in outcomes if "error" in each]
    if len(failed) == len(outcomes):
        raise UserError(f"all combinations failed: {failed[0]}")
    results = [
        {"values": values, "out": str(run.out), **each} for (values, run), each in zip(grid, outcomes, strict=True)
    ]
    write_text(options.out / "sweep.json", json.dumps(results, indent=2) + "\n")
    if not options.quiet:
        show(_table(results))
    for result in results:
        if "error" in result:
            print(printable_lines(f"failed: {result['out']}: {result['error']}"), file=sys.stderr)
    return results


def _outcome(run: FitOptions) -> dict[str, Any]:
    """The summary or the error of one combination: an error must not stop the others."""
    try:
        return {"summary": fit(run)}
    except UserError as error:
        return {"error": str(error)}


def _require_free(options: SweepOptions, runs: Sequence[FitOptions]) -> None:
    """Raises UserError if a combination already has a run that is neither resumed nor overwritten."""
    taken = [run.out for run in runs if any(is_run(folder) for folder in run_folders(run.out))]
    if taken and not (options.resume or options.overwrite):
        raise UserError(f"{taken[0]} already holds a run: add --resume or --overwrite, or another --out")


def combinations(vary: Sequence[str]) -> list[Combination]:
    """Every combination of the values of texts like ``lr=0.001,0.01``; the last option changes fastest.

    Raises UserError for text of another form, for an option that is named twice, and where there is no text.
    """
    axes: dict[str, list[Any]] = {}
    for text in vary:
        name, equals, values = text.partition("=")
        try:
            parsed = yaml.safe_load(f"[{values}]")
        except yaml.YAMLError:
            parsed = []
        if not equals or not parsed or name in axes:
            raise UserError(f"--vary takes each option once with its values, like lr=0.001,0.01; not {text!r}")
        axes[name.replace("-", "_")] = parsed
    if not axes:
        raise UserError("a sweep needs --vary OPTION=VALUE,VALUE ...")
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _run(options: SweepOptions, values: Combination) -> tuple[Combination, FitOptions]:
    """The values of one combination as the options hold them (``1e-2`` as a number), and the options of its run.

    Raises UserError if an option does not exist or a value is out of range.
    """
    plain = {name: value for name, value in to_dict(options).items() if name not in ("vary", "jobs")}
    for name, value in values.items():
        _section_of(plain, name)[name] = value
    run = from_dict(FitOptions, plain, f"--vary {', '.join(values)}")
    parsed = to_dict(run)
    values = {name: _section_of(parsed, name)[name] for name in values}
    folder = ",".join(f"{name}={_short(value)}" for name, value in values.items())
    return values, replace(run, out=options.out / folder, quiet=options.quiet or options.jobs > 1)


def _short(value: Any) -> str:
    """A value as part of a file name."""
    return quote(json.dumps(value).replace('"', "").replace(" ", ""), safe="[]-+.,")


def _section_of(plain: dict[str, Any], name: str) -> dict[str, Any]:
    """The options, or the nested options, that have one called ``name``. Raises UserError if there is none."""
    sections = [plain, *(inner for inner in plain.values() if isinstance(inner, dict))]
    section = next((section for section in sections if name in section), None)
    if section is None or name in RESUME_MAY_CHANGE or isinstance(section[name], dict):
        raise UserError(f"--vary: a sweep cannot change {name!r}; train/fit.py head ssn --help-all lists all options")
    return section


def _table(results: Sequence[Mapping[str, Any]]) -> Table:
    """One row for each combination, sorted by mAP if it was measured."""
    lines = [_line(result["summary"]) if "summary" in result else {} for result in results]
    rows = sorted(range(len(results)), key=lambda row: -lines[row].get("mAP", (-1.0, 0.0))[0])
    varied, terms = list(results[0]["values"]), list(dict.fromkeys(term for line in lines for term in line))
    table = table_of(*varied, *terms, names=varied)
    for row in rows:
        numbers = (_number(*lines[row][term]) if term in lines[row] else "-" for term in terms)
        table.add_row(*(cell(str(value)) for value in results[row]["values"].values()), *numbers)
    return table


def _number(mean: float, spread: float) -> str:
    return f"{mean:.3f}" + (f" ± {spread:.3f}" if spread else "")


def _line(summary: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Mean and spread of each term at the end of a run, over seeds if there are several."""
    if "mean" in summary:
        return {name: (mean, summary["spread"][name]) for name, mean in summary["mean"].items()}
    return {name: (value, 0.0) for name, value in terms_of(summary["final"]).items()}


__all__ = ["SWEEP_PRESETS", "SweepOptions", "combinations", "sweep"]
