"""Backbones: map 8-bit images or stacks of optical flow to one float feature vector per snippet."""

from ssn_feat.backbones.architecture import Architecture, Normalisation
from ssn_feat.backbones.backbone import STREAM_CHANNELS, Backbone
from ssn_feat.backbones.folding import fold_batch_norm
from ssn_feat.backbones.inflation import inflate
from ssn_feat.backbones.load import load_backbone, require_trusted, usable_device
from ssn_feat.backbones.weights import BackboneWeights, read_weights

__all__ = [
    "STREAM_CHANNELS",
    "Architecture",
    "Backbone",
    "BackboneWeights",
    "Normalisation",
    "fold_batch_norm",
    "inflate",
    "load_backbone",
    "read_weights",
    "require_trusted",
    "usable_device",
]
