"""Training on the page and as a figure: the curves and the final results of runs, by the kind of run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from ssn_feat.drawing.colours import class_colours
from ssn_feat.drawing.html import Rows, explained, section, table
from ssn_feat.drawing.pictures import FAINT, GRID, INK
from ssn_feat.errors import UserError
from ssn_feat.report.charts import Chart, axis, layout, line
from ssn_feat.report.glossary import TERMS
from ssn_feat.report.page_inputs import TrainingLog
from ssn_feat.report.page_sections import PageSections

_COLUMNS = 3
_KINDS = {"ssn": "SSN heads", "actionness": "actionness heads", "clips": "networks trained on clips"}
_TITLES = {
    "activity": "activity loss",
    "completeness": "completeness loss",
    "regression": "regression loss",
    "classes": "class loss",
    "boundaries": "boundary loss",
}
# Quantities between 0 and 1, which are shown in percent.
_SHARES = ("accuracy", "recall", "mAP")
# Logged values that describe the machine or the schedule rather than what is learned.
_TECHNICAL = ("epoch", "lr", "seconds", "steps_per_second", "images_per_second", "memory_gb", "processes")


@dataclass(frozen=True)
class RunKind:
    """The runs of one kind."""

    title: str
    """Name of the kind."""
    logs: tuple[TrainingLog, ...]
    """Their logs."""

    @property
    def terms(self) -> tuple[str, ...]:
        """Logged quantities that describe what is learned, in order of appearance, without those that are always 0."""
        names = dict.fromkeys(key for log in self.logs for key in log.keys if key not in _TECHNICAL)
        return tuple(name for name in names if any(any(log.series(name)[1]) for log in self.logs))


def kinds_of(logs: Sequence[TrainingLog]) -> list[RunKind]:
    """The runs by kind, in order of appearance, because losses of different kinds cannot be compared."""
    kinds: dict[str, list[TrainingLog]] = {}
    for log in logs:
        kinds.setdefault(_title(log), []).append(log)
    return [RunKind(title, tuple(members)) for title, members in kinds.items()]


def _title(log: TrainingLog) -> str:
    if log.kind == "ssn" and "images_per_second" in log.keys:
        return "SSN heads trained end to end"
    return _KINDS.get(log.kind, f"{log.kind} heads" if log.kind else "runs")


def _scaled(log: TrainingLog, term: str) -> tuple[list[float], list[float]]:
    epochs, values = log.series(term)
    return epochs, [100 * value for value in values] if term in _SHARES else values


def term_title(term: str) -> str:
    """The title of a quantity, with its unit."""
    return f"{term}, %" if term in _SHARES else _TITLES.get(term, term)


def add_training(content: PageSections, logs: Sequence[TrainingLog]) -> None:
    """Add the section on training: a table and charts for each kind of runs."""
    parts = []
    for number, kind in enumerate(kinds_of(logs)):
        parts.append(f"<h3>{explained(kind.title, TERMS)}</h3>")
        parts.append(content.placeholders(training_charts(kind, number)))
        parts += [table(caption, rows, TERMS) for caption, rows in training_table(kind).items()]
    content.add_html("Training", section("Training", [], {}, "\n".join(parts)))


def training_charts(kind: RunKind, number: int) -> dict[str, Chart]:
    """One chart for each quantity of a kind of runs, a line for each run; ``number`` makes their names unique."""
    colours = _colours(kind)
    charts = {}
    for position, term in enumerate(kind.terms):
        traces = []
        for at, (log, colour) in enumerate(zip(kind.logs, colours, strict=True)):
            epochs, values = _scaled(log, term)
            if values:
                traces.append(line(log.name, epochs, [float(f"{value:.5g}") for value in values], colour, at))
        drawn = layout(term_title(term), axis("epoch"), axis("", rangemode="tozero"), small=True)
        charts[f"training-{number}-{position}"] = {"data": traces, "layout": drawn}
    return charts


def training_table(kind: RunKind) -> dict[str, Rows]:
    """Final results of the runs of a kind, by caption."""
    rows = {}
    for log in kind.logs:
        cells = {"epochs": str(len(log.records))}
        for term in kind.terms:
            values = _scaled(log, term)[1]
            cells[term_title(term)] = f"{values[-1]:.4g}" if values else ""
        for key, heading in (("videos", "videos"), ("seconds", "time, s")):
            value = log.summary.get(key)
            cells[heading] = f"{value:.5g}" if isinstance(value, int | float) else ""
        rows[log.name] = cells
    return {f"{kind.title}: values of the last epoch": rows}


def training_figure(logs: Sequence[TrainingLog]) -> Figure:
    """A small plot for each logged quantity of each kind of runs, with a line for each run.

    Raises UserError without any.
    """
    plots = [(kind, term) for kind in kinds_of(logs) for term in kind.terms]
    if not plots:
        raise UserError("none of the runs has logged anything")
    rows = -(-len(plots) // _COLUMNS)
    figure = Figure(figsize=(12, 2.8 * rows), dpi=120, layout="constrained", facecolor="white")
    every = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes, (kind, term) in zip(every, plots, strict=False):
        for log, colour in zip(kind.logs, _colours(kind), strict=True):
            epochs, values = _scaled(log, term)
            if values:
                axes.plot(epochs, values, color=colour, label=log.name)
        title = f"{kind.title}: {term_title(term)}"
        axes.set_title(title, fontsize=10, loc="left", color=INK, parse_math=False)
        axes.set_xlabel("epoch", fontsize=9, color=INK)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(length=0, labelsize=8, colors=FAINT)
        axes.grid(color=GRID, linewidth=0.8)
        for text in axes.legend(fontsize=8, frameon=False).get_texts():
            text.set_parse_math(False)
    for axes in every[len(plots) :]:
        axes.set_visible(False)
    return figure


def _colours(kind: RunKind) -> list[str]:
    return list(class_colours([str(number) for number in range(len(kind.logs))]).values())


__all__ = ["RunKind", "add_training", "kinds_of", "term_title", "training_charts", "training_figure", "training_table"]
