"""Structured Segment Networks for temporal action detection, trained on cached two-stream features.

Pixels are touched once (:mod:`ssn_feat.extraction`); everything after that reads features from a
:class:`ssn_feat.store.FeatureStore`. Importing the package is cheap and needs neither OpenCV nor torchvision.
"""

from ssn_feat.errors import UserError

__version__ = "0.1.0"
__all__ = ["UserError", "__version__"]
