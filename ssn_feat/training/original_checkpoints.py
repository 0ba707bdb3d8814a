"""Conversion of checkpoints of the original SSN code to run folders and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor

from ssn_feat.annotations import read_annotations
from ssn_feat.backbones.weights import BackboneWeights, read_weights
from ssn_feat.cli import to_dict
from ssn_feat.errors import UserError
from ssn_feat.files import file_sha256, write_torch
from ssn_feat.heads.actionness import ActionnessHead
from ssn_feat.heads.features import stream_dims
from ssn_feat.heads.ssn import SSNHead, SSNOptions
from ssn_feat.runs.checkpoints import describe_head, load_run, scoring_facts
from ssn_feat.runs.folders import RunFolder
from ssn_feat.store import FeatureStore, open_store
from ssn_feat.training.fit_options import FitOptions

_SSN_LAYERS = ("activity_fc", "completeness_fc", "regressor_fc")
_ACTIONNESS_LAYERS = ("classifier_fc",)
# Pyramids in the configurations of the original by their number of parts.
_PYRAMIDS: dict[int, tuple[int | tuple[int, ...], ...]] = {3: (1, 1, 1), 5: (1, (1, 2), 1)}


@dataclass(frozen=True)
class ImportCheckpointOptions:
    """Convert a checkpoint of the original code to a run folder, for features of the same network."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Checkpoint of the original (.pth.tar), of an SSN or of a binary (actionness) classifier."""
    store: Path
    """Feature store that was extracted with the network in the checkpoint: extract/run.py --weights STREAM=FILE."""
    annotations: str
    """Annotations with the classes of the checkpoint: a path, or DIALECT:PATH."""
    out: Path
    """Run folder to write."""
    streams: tuple[str, ...] = ("rgb",)
    """Stream that the checkpoint was trained on."""
    labels: Path | None = None
    """Text file with one class name per line in the order of the checkpoint; default: the order of the annotations."""
    pyramid: tuple[int | tuple[int, ...], ...] | None = None
    """Number of parts of each stage; default: (1, 1, 1) for 3 parts and (1, (1, 2), 1) for 5 parts."""
    overwrite: bool = False
    """Replace a run that is already in OUT."""


@dataclass(frozen=True)
class ExportCheckpointOptions:
    """Convert a run to a checkpoint that the original code loads."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, or a checkpoint file in one."""
    out: Path
    """File to write (.pth.tar)."""
    weights: Path | None = None
    """File of the weights of the network, to store together with those of the head as in the original."""
    arch: str = "BNInception"
    """Name of the network to write to the file."""


def import_checkpoint(options: ImportCheckpointOptions) -> None:
    """Convert a checkpoint of the original SSN code to a run folder.

    Raises UserError if the file is not such a checkpoint or if its number of features or its classes do not fit
    the store or the annotations.
    """
    checkpoint = read_weights(options.checkpoint)
    state = _layers(checkpoint)
    store = open_store(options.store)
    width = sum(stream_dims(store, options.streams))
    head, state = _actionness_head(state, options) if "classifier_fc.weight" in state else _ssn_head(state, options)
    if head.feature_dim != width:
        raise UserError(
            f"{options.checkpoint} needs {head.feature_dim} features, {options.store} has {width} of "
            f"{' + '.join(options.streams)}: extract with the network in the checkpoint"
        )
    if isinstance(head, SSNHead) and checkpoint.reg_stats is None:
        raise UserError(f"{options.checkpoint} has no reg_stats, which its regression needs")
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
    _write(config, head, labels, checkpoint, store)
    print(f"{options.out}: a run of the {head.kind} head, {len(labels)} classes, {head.feature_dim} features")


def _write(
    config: FitOptions,
    head: SSNHead | ActionnessHead,
    labels: list[str],
    checkpoint: BackboneWeights,
    store: FeatureStore,
) -> None:
    """Write the run folder. Raises UserError if it holds a run and ``overwrite`` is not set."""
    folder = RunFolder(config.out)
    folder.checkpoint_to_resume(config)
    folder.create(config)
    epoch = int(checkpoint.about.get("epoch", 0))
    folder.save(
        {
            **scoring_facts(labels, config.streams, None, store),
            "augmentation": list(config.augmentation),
            "head": describe_head(head),
            "reg_stats": checkpoint.reg_stats,
            "config": to_dict(config),
            "model": head.state_dict(),
            "epoch": epoch,
            "finished": True,
        }
    )
    about = {"head": config.head, "imported": str(checkpoint.path), "sha256": checkpoint.sha256}
    folder.summarise(about | {"videos": 0, "steps": 0, "seconds": 0.0, "final": {"epoch": epoch}})


