"""Networks, batches and instances of the reference numbers of one-stage heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from conftest import meta
from torch import Tensor

from ssn_feat.heads.point_network import PointNetwork
from ssn_feat.heads.point_options import PointNetworkOptions
from ssn_feat.heads.sequence_head import Truth
from ssn_feat.heads.sequences import Packing

CASES = ("local", "global", "conv", "fpn")
PADDED = 96
LEVELS = 4


def shape_of(config: Mapping[str, Any]) -> PointNetworkOptions:
    return PointNetworkOptions(
        pyramid="conv" if config["backbone_type"] == "conv" else "attention",
        width=config["embd_dim"],
        levels=LEVELS,
        stem=config["backbone_arch"][1],
        attention_heads=config["n_head"],
        window=max(config["n_mha_win_size"], 0),
        top_down=config["fpn_type"] == "fpn",
        drop_path=0,
    )


def network_of(archive: Mapping[str, np.ndarray], case: str) -> PointNetwork:
    network = PointNetwork(20, 5, shape_of(meta(dict(archive))[case]["config"]))
    network.load_state_dict(part_of(archive, f"{case}/state/"))
    return network


def max_network(archive: Mapping[str, np.ndarray]) -> PointNetwork:
    network = PointNetwork(24, 5, PointNetworkOptions(pyramid="max", width=32, levels=LEVELS))
    network.load_state_dict(part_of(archive, "w/"))
    return network


def part_of(archive: Mapping[str, np.ndarray], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): torch.from_numpy(archive[key]) for key in archive if key.startswith(prefix)}


def padded(videos: Sequence[np.ndarray]) -> tuple[Tensor, Packing]:
    """Videos ``(D, T)`` as the reference code pads them: all in extents of 96 rows."""
    packing = Packing.of([video.shape[1] for video in videos], 8, [PADDED] * len(videos))
    return packing.pack([torch.from_numpy(video).T for video in videos]), packing


def truth_of(instances: Sequence[tuple[np.ndarray, np.ndarray]]) -> Truth:
    most = max(len(labels) for _, labels in instances)
    intervals = torch.full((len(instances), most, 2), torch.nan)
    classes = torch.zeros(len(instances), most, dtype=torch.int64)
    for at, (segments, labels) in enumerate(instances):
        intervals[at, : len(labels)] = torch.from_numpy(segments)
        classes[at, : len(labels)] = torch.from_numpy(labels)
    return Truth(intervals, classes)


def videos_of(archive: Mapping[str, np.ndarray], case: str) -> list[np.ndarray]:
    return [archive[f"{case}/video{at}/features"] for at in range(3)]


def instances_of(archive: Mapping[str, np.ndarray], case: str) -> Truth:
    keys = [f"{case}/video{at}" for at in range(3)]
    return truth_of([(archive[f"{key}/segments"], archive[f"{key}/labels"]) for key in keys])


def by_level(per_video: Sequence[np.ndarray]) -> Tensor:
    """Arrays ``(180, ...)`` of each video, whose levels follow each other, in the order of packed points."""
    stacked = torch.from_numpy(np.stack(per_video))
    sizes = [PADDED >> level for level in range(LEVELS)]
    return torch.cat([part.flatten(0, 1) for part in stacked.split(sizes, dim=1)])


def close(ours: Tensor, reference: Tensor | np.ndarray, atol: float = 1e-5, rtol: float = 1e-4) -> None:
    torch.testing.assert_close(ours.detach(), torch.as_tensor(reference), atol=atol, rtol=rtol)
