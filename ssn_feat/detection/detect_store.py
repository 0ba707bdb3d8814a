"""Proposals to detections of a data set: what ``train/detect.py store`` does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import tyro

from ssn_feat.annotations import Dataset, read_annotations
from ssn_feat.detection.model import save_model
from ssn_feat.detection.postprocess import PRESETS as POSTPROCESS_PRESETS
from ssn_feat.detection.postprocess import PostprocessOptions, postprocess
from ssn_feat.detection.scores import ProposalScores, fuse, read_original
from ssn_feat.detection.scoring import score_store, scorers_of
from ssn_feat.drawing.tables import cell, show, table_of
from ssn_feat.errors import UserError
from ssn_feat.progress import progress_bar
from ssn_feat.proposals import Proposals
from ssn_feat.results.detections import Detections
from ssn_feat.runs.checkpoints import load_run
from ssn_feat.runs.folders import run_folders
from ssn_feat.store import FeatureStore, open_store

_NPZ = b"PK"


@dataclass(frozen=True)
class DetectOptions:
    """Detect actions: score proposals with trained heads, fuse, filter, suppress, refine; or redo all but the scoring.

    From features: --store, --proposals and --checkpoint; the raw scores of each run are written beside the detections.
    From raw scores: --scores.
    """

    store: Path | None = None
    """Feature store that extract/run.py made."""
    proposals: Path | None = None
    """File of proposals that train/propose.py made."""
    checkpoint: tuple[Path, ...] = ()
    """Run folders of SSN heads (train/fit.py), or folders of these; several are fused: streams, seeds."""
    scores: tuple[Path, ...] = ()
    """Raw scores of earlier runs (.npz), in place of --store, --proposals and --checkpoint."""
    weights: tuple[float, ...] = ()
    """Weight of each run in the fusion; none means equal. Runs of a folder are in the order of their names."""
    out: Path = Path("detections.json")
    """Detections to write, as ActivityNet result JSON."""
    save_model: Path | None = None
    """Also put together a folder with which train/detect.py video VIDEO --model DIR finds actions in any video file."""
    trust_modules: tuple[str, ...] = ()
    """Backbones package.module:callable to import although the store alone names them: their code is run."""
    annotations: str | None = None
    """Annotations (a path or DIALECT:PATH), for --subset and for score files of the original."""
    subset: str | None = None
    """Only the videos of this subset of the annotations."""
    original_scoring: bool = False
    """Fold the heads as the original code does (see the documentation of ssn_feat.heads.dense.fold)."""
    allow_pickle: bool = False
    """Accept score files of the original code, which are pickles, for --scores."""
    quiet: bool = False
    """Print nothing."""
    postprocess: PostprocessOptions = field(default_factory=PostprocessOptions)
    """How raw scores become detections."""

    def __post_init__(self) -> None:
        runs = len(self.scores or self.runs)
        if self.weights and len(self.weights) != runs:
            raise UserError(f"{runs} runs need as many weights, not {len(self.weights)}")
        if self.subset and not self.annotations:
            raise UserError("--subset needs --annotations")

    @property
    def runs(self) -> tuple[Path, ...]:
        """The run folders that ``checkpoint`` names."""
        return tuple(run for path in self.checkpoint for run in run_folders(path))

    def require_input(self) -> None:
        """Raises UserError unless there is either all that scoring needs, or scores."""
        given = [name for name in ("store", "proposals", "checkpoint") if getattr(self, name)]
        if self.scores and self.save_model:
            raise UserError("--save-model needs --store, --proposals and --checkpoint: scores alone make no model")
        if self.scores and given:
            raise UserError(f"--scores stand in place of --{given[0]}: give one or the other")
        if not self.scores and len(given) < 3:
            lacking = [f"--{name}" for name in ("store", "proposals", "checkpoint") if name not in given]
            raise UserError(
                f"needed are --store, --proposals and --checkpoint, or --scores; missing: {', '.join(lacking)}"
            )


def _preset(name: str, chosen: PostprocessOptions) -> DetectOptions:
    """What is meant for an outside classifier demands one."""
    needed = replace(chosen, classifier=tyro.MISSING) if name.endswith("-classifier") else chosen
    return DetectOptions(postprocess=needed)


# The post-processing of each data set in the original; everything else is the user's.
PRESETS = {name: _preset(name, chosen) for name, chosen in POSTPROCESS_PRESETS.items()}


def detect(options: DetectOptions) -> Detections:
    """Find actions in videos: score proposals, fuse, filter, suppress, refine; write detections and raw scores.

    Raises UserError for whatever is missing or does not fit together, and where there is not a single proposal.
    """
    started = time.perf_counter()
    options.require_input()
    dataset = read_annotations(options.annotations) if options.annotations else None
    wanted = dataset.subset(options.subset) if dataset is not None and options.subset else dataset
    scores = _read_scores(options, dataset) if options.scores else _score(options, wanted)
    fused = fuse(scores, options.weights)
    if options.scores and wanted is not None and options.subset:
        fused = _only(fused, wanted, options)
    scored = time.perf_counter()
    detections = postprocess(fused, options.postprocess)
    classifier = options.postprocess.classifier
    detections.write(options.out, external=f"video-level class scores {classifier.name}" if classifier else "")
    if not options.quiet:
        summarise(detections)
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


def score_files(out: Path, runs: Sequence[Path]) -> list[Path]:
    """Where the raw scores of each run are kept: ``OUT.scores-1-RUN.npz`` beside the detections ``OUT.json``."""
    return [out.with_name(f"{out.stem}.scores-{n}-{run.name}.npz") for n, run in enumerate(runs, start=1)]


def _score(options: DetectOptions, dataset: Dataset | None) -> list[ProposalScores]:
    """Score the proposals of the wanted videos by each run, and keep the scores."""
    assert options.store is not None
    assert options.proposals is not None
    store = open_store(options.store)
    proposals = _present(Proposals.load(options.proposals), store, dataset, options)
    runs = [load_run(folder) for folder in options.runs]
    # Before the work, since a part of it may be lost; but not of runs that do not fit.
    if options.save_model is not None:
        scorers_of(store, runs)
        fusion = (options.weights, options.original_scoring, options.postprocess, options.trust_modules)
        save_model(options.save_model, store, proposals, options.runs, *fusion)
    with nullcontext(None) if options.quiet else progress_bar("scoring", len(proposals.ids)) as advance:
        scores = score_store(store, proposals.intervals, runs, options.original_scoring, advance or (lambda: None))
    for part, path in zip(scores, score_files(options.out, options.runs), strict=True):
        part.save(path)
    return scores


def _present(proposals: Proposals, store: FeatureStore, dataset: Dataset | None, options: DetectOptions) -> Proposals:
    """The proposals of the videos that are wanted and stored. Raises UserError where none is left."""
    wanted = proposals.ids if dataset is None else tuple(dataset.videos)
    held = set(store.ids)
    ids = [video for video in wanted if video in held and video in proposals.intervals]
    if not ids:
        raise UserError(
            f"none of the {len(wanted)} videos has both features in {options.store} "
            f"and proposals in {options.proposals}"
        )
    found = proposals.only(ids)
    if not len(found):
        raise UserError(f"{options.proposals} holds no proposal for any of the {len(ids)} videos")
    if len(ids) < len(wanted) and not options.quiet:
        unstored = sum(video not in held for video in wanted)
        unproposed = sum(video not in proposals.intervals for video in wanted)
        print(
            f"coverage: {len(ids)} of {len(wanted)} videos; {unstored} have no features, {unproposed} no proposals; "
            "nothing is detected in these"
        )
    return found


def _read_scores(options: DetectOptions, dataset: Dataset | None) -> list[ProposalScores]:
    return [_read_score_file(path, options, dataset) for path in options.scores]


def _read_score_file(path: Path, options: DetectOptions, dataset: Dataset | None) -> ProposalScores:
    if _is_npz(path):
        return ProposalScores.load(path)
    if dataset is None:
        raise UserError(f"{path} is no .npz; score files of the original need --annotations and --allow-pickle")
    return read_original(path, dataset, allow_pickle=options.allow_pickle)


def _is_npz(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_NPZ)) == _NPZ
    except OSError as error:
        raise UserError(f"cannot read the scores {path}: {error.strerror}") from None


def _only(scores: ProposalScores, dataset: Dataset, options: DetectOptions) -> ProposalScores:
    kept = scores.only(dataset.videos)
    if not len(kept):
        raise UserError(f"none of the {len(scores)} scored videos is in the subset {options.subset!r}")
    return kept


def summarise(detections: Detections, videos: int = 5, best: int = 3) -> None:
    """Print a table: the number of detections and the best few of the first videos."""
    table = table_of("video", "detections", f"best {best}", "start", "end", "score", names=(f"best {best}",))
    for video in detections.ids[:videos]:
        found = detections[video]
        rows = range(min(best, len(found.scores)))
        table.add_row(
            cell(video),
            str(len(found.scores)),
            cell("\n".join(detections.labels[found.classes[row]] for row in rows)),
            "\n".join(f"{found.intervals[row, 0]:.2f} s" for row in rows),
            "\n".join(f"{found.intervals[row, 1]:.2f} s" for row in rows),
            "\n".join(f"{found.scores[row]:.3g}" for row in rows),
        )
    show(table)
    if len(detections) > videos:
        print(f"... and {len(detections) - videos} more videos")
