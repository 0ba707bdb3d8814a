"""From options to a training that is ready to begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from ssn_feat.cli import to_dict
from ssn_feat.runs.checkpoints import scoring_facts
from ssn_feat.training import actionness_task, sequence_task, ssn_task
from ssn_feat.training.fit_options import TrainingOptions
from ssn_feat.training.optimisation import make_optimiser
from ssn_feat.training.run_inputs import require_same_inputs
from ssn_feat.training.seeds import SeedsTask
from ssn_feat.training.sequence_options import SequenceOptions
from ssn_feat.training.task import BuiltTask, FeatureTask
from ssn_feat.training.training_data import TrainingData, join_data, read_data
from ssn_feat.training.training_state import Training

OptionsT = TypeVar("OptionsT", bound=TrainingOptions, contravariant=True)


class HeadModule(Protocol[OptionsT]):
    """What the module of a head defines."""

    def proposals_of(self, options: OptionsT) -> Path | None:
        """The file of proposals that a run with these options learns from; None if it learns from none.

        Raises UserError if the options lack it.
        """

    def extra_bytes(self, options: OptionsT) -> int:
        """Bytes of memory that the training needs for each feature value beside the value itself."""

    def build_task(self, options: OptionsT, data: TrainingData, generator: torch.Generator) -> BuiltTask:
        """A new head, its weights drawn from ``generator``, with its training."""


def head_module(options: TrainingOptions) -> HeadModule[Any]:
    """The module of the head that a run with these options trains."""
    if isinstance(options, SequenceOptions):
        return sequence_task
    return {"ssn": ssn_task, "actionness": actionness_task}[options.head]


def require_same_data(options: TrainingOptions, saved: Sequence[Mapping[str, Any]]) -> None:
    """Raise UserError if the data of finished runs changed since they began; no features are read.

    Runs of version 0.1, which have no digests of their data, are not compared.
    """
    if any("inputs" in state for state in saved):
        inputs = join_data(options, head_module(options).proposals_of(options)).inputs(options)
        for state in saved:
            require_same_inputs(options.out, state.get("inputs"), inputs)


def prepare(*runs: TrainingOptions) -> Training[FeatureTask]:
    """Read all data and build one head for each of ``runs``, whose options differ in seed and folder only.

    Raises UserError for data that is missing or does not fit together.
    """
    options, head = runs[0], head_module(runs[0])
    data = read_data(options, head.proposals_of(options), head.extra_bytes(options))
    generators = tuple(torch.Generator().manual_seed(run.seed) for run in runs)
    built = [head.build_task(run, data, generator) for run, generator in zip(runs, generators, strict=True)]
    shared = scoring_facts(data.labels, options.streams, data.standardisation, data.store)
    shared |= {"videos": len(data.table.ids), "inputs": data.inputs}
    facts = tuple(
        {**shared, "config": to_dict(run), "data": each.digest, **each.facts}
        for run, each in zip(runs, built, strict=True)
    )
    task = built[0].task if len(built) == 1 else SeedsTask([each.task for each in built])
    optimiser = make_optimiser(task.head, options.optimisation, stacked=len(built) > 1)
    return Training(task, optimiser, generators, options, facts)


__all__ = ["prepare", "require_same_data"]
