"""Proposals to detections of a data set: what ``train/detect.py store`` does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import tyro

from ssn_feat.annotations import Dataset, read_annotations
from ssn_feat.annotations.joining import JoinOptions, check_times, times_of_dataset
from ssn_feat.annotations.matching import match_dataset
from ssn_feat.annotations.similar import similar_name
from ssn_feat.detection.model_folder import save_model
from ssn_feat.detection.postprocess import PRESETS as POSTPROCESS_PRESETS
from ssn_feat.detection.postprocess import PostprocessOptions, postprocess
from ssn_feat.detection.scores import ProposalScores, fuse, read_original
from ssn_feat.detection.scoring import require_runs, score_store
from ssn_feat.detection.sequence_detection import SuppressionOptions, detect_sequences
from ssn_feat.drawing.tables import cell, show, table_of
from ssn_feat.errors import UserError
from ssn_feat.heads.sequence_head import SequenceHead
from ssn_feat.progress import progress_bar
from ssn_feat.proposals import Proposals
from ssn_feat.results.detections import Detections
from ssn_feat.results.operating_point import FILE_NAME as OPERATING_POINT
from ssn_feat.results.operating_point import OperatingPoint
from ssn_feat.runs.checkpoints import Run, load_run
from ssn_feat.runs.folders import run_folders
from ssn_feat.store import FeatureStore, open_store
from ssn_feat.store.times import times_of_store
from ssn_feat.terminal import counted

_NPZ = b"PK"


@dataclass(frozen=True)
class DetectOptions(JoinOptions):
    """Detect actions: score proposals with trained heads, fuse the scores, filter, suppress, refine.

    Needs --store, --proposals and --checkpoint; the raw scores of each run are written beside the detections.
    With --scores the raw scores of earlier runs are used instead, and only the later steps are done.
    Runs of heads that give detections, such as the one-stage head, need --store and --checkpoint only.
    """

    store: Path | None = None
    """Feature store written by extract/run.py."""
    proposals: Path | None = None
    """File of proposals written by train/propose.py; one-stage heads need none."""
    checkpoint: tuple[Path, ...] = ()
    """Run folders of SSN or one-stage heads (train/fit.py), or folders of run folders; several runs, such as streams or
    seeds, are fused."""
    scores: tuple[Path, ...] = ()
    """Raw scores of earlier runs (.npz), instead of --store, --proposals and --checkpoint."""
    weights: tuple[float, ...] = ()
    """Weight of each run in the fusion; by default equal. The runs of a folder are ordered by name."""
    out: Path = Path("detections.json")
    """File of detections to write (ActivityNet result JSON)."""
    save_model: Path | None = None
    """Also write a model folder, with which train/detect.py video VIDEO --model DIR detects actions in a video file."""
    operating_point: Path | None = None
    """Leave out detections of low score: an operating point of bench/operating_point.py (.json, or a model folder that
    has one). With --save-model the model gets it too. Measure mAP without it."""
    trust_modules: tuple[str, ...] = ()
    """Backbones named by the store and heads named by runs, package.module:name, that may be imported, which runs their
    code."""
    annotations: str | None = None
    """Annotations (a path or DIALECT:PATH), for --subset and for score files of the original code."""
    subset: str | None = None
    """Only the videos of this subset of the annotations."""
    original_scoring: bool = False
    """Score as the original code does (see ssn_feat.heads.dense.fold)."""
    allow_pickle: bool = False
    """Let --scores read score files of the original code, which are pickles."""
    quiet: bool = False
    """Print nothing."""
    postprocess: PostprocessOptions = field(default_factory=PostprocessOptions)
    """How raw scores become detections."""
    suppression: SuppressionOptions = field(default_factory=SuppressionOptions)
    """How overlapping detections of one-stage heads are suppressed."""

    def __post_init__(self) -> None:
        runs = len(self.scores or self.runs)
        if self.weights and len(self.weights) != runs:
            raise UserError(f"{runs} runs need one weight each, but there are {len(self.weights)}")
        if self.subset and not self.annotations:
            raise UserError("--subset needs --annotations")

    @property
    def runs(self) -> tuple[Path, ...]:
        """The run folders that ``checkpoint`` names."""
        return tuple(run for path in self.checkpoint for run in run_folders(path))

    def require_input(self) -> None:
        """Raises UserError unless either --scores or --store, --proposals and --checkpoint are given."""
        given = [name for name in ("store", "proposals", "checkpoint") if getattr(self, name)]
        if self.scores and self.save_model:
            raise UserError("--save-model needs --store, --proposals and --checkpoint, not --scores")
        if self.scores and given:
            raise UserError(f"--scores replaces --{given[0]}: give one or the other")
        if not self.scores and len(given) < 3:
            lacking = [f"--{name}" for name in ("store", "proposals", "checkpoint") if name not in given]
            raise UserError(
                f"needed are --store, --proposals and --checkpoint, or --scores; missing: {', '.join(lacking)}"
            )


def _preset(name: str, chosen: PostprocessOptions) -> DetectOptions:
    """Options with ``chosen``; a preset for an outside classifier requires --classifier."""
    needed = replace(chosen, classifier=tyro.MISSING) if name.endswith("-classifier") else chosen
    return DetectOptions(postprocess=needed)


# The post-processing of the original code for each data set; all other options have no preset.
PRESETS = {name: _preset(name, chosen) for name, chosen in POSTPROCESS_PRESETS.items()}


def detect(options: DetectOptions) -> Detections:
    """Find actions in videos: score proposals, fuse, filter, suppress, refine; write detections and raw scores.

    Raises UserError if inputs are missing or inconsistent, and if there is no proposal at all.
    """
    started = time.perf_counter()
    if options.checkpoint and not options.proposals and not options.scores:
        runs = [load_run(folder, options.trust_modules) for folder in options.runs]
        if _read_whole_videos(runs):
            return _without_proposals(options, runs)
    options.require_input()
    point = OperatingPoint.load(options.operating_point) if options.operating_point else None
    lost = options.save_model is not None and point is None and (options.save_model / OPERATING_POINT).exists()
    dataset = read_annotations(options.annotations) if options.annotations else None
    wanted = dataset.subset(options.subset) if dataset is not None and options.subset else dataset
    scores = _read_scores(options, dataset) if options.scores else _score(options, wanted)
    fused = fuse(scores, options.weights)
    if options.scores and wanted is not None and options.subset:
        fused = _only(fused, wanted, options)
    scored = time.perf_counter()
    everything = postprocess(fused, options.postprocess)
    if point is not None and options.save_model is not None:
        point.save(options.save_model)
    classifier = options.postprocess.classifier
    external = f"video-level class scores {classifier.name}" if classifier else ""
    detections = _write(everything, point, options, external)
    if not options.quiet:
        if lost:
            print(f"{options.save_model}: choose an operating point again; that of the replaced model was removed")
        if options.save_model is not None:
            print(
                f"{options.save_model}: the model, for python train/detect.py video VIDEO --model {options.save_model}"
            )
        print(
            f"{options.out}: {len(detections.scores)} detections in {len(detections)} videos from "
            f"{len(fused.intervals)} proposals; scores {scored - started:.1f} s, "
            f"detections {time.perf_counter() - scored:.1f} s"
        )
    return detections


def _read_whole_videos(runs: Sequence[Run]) -> bool:
    """Whether the runs detect without proposals. Raises UserError if only some do."""
    whole = [run for run in runs if isinstance(run.head, SequenceHead)]
    rest = [run for run in runs if not isinstance(run.head, SequenceHead)]
    if whole and rest:
        raise UserError(
            f"{whole[0].path} and {rest[0].path} cannot be fused: the {whole[0].kind} head detects without proposals, "
            f"the {rest[0].kind} head does not"
        )
    return bool(whole)


def _refuse(given: object, default: object, head: str) -> None:
    """Raise UserError if options that heads of this kind do not use were changed."""
    changed = [
        f"--{each.name.replace('_', '-')}"
        for each in fields(given)  # type: ignore[arg-type]
        if getattr(given, each.name) != getattr(default, each.name)
    ]
    if changed:
        raise UserError(f"{', '.join(changed)} (or the preset) has no effect on the detections of the {head} head")


def _without_proposals(options: DetectOptions, runs: Sequence[Run]) -> Detections:
    """The detections of heads that need no proposals, cut to the operating point, and written."""
    started = time.perf_counter()
    if options.store is None:
        raise UserError("needed are --store and --checkpoint; missing: --store")
    if options.save_model:
        raise UserError("--save-model needs runs of SSN heads and their proposals")
    _refuse(options.postprocess, PostprocessOptions(), runs[0].kind)
    point = OperatingPoint.load(options.operating_point) if options.operating_point else None
    store = open_store(options.store)
    ids = store.ids
    if options.annotations:
        dataset = match_dataset(read_annotations(options.annotations), ids, f"the store {store.path}", options.quiet)
        dataset = dataset.subset(options.subset) if options.subset else dataset
        ids = tuple(sorted(set(dataset.videos) & set(ids)))
        if not ids:
            raise UserError(f"the store {store.path} has none of the {counted(len(dataset.videos), 'video')}")
        if len(ids) < len(dataset.videos) and not options.quiet:
            print(f"coverage: {len(ids)} of {len(dataset.videos)} videos are in the store; others get no detections")
        stored = times_of_store(store, ids)
        check_times(times_of_dataset(dataset.only(ids), options.annotations), stored, options, options.quiet)
    with nullcontext(None) if options.quiet else progress_bar("detecting", len(ids)) as advance:
        detections = detect_sequences(
            store, ids, runs, options.suppression, options.weights, advance=advance or (lambda: None)
        )
    detections = _write(replace(detections, trained_on=_trained_on(runs, detections.ids)), point, options)
    if not options.quiet:
        print(
            f"{options.out}: {len(detections.scores)} detections in {len(detections)} videos; "
            f"{time.perf_counter() - started:.1f} s"
        )
    return detections


def _write(
    everything: Detections, point: OperatingPoint | None, options: DetectOptions, external: str = ""
) -> Detections:
    """Write the detections that the operating point keeps, print them, and return them."""
    detections = everything if point is None else point.keep(everything)
    detections.write(options.out, external)
    if not options.quiet:
        summarise(detections)
        if point is not None:
            print(f"{len(detections.scores)} of {len(everything.scores)} detections are kept: {point}")
    return detections


def _trained_on(runs: Sequence[Run], ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Those of the videos ``ids`` that each run was trained on, where that is known."""
    return {
        str(run.path): tuple(video for video in ids if video in run.training_videos)
        for run in runs
        if run.training_videos
    }


