"""A head of one's own: a small temporal convolution that scores the classes of each row, and joins rows to detections.

python train/fit.py head own_head:RunsHead --store F.zarr --annotations A.json --out runs/own
"""

from dataclasses import dataclass

import numpy as np
from torch import nn

from ssn_feat.heads.dropout import dropout
from ssn_feat.heads.sequence_head import RowIntervals, SequenceHead
from ssn_feat.heads.sequences import convolve


@dataclass(frozen=True)
class RunsOptions:
    """A head that joins neighbouring rows of a class."""

    channels: int = 64
    """Number of channels."""
    thresholds: tuple[float, ...] = (0.1, 0.3, 0.5)
    """Probabilities above which neighbouring rows are joined."""


class RunsHead(SequenceHead):
    Options = RunsOptions
    gives = "detections"

    def __init__(self, feature_dim, classes, options, generator=None):
        super().__init__()
        self.feature_dim, self.classes, self.options = feature_dim, classes, options
        self.inner = nn.Conv1d(feature_dim, options.channels, 3)
        self.outer = nn.Conv1d(options.channels, classes, 3)

    def forward(self, rows, packing, generator=None):
        hidden = convolve(rows, self.inner.weight, self.inner.bias, packing).relu()
        hidden = dropout(hidden, 0.5 if self.training else 0.0, generator)
        return convolve(hidden, self.outer.weight, self.outer.bias, packing)  # logits (N, K)

    def losses(self, rows, packing, truth, generator):
        start, end = truth.instances[packing.video].unbind(dim=2)  # (N, G) each
        inside = (start <= packing.position[:, None]) & (packing.position[:, None] <= end)
        target = (nn.functional.one_hot(truth.labels, self.classes)[packing.video] * inside[:, :, None]).amax(dim=1)
        loss = nn.functional.binary_cross_entropy_with_logits(self(rows, packing, generator), target.float())
        return (loss,)

    def results(self, rows, packing):
        probability = self(rows, packing).sigmoid().numpy()
        return [self.runs(probability[packing.video.numpy() == v][:n]) for v, n in enumerate(packing.lengths.tolist())]

    def runs(self, probability):
        found = []
        for label, threshold in np.ndindex(self.classes, len(self.options.thresholds)):
            above = np.diff(probability[:, label] > self.options.thresholds[threshold], prepend=False, append=False)
            for first, last in np.flatnonzero(above).reshape(-1, 2):
                found.append((first - 0.5, last - 0.5, probability[first:last, label].mean(), label))
        table = np.array(found, dtype=float).reshape(-1, 4)
        return RowIntervals(table[:, :2], table[:, 2], table[:, 3].astype(int))
