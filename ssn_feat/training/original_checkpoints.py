"""Checkpoints of the original SSN code: read as run folders, and written from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor

from ssn_feat.annotations import read_annotations
from ssn_feat.backbones.weights import BackboneWeights, file_sha256, read_weights
from ssn_feat.cli import to_dict
from ssn_feat.errors import UserError
from ssn_feat.heads.actionness import ActionnessHead
from ssn_feat.heads.features import stream_dims
from ssn_feat.heads.ssn import SSNHead, SSNOptions
from ssn_feat.runs.checkpoints import describe_head, load_run, scoring_facts, write_atomically
from ssn_feat.runs.folders import RunFolder
from ssn_feat.store import FeatureStore, open_store
from ssn_feat.training.fit_options import FitOptions

_SSN_LAYERS = ("activity_fc", "completeness_fc", "regressor_fc")
_ACTIONNESS_LAYERS = ("classifier_fc",)
# Pyramids of the original's configurations by their number of parts.
_PYRAMIDS: dict[int, tuple[int | tuple[int, ...], ...]] = {3: (1, 1, 1), 5: (1, (1, 2), 1)}


@dataclass(frozen=True)
class ImportCheckpointOptions:
    """Make a run folder of a checkpoint of the original code, for features of the same network."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """File of the original (.pth.tar) of an SSN or of a binary (actionness) classifier."""
    store: Path
    """Feature store that was extracted with the checkpoint's own network: extract/run.py --weights STREAM=FILE."""
    annotations: str
    """Annotations with the classes of the checkpoint: a path, or DIALECT:PATH."""
    out: Path
    """Run folder to make."""
    streams: tuple[str, ...] = ("rgb",)
    """Stream that the checkpoint was trained on."""
    labels: Path | None = None
    """Text file with one class name a line, in the checkpoint's order; none: the order of the annotations."""
    pyramid: tuple[int | tuple[int, ...], ...] | None = None
    """Parts of the stages; none: (1, 1, 1) for 3 parts and (1, (1, 2), 1) for 5."""
    overwrite: bool = False
    """Replace a run that OUT already holds."""


@dataclass(frozen=True)
class ExportCheckpointOptions:
    """Write a run as a checkpoint that the original code loads."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, or a checkpoint file of one."""
    out: Path
    """File to write (.pth.tar)."""
    weights: Path | None = None
    """File of the network's weights, which join the head's: the original keeps both together."""
    arch: str = "BNInception"
    """Name of the network that the file shall give."""


def import_checkpoint(options: ImportCheckpointOptions) -> None:
    """Make a run folder of a checkpoint of the original SSN code.

    Raises UserError where the file is no such checkpoint, or where its widths or classes fit neither store nor
    annotations.
    """
    found = read_weights(options.checkpoint)
    state = _layers(found)
    store = open_store(options.store)
    width = sum(stream_dims(store, options.streams))
    head, state = _actionness_head(state, options) if "classifier_fc.weight" in state else _ssn_head(state, options)
    if head.feature_dim != width:
        raise UserError(
            f"{options.checkpoint} takes {head.feature_dim} features, {options.store} has {width} of "
            f"{' + '.join(options.streams)}: extract with the checkpoint's own network"
        )
    if isinstance(head, SSNHead) and found.reg_stats is None:
        raise UserError(f"{options.checkpoint} holds no reg_stats, without which its regression cannot be used")
    head.load_state_dict(state)
    labels = _labels(options, head)
    shape = head.options if isinstance(head, SSNHead) else SSNOptions()
    config = FitOptions(
        store=options.store,
        annotations=options.annotations,
        out=options.out,
        head="ssn" if isinstance(head, SSNHead) else "actionness",
        streams=options.streams,
        overwrite=options.overwrite,
        ssn=shape,
    )
    _write(config, head, labels, found, store)
    print(f"{options.out}: a run of the {head.kind} head, {len(labels)} classes, {head.feature_dim} features")


def _write(
    config: FitOptions, head: SSNHead | ActionnessHead, labels: list[str], found: BackboneWeights, store: FeatureStore
) -> None:
    """Write the run folder. Raises UserError where it holds a run that is not to be overwritten."""
    folder = RunFolder(config.out)
    folder.checkpoint_to_resume(config)
    folder.create(config)
    epoch = int(found.about.get("epoch", 0))
    folder.save(
        {
            **scoring_facts(labels, config.streams, None, store, config.augmentation),
            "head": describe_head(head),
            "reg_stats": found.reg_stats,
            "config": to_dict(config),
            "model": head.state_dict(),
            "epoch": epoch,
            "finished": True,
        }
    )
    about = {"head": config.head, "imported": str(found.path), "sha256": found.sha256}
    folder.summarise(about | {"videos": 0, "steps": 0, "seconds": 0.0, "final": {"epoch": epoch}})