def score_files(out: Path, runs: Sequence[Path]) -> list[Path]:
    """Files of the raw scores of each run: ``OUT.scores-1-RUN.npz`` beside the detections ``OUT.json``."""
    return [out.with_name(f"{out.stem}.scores-{n}-{run.name}.npz") for n, run in enumerate(runs, start=1)]


def _score(options: DetectOptions, dataset: Dataset | None) -> list[ProposalScores]:
    """Score the proposals of the chosen videos with each run, and write the scores."""
    assert options.store is not None
    store = open_store(options.store)
    if dataset is not None:
        dataset = match_dataset(dataset, store.ids, f"the store {store.path}", options.quiet)
    proposals = _proposals(options, store, dataset)
    folders = options.runs
    runs = [load_run(folder, options.trust_modules) for folder in folders]
    if _read_whole_videos(runs):
        raise UserError(
            f"{runs[0].path} is a run of the {runs[0].kind} head, which detects without proposals: leave out "
            "--proposals" + (" and --save-model" if options.save_model else "")
        )
    _refuse(options.suppression, SuppressionOptions(), "ssn")
    # Before the work, since a needed file may be missing; runs are checked first.
    if options.save_model is not None:
        require_runs(store, runs)
        fusion = (options.weights, options.original_scoring, options.postprocess, options.trust_modules)
        save_model(options.save_model, store, proposals, folders, *fusion)
    with nullcontext(None) if options.quiet else progress_bar("scoring", len(proposals.ids)) as advance:
        scores = score_store(store, proposals.intervals, runs, options.original_scoring, advance or (lambda: None))
    scores = [replace(part, trained_on=_trained_on([run], part.ids)) for run, part in zip(runs, scores, strict=True)]
    for part, path in zip(scores, score_files(options.out, folders), strict=True):
        part.save(path)
    return scores


