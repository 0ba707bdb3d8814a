"""The actionness head: whether a snippet is part of any action (SSN paper, "temporal region proposals")."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ssn_feat.errors import UserError
from ssn_feat.heads.dropout import dropout
from ssn_feat.heads.ssn import initialise


class ActionnessHead(nn.Module):
    """Linear classifier of single snippets into background (column 0) and action (column 1).

    ``feature_dim``: D; ``dropout``: probability with which a feature value is set to zero in training, in [0, 1). The
    layer has the name of the original code. Weights are drawn from N(0, 0.001) with ``generator``, the bias starts at
    0.
    """

    kind: ClassVar[str] = "actionness"

    def __init__(self, feature_dim: int, dropout: float = 0.8, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if feature_dim < 1 or not 0 <= dropout < 1:
            raise UserError(f"need at least one feature and dropout in [0, 1), got {feature_dim} and {dropout}")
        self.feature_dim, self.dropout = feature_dim, dropout
        self.classifier_fc = nn.Linear(feature_dim, 2)
        initialise(self.classifier_fc, generator)

    def forward(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Logits ``(N, 2)``, [background, action], of snippet features ``(N, D)``.

        ``generator`` decides the dropout in training mode.
        """
        if self.training:
            features = dropout(features, self.dropout, generator)
        logits: Tensor = self.classifier_fc(features)
        return logits