def export_checkpoint(options: ExportCheckpointOptions) -> None:
    """Write a run as a checkpoint that the original SSN code loads.

    Raises UserError for a run with standardised features, for which the original has no place.
    """
    run = load_run(options.run)
    if run.standardisation is not None:
        raise UserError(f"{options.run} standardises features, which the original cannot do: train without standardise")
    base = {} if options.weights is None else read_weights(options.weights).backbone
    tensors = {f"base_model.{name}": value for name, value in base.items()} | run.head.state_dict()
    if isinstance(run.head, SSNHead):
        # The original knows one regression for each class only.
        weight, bias = run.head.regression_layer()
        tensors |= {"regressor_fc.weight": weight.detach(), "regressor_fc.bias": bias.detach()}
    content: dict[str, Any] = {
        "epoch": run.epoch,
        "arch": options.arch,
        "state_dict": {f"module.{name}": value for name, value in tensors.items()},
    }
    if run.reg_stats is not None:
        content["reg_stats"] = torch.from_numpy(run.reg_stats)
    write_atomically(options.out, lambda file: torch.save(content, file))
    print(f"{options.out}: {len(tensors)} tensors, sha256 {file_sha256(options.out)[:12]}")


def _layers(found: BackboneWeights) -> dict[str, Tensor]:
    """The tensors of the heads. Raises UserError where the file has those of neither kind of checkpoint."""
    # A file without a network has no prefix that tells the two apart.
    tensors = found.backbone | found.heads
    for layers in (_SSN_LAYERS, _ACTIONNESS_LAYERS):
        names = [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
        if all(name in tensors for name in names):
            state = {name: tensors[name].float() for name in names}
            _require_layers(found, state)
            return state
    raise UserError(
        f"{found.path} is no checkpoint of an SSN: it lacks the layers {', '.join(_SSN_LAYERS)} "
        f"(and {_ACTIONNESS_LAYERS[0]} of actionness)"
    )


def _require_layers(found: BackboneWeights, state: dict[str, Tensor]) -> None:
    """Raises UserError where a layer is no matrix with a bias for each of its rows."""
    for name in (name for name in state if name.endswith(".weight")):
        weight, bias = state[name], state[name.replace(".weight", ".bias")]
        if weight.ndim != 2 or not weight.numel() or bias.shape != weight.shape[:1]:
            raise UserError(f"{found.path}: {name} is {tuple(weight.shape)} and its bias {tuple(bias.shape)}: no layer")


def _actionness_head(
    state: dict[str, Tensor], options: ImportCheckpointOptions
) -> tuple[ActionnessHead, dict[str, Tensor]]:
    """The head and its layer: background and action, of more columns (the original's ActivityNet has 100) the first
    two, which alone were trained as something."""
    rows, width = state["classifier_fc.weight"].shape
    if rows < 2:
        raise UserError(f"{options.checkpoint}: actionness needs columns of background and of action, there is one")
    if rows > 2:
        print(f"note: {options.checkpoint} has {rows} columns; background and action are the first two")
    return ActionnessHead(width), {name: value[:2] for name, value in state.items()}


def _ssn_head(state: dict[str, Tensor], options: ImportCheckpointOptions) -> tuple[SSNHead, dict[str, Tensor]]:
    rows, width = state["activity_fc.weight"].shape
    parts = state["completeness_fc.weight"].shape[1] // width
    pyramid = options.pyramid or _PYRAMIDS.get(parts)
    if pyramid is None:
        raise UserError(f"{options.checkpoint} has {parts} parts: say with --pyramid how the stages are cut")
    head = SSNHead(width, rows - 1, SSNOptions(stpp=pyramid))
    for name, value in head.state_dict().items():
        if state[name].shape != value.shape:
            raise UserError(
                f"{options.checkpoint}: {name} is {tuple(state[name].shape)} instead of {tuple(value.shape)} for "
                f"{rows - 1} classes, {width} features and the pyramid {pyramid}"
            )
    return head, state


def _labels(options: ImportCheckpointOptions, head: SSNHead | ActionnessHead) -> list[str]:
    known = read_annotations(options.annotations).labels
    labels = list(known)
    if options.labels is not None:
        try:
            labels = [line.strip() for line in options.labels.read_text().splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the class names {options.labels}: {error}") from None
        if set(labels) != set(known) or len(labels) != len(known):
            odd = sorted(set(labels) ^ set(known))[:5]
            raise UserError(f"{options.labels} and the annotations name different classes: {', '.join(odd) or 'twice'}")
    if isinstance(head, SSNHead) and len(labels) != head.classes:
        raise UserError(f"{options.checkpoint} tells {head.classes} classes apart, the annotations have {len(labels)}")
    return labels


__all__ = ["ExportCheckpointOptions", "ImportCheckpointOptions", "export_checkpoint", "import_checkpoint"]