def _proposals(options: DetectOptions, store: FeatureStore, dataset: Dataset | None) -> Proposals:
    """The proposals of the videos to score. Raises UserError if their times differ from those of the store."""
    assert options.proposals is not None
    known, whose = (store.ids, f"the store {store.path}") if dataset is None else (dataset.videos, "the annotations")
    proposals = Proposals.load(options.proposals).matched(known, whose, options.quiet)
    available = _available(proposals, store, dataset, options)
    stored = times_of_store(store, available.ids)
    if dataset is not None:
        check_times(times_of_dataset(dataset, options.annotations), stored, options, options.quiet)
    check_times(proposals.times, stored, options, options.quiet)
    return available


def _available(proposals: Proposals, store: FeatureStore, dataset: Dataset | None, options: DetectOptions) -> Proposals:
    """The proposals of the videos of the data set that are in the store. Raises UserError if there are none."""
    wanted = proposals.ids if dataset is None else tuple(dataset.videos)
    stored = set(store.ids)
    ids = [video for video in wanted if video in stored and video in proposals.intervals]
    hint = similar_name([video for video in wanted if video not in stored], stored, "the store")
    hint += similar_name([video for video in wanted if video not in proposals.intervals], proposals.ids, proposals.what)
    if not ids:
        raise UserError(
            f"none of the {counted(len(wanted), 'video')} has both features in {options.store} "
            f"and proposals in {options.proposals}{hint}"
        )
    available = proposals.only(ids)
    if not len(available):
        raise UserError(f"{options.proposals} holds no proposal for any of the {counted(len(ids), 'video')}")
    if len(ids) < len(wanted) and not options.quiet:
        unstored = sum(video not in stored for video in wanted)
        unproposed = sum(video not in proposals.intervals for video in wanted)
        print(
            f"coverage: {len(ids)} of {len(wanted)} videos; {unstored} have no features, {unproposed} no proposals; "
            f"these get no detections{hint}"
        )
    return available


