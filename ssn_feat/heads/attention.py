"""Attention among the rows of packed videos."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ssn_feat.heads.sequences import Packing

# Rows that are attended to together; a block of queries sees its own rows and those of its two neighbours.
_BLOCK = 16


def attend_near(query: Tensor, key: Tensor, value: Tensor, packing: Packing, reach: int) -> Tensor:
    """Attention of each row to the rows of its video that are at most ``reach`` rows away.

    ``query``, ``key``, ``value``: ``(N, heads, C)``; returns the same shape. Rows outside the videos are not attended
    to; their own results have no meaning.
    """
    size = -(-max(reach, _BLOCK) // _BLOCK) * _BLOCK
    queries = _blocks(query, size)
    keys, values = (_with_neighbours(_blocks(each, size)) for each in (key, value))
    seen = _seen(packing, reach, size)
    attended = functional.scaled_dot_product_attention(
        queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), attn_mask=seen[:, None]
    )
    return attended.transpose(1, 2).flatten(0, 1)[: len(query)]


def attend_all(query: Tensor, key: Tensor, value: Tensor, packing: Packing) -> Tensor:
    """Attention of each row to all rows of its video; see :func:`attend_near`."""
    results = []
    for start, end, length in zip(
        packing.offsets[:-1].tolist(), packing.offsets[1:].tolist(), packing.lengths.tolist(), strict=True
    ):
        of_video = slice(start, start + length)
        queries, keys, values = (each.transpose(0, 1) for each in (query[start:end], key[of_video], value[of_video]))
        results.append(functional.scaled_dot_product_attention(queries, keys, values).transpose(0, 1))
    return torch.cat(results)


def _blocks(rows: Tensor, size: int) -> Tensor:
    """``(N, heads, C)`` as ``(blocks, size, heads, C)``, with zeros at the end."""
    missing = -len(rows) % size
    padded: Tensor = functional.pad(rows, (0, 0, 0, 0, 0, missing)).unflatten(0, (-1, size))
    return padded


def _with_neighbours(blocks: Tensor) -> Tensor:
    """Each block between the one before and the one after it, ``(blocks, 3 * size, ...)``."""
    zero = torch.zeros_like(blocks[:1])
    return torch.cat([torch.cat([zero, blocks[:-1]]), blocks, torch.cat([blocks[1:], zero])], dim=1)


def _seen(packing: Packing, reach: int, size: int) -> Tensor:
    """Which keys each query attends to, bool ``(blocks, size, 3 * size)``. Every row attends to itself."""
    # Rows outside the videos have numbers of their own, so that they are seen by no other row.
    video = torch.where(packing.valid, packing.video, -1 - torch.arange(len(packing), device=packing.video.device))
    missing = -len(packing) % size
    of_query = functional.pad(video, (0, missing), value=-1 - len(packing) - missing).view(-1, size)
    of_key = _with_neighbours(of_query[..., None] + 1)[..., 0] - 1
    at = torch.arange(size, device=video.device)
    distance = torch.arange(3 * size, device=video.device) - size - at[:, None]
    near = distance.abs() <= reach
    return (of_query[:, :, None] == of_key[:, None, :]) & near | (distance == 0)


__all__ = ["attend_all", "attend_near"]
