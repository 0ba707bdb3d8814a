"""One training spread over several processes, as ``torchrun`` starts them.

Each process turns its share of a batch's pixels into features. The features of the whole batch are then gathered, and
every process computes the loss of the whole batch, so that means, sums over mined examples and class weights are those
of one process. Only the gradient of the network needs adding up: each process has that of its own share.
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

# What a process waits for the others; the longest wait is for the slowest to read its videos.
_PATIENCE = timedelta(minutes=30)
_LOST = re.compile(r"gloo|nccl|peer|connection|timed out|socket|store", re.IGNORECASE)


@dataclass(frozen=True)
class Processes:
    """The processes of a training; this one is number ``rank`` of ``count`` and works on ``device``."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def require_shares(self, batch: int, option: str) -> None:
        """Raises UserError, naming the ``option`` that it comes from, where a batch cannot be divided evenly."""
        if batch % self.count:
            raise UserError(f"{option} {batch} must be a multiple of the {self.count} processes")

    def share(self, parts: Sequence[T]) -> Sequence[T]:
        """The consecutive part of a batch that this process works on; see :meth:`require_shares`."""
        each = len(parts) // self.count
        return parts[self.rank * each : (self.rank + 1) * each]

    def gather(self, own: Tensor) -> Tensor:
        """``own`` (n, ...) of all processes in the order of their ranks, (count * n, ...).

        The gradient goes to the own part alone, times ``count``: :meth:`wrap` makes the mean over the processes.
        """
        if self.count == 1:
            return own
        parts = [torch.empty_like(own) for _ in range(self.count)]
        distributed.all_gather(parts, own.detach().contiguous())
        if own.requires_grad:
            own.register_hook(lambda gradient: gradient * self.count)
        parts[self.rank] = own
        return torch.cat(parts)

    def wrap(self, module: nn.Module) -> nn.Module:
        """``module`` so that its gradients are averaged over the processes, as soon as each is known."""
        if self.count == 1 or not any(p.requires_grad for p in module.parameters()):
            return module
        on = None if self.device.type == "cpu" else [self.device]
        return nn.parallel.DistributedDataParallel(module, device_ids=on)

    def average_gradients(self, module: nn.Module) -> None:
        """Make the gradients of a module that every process has whole the same to the last bit."""
        if self.count > 1:
            for parameter in module.parameters():
                if parameter.grad is not None:
                    distributed.all_reduce(parameter.grad)
                    parameter.grad /= self.count

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        if self.count == 1:
            return flag
        said = torch.tensor(float(flag), device=self.device)
        distributed.all_reduce(said)
        return bool(said > 0)

    def collect(self, own: T) -> list[T]:
        """Plain objects of all processes, in the order of their ranks."""
        if self.count == 1:
            return [own]
        found: list[Any] = [None] * self.count
        distributed.all_gather_object(found, own)
        return found


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """The processes that this one was started among: by ``torchrun``, or it alone.

    ``device`` as for :func:`ssn_feat.devices.device_of`; ``auto`` and ``cuda`` give each process of a machine a
    GPU of its own. An error in talking to another process becomes a UserError. Raises UserError where there are fewer
    GPUs than processes.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(0, 1, device_of(device))
        return
    own = device_of(_own_gpu(device))
    if own.type == "cuda":
        torch.cuda.set_device(own)
    distributed.init_process_group("gloo" if own.type == "cpu" else "nccl", timeout=_PATIENCE)
    try:
        yield Processes(distributed.get_rank(), count, own)
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


def _own_gpu(device: str) -> str:
    if device == "cuda" or (device == "auto" and torch.cuda.is_available()):
        local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local >= there:
            raise UserError(f"process {local} of this machine has no GPU: there are {there}; lower --nproc-per-node")
        return f"cuda:{local}"
    return device


__all__ = ["Processes", "processes"]
