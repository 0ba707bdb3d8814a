"""Training the plain way: a loader of single proposals that reads the store for each, and losses sample by sample.

It is what the times of training are compared with, and a second opinion on the losses.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from ssn_feat.store import FeatureStore, open_store

Item = tuple[Tensor, Tensor, Tensor, Tensor]


class ProposalItems(Dataset[Item]):
    """One proposal an item: its segments ``(S, D)``, scaling, label, target.

    ``places``: for each item its video and the rows of its segments in that video's array. With ``by_row`` the segments
    are read one by one from a packed store's array, else the video's whole array is read and indexed.
    """

    def __init__(
        self, store: Path, stream: str, places: list[tuple[str, list[int]]], others: list[Tensor], by_row: bool
    ) -> None:
        self.store, self.stream, self.places, self.others, self.by_row = store, stream, places, others, by_row
        self._opened: FeatureStore | None = None
        self._first: dict[str, int] = {}
        self._array = None

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, item: int) -> Item:
        video, rows = self.places[item]
        scaling, label, target = (values[item] for values in self.others)
        return self._segments(video, rows).float(), scaling, label, target

    def _segments(self, video: str, rows: list[int]) -> Tensor:
        if self._opened is None:
            self._open()
        assert self._opened is not None
        if not self.by_row:
            return torch.from_numpy(self._opened.read(video, [self.stream]).features[self.stream])[rows]
        assert self._array is not None
        first = self._first[video]
        return torch.stack([torch.from_numpy(self._array[first + row]) for row in rows])

    def _open(self) -> None:
        """In the process that reads: open files are not sent to another."""
        import zarr

        self._opened = open_store(self.store)
        if self.by_row:
            group = zarr.open_group(str(self.store), mode="r", zarr_format=3)
            self._array = group[self.stream]  # type: ignore[assignment]
            offsets = group["offsets"][:].tolist()  # type: ignore[index, union-attr]
            self._first = dict(zip(self._opened.ids, offsets, strict=False))


class PlainHead(nn.Module):
    """The SSN head for the pyramid (1, 1, 1) and 2, 5, 2 segments, written down as in a textbook."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.8)
        self.activity = nn.Linear(width, classes + 1)
        self.completeness = nn.Linear(3 * width, classes)
        self.regression = nn.Linear(3 * width, 2 * classes)

    def forward(self, segments: Tensor, scaling: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        segments = self.dropout(segments)
        starting, course, ending = segments[:, :2].mean(1), segments[:, 2:7].mean(1), segments[:, 7:].mean(1)
        parts = torch.cat([starting * scaling[:, :1], course, ending * scaling[:, 1:]], dim=1)
        return self.activity(course), self.completeness(parts), self.regression(parts).view(len(parts), -1, 2)


def steps(loader: DataLoader[Item], head: PlainHead, device: torch.device) -> Iterator[float]:
    """Train on the batches of a loader, 8 proposals of each video in a row; yields the loss of each step."""
    optimiser = torch.optim.SGD(head.parameters(), lr=0.001, momentum=0.9, weight_decay=0.0005)
    for batch in loader:
        segments, scaling, labels, targets = (values.to(device) for values in batch)
        activity, completeness, regression = head(segments, scaling)
        loss = losses(activity, completeness, regression, labels, targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield float(loss.detach())


def losses(activity: Tensor, completeness: Tensor, regression: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """The SSN loss of videos of one foreground, six incomplete and one background proposal, one at a time.

    ``activity`` ``(N, K + 1)``, ``completeness`` ``(N, K)``, ``regression`` ``(N, K, 2)``; ``labels`` ``(N,)`` with 0
    for background; ``targets`` ``(N, 2)``.
    """
    chosen, complete, incomplete, offsets = [], [], [], []
    for video in range(0, len(labels), 8):
        chosen += [video, video + 7]
        own = int(labels[video]) - 1
        complete.append((1 - completeness[video, own]).clamp(min=0))
        offsets.append(functional.smooth_l1_loss(regression[video, own], targets[video], reduction="sum"))
        hinges = [(1 + completeness[at, int(labels[at]) - 1]).clamp(min=0) for at in range(video + 1, video + 7)]
        hinges.sort(key=lambda loss: -float(loss.detach()))
        incomplete += hinges[: int(6 * 0.17)]
    terms = [-functional.log_softmax(activity[at], dim=0)[0 if at % 8 == 7 else int(labels[at])] for at in chosen]
    videos = len(complete)
    hinge = (torch.stack(complete).sum() + torch.stack(incomplete).sum()) / (videos + int(6 * videos * 0.17))
    return torch.stack(terms).mean() + 0.1 * hinge + 0.1 * torch.stack(offsets).sum() / videos


__all__ = ["PlainHead", "ProposalItems", "losses", "steps"]
