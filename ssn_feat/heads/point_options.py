"""The shape of the network of the one-stage detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ssn_feat.errors import UserError


@dataclass(frozen=True)
class PointNetworkOptions:
    """Shape of the network of the one-stage detector."""

    pyramid: Literal["attention", "max", "conv"] = "attention"
    """How a level of the pyramid is made from the one below: attention (ActionFormer), the maximum of neighbours
    (TemporalMaxer), or convolutions."""
    width: int = 512
    """Number of channels."""
    levels: int = 6
    """Number of levels of the pyramid; level l has a point at every 2^l-th row."""
    embedding: int = 2
    """Number of convolutions between the features and the pyramid."""
    stem: int = 2
    """Number of blocks of attention or convolution at the lowest level; the pyramid of maxima has none."""
    attention_heads: int = 4
    """Number of attention heads."""
    window: int = 19
    """Number of neighbouring rows that attention sees; 0: all rows of the video."""
    top_down: bool = False
    """Add each level of the pyramid to the one below (feature pyramid network)."""
    drop_path: float = 0.1
    """Probability with which the branch of a block is left out in training, in [0, 1)."""
    class_agnostic: bool = False
    """Learn where actions are, without their classes: proposals."""

    def __post_init__(self) -> None:
        for name in ("width", "levels", "embedding", "attention_heads"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.stem < 0 or not 0 <= self.drop_path < 1:
            raise UserError(f"need stem >= 0 and drop_path in [0, 1), got {self.stem} and {self.drop_path}")
        if self.window and (self.window < 3 or self.window % 2 == 0):
            raise UserError(f"window must be an odd number of rows from 3 on, or 0 for all rows, not {self.window}")
        if self.width % self.attention_heads:
            raise UserError(f"width {self.width} must be a multiple of attention_heads {self.attention_heads}")

    @property
    def stride(self) -> int:
        """Rows between two points of the highest level."""
        return 1 << (self.levels - 1)


__all__ = ["PointNetworkOptions"]
