"""Training in several processes, started by ``torchrun``.

Each process computes the features of its share of a batch. The features of the whole batch are then gathered, and every
process computes the loss of the whole batch, so that means, sums over mined examples and class weights are the same as
in one process. Only the gradients of the network differ between processes and are averaged.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from ssn_feat.devices import device_of
from ssn_feat.errors import UserError

T = TypeVar("T")

# Timeout of communication; the longest wait is for the slowest process to read its videos.
_PATIENCE = timedelta(minutes=30)
_LOST = re.compile(r"gloo|nccl|peer|connection|timed out|socket|store", re.IGNORECASE)


@dataclass(frozen=True)
class Processes:
    """The processes of a training; this one has number ``rank`` of ``count`` and computes on ``device``."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def require_shares(self, batch: int, option: str) -> None:
        """Raise UserError, naming the ``option`` of the batch size, where a batch cannot be divided evenly."""
        if batch % self.count:
            raise UserError(f"{option} {batch} must be a multiple of the {self.count} processes")

    def share(self, parts: Sequence[T]) -> Sequence[T]:
        """The consecutive part of a batch for this process; see :meth:`require_shares`."""
        each = len(parts) // self.count
        return parts[self.rank * each : (self.rank + 1) * each]

    def gather(self, share: Tensor) -> Tensor:
        """Concatenate ``share`` (n, ...) of all processes in the order of their ranks: (count * n, ...).

        The gradient flows to the part of this process only, multiplied by ``count``, since :meth:`wrap` averages
        gradients over the processes.
        """
        if self.count == 1:
            return share
        parts = [torch.empty_like(share) for _ in range(self.count)]
        distributed.all_gather(parts, share.detach().contiguous())
        if share.requires_grad:
            share.register_hook(lambda gradient: gradient * self.count)
        parts[self.rank] = share
        return torch.cat(parts)

    def wrap(self, module: nn.Module) -> nn.Module:
        """``module``, wrapped so that its gradients are averaged over the processes during the backward pass."""
        if self.count == 1 or not any(p.requires_grad for p in module.parameters()):
            return module
        on = None if self.device.type == "cpu" else [self.device]
        return nn.parallel.DistributedDataParallel(module, device_ids=on)

    def average_gradients(self, module: nn.Module) -> None:
        """Average the gradients of a module that every process computes in full, so that they are equal to the bit."""
        if self.count > 1:
            for parameter in module.parameters():
                if parameter.grad is not None:
                    distributed.all_reduce(parameter.grad)
                    parameter.grad /= self.count

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is true in any process."""
        if self.count == 1:
            return flag
        count = torch.tensor(float(flag), device=self.device)
        distributed.all_reduce(count)
        return bool(count > 0)

    def collect(self, value: T) -> list[T]:
        """The objects ``value`` of all processes in the order of their ranks."""
        if self.count == 1:
            return [value]
        objects: list[Any] = [None] * self.count
        distributed.all_gather_object(objects, value)
        return objects


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """The processes that ``torchrun`` started together with this one, or this one alone.

    ``device``: as in :func:`ssn_feat.devices.device_of`; ``auto`` and ``cuda`` assign a different GPU to each process
    of a machine. Raises UserError if there are fewer GPUs than processes or if communication with another
    process fails.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(0, 1, device_of(device))
        return
    assigned = device_of(_assigned_gpu(device))
    if assigned.type == "cuda":
        torch.cuda.set_device(assigned)
    distributed.init_process_group("gloo" if assigned.type == "cpu" else "nccl", timeout=_PATIENCE)
    try:
        yield Processes(distributed.get_rank(), count, assigned)
    except RuntimeError as error:
        reason = (str(error).splitlines() or [""])[0]
        if not _LOST.search(reason):
            raise
        raise UserError(
            f"another process of the training ended or cannot be reached ({reason[:160]}): see its message; run the "
            "same command with --resume to continue from the last checkpoint"
        ) from None
    finally:
        distributed.destroy_process_group()


def _assigned_gpu(device: str) -> str:
    if device == "cuda" or (device == "auto" and torch.cuda.is_available()):
        local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local >= there:
            raise UserError(f"process {local} of this machine has no GPU: it has {there}; lower --nproc-per-node")
        return f"cuda:{local}"
    return device


__all__ = ["Processes", "processes"]