def _read_scores(options: DetectOptions, dataset: Dataset | None) -> list[ProposalScores]:
    return [_read_score_file(path, options, dataset) for path in options.scores]


def _read_score_file(path: Path, options: DetectOptions, dataset: Dataset | None) -> ProposalScores:
    if _is_npz(path):
        return ProposalScores.load(path)
    if dataset is None:
        raise UserError(f"{path} is not .npz; score files of the original code need --annotations and --allow-pickle")
    return read_original(path, dataset, allow_pickle=options.allow_pickle)


def _is_npz(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_NPZ)) == _NPZ
    except OSError as error:
        raise UserError(f"cannot read the scores {path}: {error.strerror}") from None


def _only(scores: ProposalScores, dataset: Dataset, options: DetectOptions) -> ProposalScores:
    kept = scores.only(match_dataset(dataset, scores.ids, "the scores", options.quiet).videos)
    if not len(kept):
        hint = similar_name(scores.ids, dataset.videos, "the subset")
        raise UserError(f"none of the {counted(len(scores), 'scored video')} is in the subset {options.subset!r}{hint}")
    return kept


def summarise(detections: Detections, videos: int = 5, best: int = 3) -> None:
    """Print a table: the number of detections and the best few of the first videos."""
    table = table_of("video", "detections", f"best {best}", "start", "end", "score", names=(f"best {best}",))
    for video in detections.ids[:videos]:
        detected = detections[video]
        rows = range(min(best, len(detected.scores)))
        table.add_row(
            cell(video),
            str(len(detected.scores)),
            cell("\n".join(detections.labels[detected.classes[row]] for row in rows)),
            "\n".join(f"{detected.intervals[row, 0]:.2f} s" for row in rows),
            "\n".join(f"{detected.intervals[row, 1]:.2f} s" for row in rows),
            "\n".join(f"{detected.scores[row]:.3g}" for row in rows),
        )
    show(table)
    if len(detections) > videos:
        print(f"... and {len(detections) - videos} more videos")
