"""One self-contained page of HTML of all results: what ``bench/report.py`` does.

The page contains its script, style sheet, plotly.js and data, and loads only the video files that it plays. Data are
blocks of JSON, one per video, that the browser parses only when they are needed, so that a thousand videos open as fast
as one. Names of classes, videos and files are escaped, so that nothing in them acts as HTML or script.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

from ssn_feat.annotations import Dataset
from ssn_feat.annotations.matching import annotated_ids
from ssn_feat.drawing.colours import class_colours, ink_on
from ssn_feat.errors import UserError
from ssn_feat.evaluation.compare_output import MethodResult, tables
from ssn_feat.evaluation.compare_proposals import compare
from ssn_feat.evaluation.compared_methods import load_proposals
from ssn_feat.evaluation.evaluate import EvaluatedFiles, evaluate_files
from ssn_feat.evaluation.evaluation_set import EvaluationSet, read_evaluation_set
from ssn_feat.files import replacing
from ssn_feat.proposals import Proposals
from ssn_feat.report.charts import proposal_charts
from ssn_feat.report.figures import write_figures
from ssn_feat.report.glossary import TERMS
from ssn_feat.report.page_inputs import PageInputs, read_logs, sort_inputs
from ssn_feat.report.page_sections import PageSections
from ssn_feat.report.report_options import ReportOptions
from ssn_feat.report.summary import add_detections, add_summary
from ssn_feat.report.training import add_training
from ssn_feat.report.videos import Shown, actionness_of, evaluated_detections, video_index, video_records
from ssn_feat.report.why import add_explanations
from ssn_feat.terminal import counted
from ssn_feat.video.find_videos import find_videos

_TEMPLATES = resources.files("ssn_feat.report") / "templates"


def report(options: ReportOptions) -> Path:
    """Write an HTML page of all results: numbers, curves, errors, training, timelines; returns its path.

    Raises UserError if inputs are missing or cannot be read, and if jinja2 or plotly are not installed.
    """
    started = time.perf_counter()
    if not options.inputs:
        raise UserError("name at least one input: detections (.json), proposals (.npz) or run folders")
    libraries, inputs, content = _libraries(), sort_inputs(options.inputs), PageSections()
    truth = _truth(options, inputs)
    proposals: list[Proposals] = []
    if truth is not None:
        proposals = [
            load_proposals(path, truth.dataset, options=options, quiet=options.quiet) for path in inputs.proposals
        ]
    measured = None
    if truth is not None and inputs.detections:
        how_measured = options.evaluated(inputs.detections)
        measured = evaluate_files(how_measured, dataset=truth.known, proposals=next(iter(proposals), None))
        add_summary(content, measured, options)
        add_explanations(content, measured.explanations)
    before_videos = len(content.sections)
    if measured is not None:
        add_detections(content, measured, options)
    compared: list[MethodResult] = []
    how = None
    if proposals and truth is not None:
        how = options.compared(inputs.proposals, ranked=any(each.actionness is not None for each in proposals))
        compared, notes = compare(how, truth.known, proposals)
        content.add("Proposals", notes, tables(compared, how), proposal_charts(compared, how))
    logs = read_logs(inputs.runs)
    if logs:
        add_training(content, logs)
    shown = None if truth is None else _shown(options, inputs, truth.dataset, measured, proposals)
    if shown is not None:
        content.titles.insert(before_videos, "Videos")
    _write(
        options, libraries, content, before_videos, shown, _facts(shown, measured, [result.name for result in compared])
    )
    if options.figures is not None:
        write_figures(options.figures, measured, compared, how, logs)
    if not options.quiet:
        videos = len(shown.dataset.videos) if shown else 0
        size = options.out.stat().st_size / 2**20
        print(f"{options.out}: {counted(videos, 'video')}, {size:.1f} MB; {time.perf_counter() - started:.1f} s")
    return options.out


def _libraries() -> tuple[ModuleType, str]:
    """jinja2 and plotly.js. Raises UserError if they are not installed."""
    try:
        import jinja2
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise UserError(f"a page needs {error.name}: pip install 'ssn-feat[report]'") from None
    return jinja2, get_plotlyjs()


def _truth(options: ReportOptions, inputs: PageInputs) -> EvaluationSet | None:
    """The annotations; None if there are none and no input needs them. Raises UserError if they are missing."""
    needed = options.annotations is not None or inputs.detections or inputs.proposals
    return read_evaluation_set(options.evaluated(())) if needed else None


def _shown(
    options: ReportOptions,
    inputs: PageInputs,
    dataset: Dataset,
    measured: EvaluatedFiles | None,
    proposals: Sequence[Proposals],
) -> Shown:
    detections, hits = evaluated_detections(measured) if measured is not None else ([], [])
    actionness = actionness_of(dataset, proposals, options, inputs.runs)
    files = find_videos(options.videos, ids=options.ids).videos if options.videos is not None else {}
    if files:
        files = dict(
            zip(
                annotated_ids(dataset, files, f"the files in {options.videos}", options.quiet),
                files.values(),
                strict=True,
            )
        )
    if options.videos is not None and not files.keys() & dataset.videos.keys():
        number = counted(len(files), "file")
        raise UserError(f"none of the {number} in {options.videos} has the id of one of the videos")
    return Shown(dataset, detections, hits, proposals, actionness, files)


def _write(
    options: ReportOptions,
    libraries: tuple[ModuleType, str],
    content: PageSections,
    before_videos: int,
    shown: Shown | None,
    facts: Mapping[str, Any],
) -> None:
    jinja2, plotly = libraries
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    scripts = [plotly, _text("page.js")]
    sizes = options.shown_proposals, options.shown_detections
    stream = environment.from_string(_text("page.html.j2")).stream(
        title=options.title,
        first=content.sections[:before_videos],
        last=content.sections[before_videos:],
        titles=content.titles,
        style=_text("page.css"),
        scripts=scripts,
        allowed=" ".join(map(_hash, scripts)),
        facts={"charts": content.charts, "terms": TERMS, **facts},
        videos=() if shown is None else video_records(shown, options.out, *sizes),
    )
    stream.enable_buffering(64)
    with replacing(options.out) as part:
        # A name may hold half of a surrogate pair, which UTF-8 cannot encode.
        stream.dump(str(part), encoding="utf-8", errors="replace")


def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """The hash by which a content security policy permits this script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _facts(shown: Shown | None, measured: EvaluatedFiles | None, compared: Sequence[str]) -> dict[str, Any]:
    """Data of the videos that the script of the page needs from the start."""
    if shown is None:
        return {"index": None}
    labels, tiou = shown.dataset.labels, 0.5
    colours = list(class_colours(labels).values())
    if measured is not None:
        tiou = measured.evaluations[0].thresholds[measured.level]
    return {
        "index": video_index(shown, tiou),
        "labels": list(labels),
        "colours": colours,
        "inks": [ink_on(colour) for colour in colours],
        "detections": [] if measured is None else [e.name for e in measured.evaluations],
        "proposals": list(compared[: len(shown.proposals)]),
        "tiou": round(tiou, 3),
    }


__all__ = ["report"]
