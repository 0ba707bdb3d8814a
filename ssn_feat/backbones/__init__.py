"""Pixels to features: 8-bit images or stacks of optical flow in, one float vector a snippet out."""

from ssn_feat.backbones.architecture import Architecture, Normalisation
from ssn_feat.backbones.backbone import STREAM_CHANNELS, Backbone
from ssn_feat.backbones.folding import fold_batch_norm
from ssn_feat.backbones.inflation import inflate
from ssn_feat.backbones.load import load_backbone, require_trusted, usable_device
from ssn_feat.backbones.weights import Checkpoint, read_checkpoint

__all__ = [
    "STREAM_CHANNELS",
    "Architecture",
    "Backbone",
    "Checkpoint",
    "Normalisation",
    "fold_batch_norm",
    "inflate",
    "load_backbone",
    "read_checkpoint",
    "require_trusted",
    "usable_device",
]
