"""A grid over options: one run for each combination, in parallel, one table at the end."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import quote

import yaml
from joblib import Parallel, delayed
from rich.table import Table

from ssn_feat.cli import from_dict, to_dict
from ssn_feat.drawing.tables import cell, show, table_of
from ssn_feat.errors import UserError
from ssn_feat.runs.checkpoints import RESUME_MAY_CHANGE, write_atomically
from ssn_feat.runs.folders import is_run, run_folders
from ssn_feat.terminal import printable_lines
from ssn_feat.training.fit import fit
from ssn_feat.training.fit_options import FitOptions
from ssn_feat.training.presets import PRESETS

Fit = Callable[[FitOptions], dict[str, Any]]
Combination = dict[str, Any]


@dataclass(frozen=True)
class SweepOptions(FitOptions):
    """Learn a head with each combination of some options' values."""

    vary: tuple[str, ...] = ()
    """Options and their values, as in YAML: lr=0.001,0.01 dropout=0.5,0.8 stpp=[1,1,1],[1,[1,2],1]; every combination
    is trained, in a run folder of its own in OUT."""
    jobs: int = 1
    """Combinations that are trained at the same time, each in a process with --threads threads and features of its
    own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.jobs < 1:
            raise UserError(f"jobs must be at least 1, not {self.jobs}")


SWEEP_PRESETS = {
    name: SweepOptions(**{field.name: getattr(preset, field.name) for field in fields(preset)})
    for name, preset in PRESETS.items()
}


def sweep(options: SweepOptions, learn: Fit = fit) -> list[dict[str, Any]]:
    """Learn a head with each combination of the values of --vary; one table at the end, and all numbers in
    OUT/sweep.json.

    ``learn`` makes one run. The result holds for each combination, in the order of the grid, its ``values``, its
    folder ``out`` and its ``summary``, or ``error`` where it could not be learned, as with a rate that is too high.
    With ``resume`` finished runs are taken as they are. Raises UserError for options that do not exist or values that
    are out of range, before anything is trained, and where no combination could be learned.
    """
    grid = [_run(options, values) for values in combinations(options.vary)]
    _require_free(options, [run for _, run in grid])
    found = Parallel(n_jobs=options.jobs)(delayed(_learn)(learn, run) for _, run in grid)
    failed = [each["error"] for each in found if "error" in each]
    if len(failed) == len(found):
        raise UserError(f"no combination could be learned: {failed[0]}")
    results = [{"values": values, "out": str(run.out), **each} for (values, run), each in zip(grid, found, strict=True)]
    text = json.dumps(results, indent=2) + "\n"
    write_atomically(options.out / "sweep.json", lambda file: file.write(text.encode()))
    if not options.quiet:
        show(_table(results))
    for result in results:
        if "error" in result:
            print(printable_lines(f"failed: {result['out']}: {result['error']}"), file=sys.stderr)
    return results


def _learn(learn: Fit, run: FitOptions) -> dict[str, Any]:
    """What came of one combination: others may be better."""
    try:
        return {"summary": learn(run)}
    except UserError as error:
        return {"error": str(error)}


def _require_free(options: SweepOptions, runs: Sequence[FitOptions]) -> None:
    """Raises UserError where a combination has a run already that is neither to be resumed nor replaced."""
    taken = [run.out for run in runs if any(is_run(folder) for folder in run_folders(run.out))]
    if taken and not (options.resume or options.overwrite):
        raise UserError(f"{taken[0]} holds a run already: add --resume or --overwrite, or another --out")


def combinations(vary: Sequence[str]) -> list[Combination]:
    """Every combination of values, the last option changing fastest, of texts like ``lr=0.001,0.01``.

    Raises UserError for a text of another form, an option named twice, or none.
    """
    axes: dict[str, list[Any]] = {}
    for text in vary:
        name, equals, values = text.partition("=")
        try:
            found = yaml.safe_load(f"[{values}]")
        except yaml.YAMLError:
            found = []
        if not equals or not found or name in axes:
            raise UserError(f"--vary takes each option once with its values, like lr=0.001,0.01; not {text!r}")
        axes[name.replace("-", "_")] = found
    if not axes:
        raise UserError("a sweep needs --vary OPTION=VALUE,VALUE ...")
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _run(options: SweepOptions, values: Combination) -> tuple[Combination, FitOptions]:
    """The values of one combination as the options have them (``1e-2`` as a number), and all of its options.

    Raises UserError where an option does not exist or a value is out of range.
    """
    own = {"vary", "jobs"}
    plain = {name: value for name, value in to_dict(options).items() if name not in own}
    for name, value in values.items():
        _place(plain, name)[name] = value
    run = from_dict(FitOptions, plain, f"--vary {', '.join(values)}")
    made = to_dict(run)
    values = {name: _place(made, name)[name] for name in values}
    folder = ",".join(f"{name}={_short(value)}" for name, value in values.items())
    return values, replace(run, out=options.out / folder, quiet=options.quiet or options.jobs > 1)


def _short(value: Any) -> str:
    """A value as a part of a file's name."""
    return quote(json.dumps(value).replace('"', "").replace(" ", ""), safe="[]-+.,")


def _place(plain: dict[str, Any], name: str) -> dict[str, Any]:
    """The options that have one called ``name``, wherever they are nested. Raises UserError where there are none."""
    places = [plain, *(inner for inner in plain.values() if isinstance(inner, dict))]
    place = next((place for place in places if name in place), None)
    if place is None or name in RESUME_MAY_CHANGE or isinstance(place[name], dict):
        raise UserError(f"--vary: {name!r} is no option that a sweep can change; train/fit.py --help lists all")
    return place


def _table(results: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each combination, by mAP if it was measured."""
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
    """Mean and spread of each term at the end of a run, or of the runs of several seeds."""
    if "mean" in summary:
        return {name: (mean, summary["spread"][name]) for name, mean in summary["mean"].items()}
    return {name: (value, 0.0) for name, value in summary["final"].items() if name not in ("epoch", "lr")}


__all__ = ["SWEEP_PRESETS", "SweepOptions", "combinations", "sweep"]