def export_checkpoint(options: ExportCheckpointOptions) -> None:
    """Convert a run to a checkpoint that the original SSN code loads.

    Raises UserError for a run of a head that the original does not have, or with standardised features, which it does
    not support.
    """
    run = load_run(options.run)
    if not isinstance(run.head, SSNHead | ActionnessHead):
        raise UserError(f"{options.run} is a run of the {run.kind} head, which the original code does not have")
    if run.standardisation is not None:
        raise UserError(f"{options.run} standardises features, which the original cannot do: train without standardise")
    base = {} if options.weights is None else read_weights(options.weights).backbone
    tensors = {f"base_model.{name}": value for name, value in base.items()} | run.head.state_dict()
    if isinstance(run.head, SSNHead):
        # The original has a regression for each class.
        weight, bias = run.head.regression_layer()
        tensors |= {"regressor_fc.weight": weight.detach(), "regressor_fc.bias": bias.detach()}
    content: dict[str, Any] = {
        "epoch": run.epoch,
        "arch": options.arch,
        "state_dict": {f"module.{name}": value for name, value in tensors.items()},
    }
    if run.reg_stats is not None:
        content["reg_stats"] = torch.from_numpy(run.reg_stats)
    write_torch(options.out, content)
    print(f"{options.out}: {len(tensors)} tensors, sha256 {file_sha256(options.out)[:12]}")


def _layers(checkpoint: BackboneWeights) -> dict[str, Tensor]:
    """The tensors of the head. Raises UserError if the file has neither those of an SSN nor of actionness."""
    # In a file without a network, no prefix tells tensors of the network and of the head apart.
    tensors = checkpoint.backbone | checkpoint.heads
    for layers in (_SSN_LAYERS, _ACTIONNESS_LAYERS):
        names = [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
        if all(name in tensors for name in names):
            state = {name: tensors[name].float() for name in names}
            _require_layers(checkpoint, state)
            return state
    raise UserError(
        f"{checkpoint.path} is not a checkpoint of an SSN: it lacks the layers {', '.join(_SSN_LAYERS)} "
        f"(and {_ACTIONNESS_LAYERS[0]} of actionness)"
    )


def _require_layers(checkpoint: BackboneWeights, state: dict[str, Tensor]) -> None:
    """Raise UserError unless every layer is a matrix with a bias for each of its rows."""
    for name in (name for name in state if name.endswith(".weight")):
        weight, bias = state[name], state[name.replace(".weight", ".bias")]
        if weight.ndim != 2 or not weight.numel() or bias.shape != weight.shape[:1]:
            raise UserError(
                f"{checkpoint.path}: {name} has the shape {tuple(weight.shape)} and its bias {tuple(bias.shape)}, "
                "which is not a linear layer"
            )


def _actionness_head(
    state: dict[str, Tensor], options: ImportCheckpointOptions
) -> tuple[ActionnessHead, dict[str, Tensor]]:
    """The head and its layer.

    Only the first two columns, background and action, are used: the original's checkpoint for ActivityNet has 100
    columns, of which only these two were trained.
    """
    rows, width = state["classifier_fc.weight"].shape
    if rows < 2:
        raise UserError(f"{options.checkpoint}: actionness needs columns of background and of action, it has only one")
    if rows > 2:
        print(f"note: {options.checkpoint} has {rows} columns; only the first two, background and action, are used")
    return ActionnessHead(width), {name: value[:2] for name, value in state.items()}


def _ssn_head(state: dict[str, Tensor], options: ImportCheckpointOptions) -> tuple[SSNHead, dict[str, Tensor]]:
    rows, width = state["activity_fc.weight"].shape
    parts = state["completeness_fc.weight"].shape[1] // width
    pyramid = options.pyramid or _PYRAMIDS.get(parts)
    if pyramid is None:
        raise UserError(f"{options.checkpoint} has {parts} parts: give the parts of each stage with --pyramid")
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
            raise UserError(
                f"{options.labels} and the annotations have different classes: {', '.join(odd) or 'a name is repeated'}"
            )
    if isinstance(head, SSNHead) and len(labels) != head.classes:
        raise UserError(f"{options.checkpoint} has {head.classes} classes, the annotations have {len(labels)}")
    return labels


__all__ = ["ExportCheckpointOptions", "ImportCheckpointOptions", "export_checkpoint", "import_checkpoint"]
