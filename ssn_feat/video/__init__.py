"""Pixels: decoding, optical flow, the snippet grid, crops. Needs OpenCV, imported on first use."""

from ssn_feat.video.decode import Decoded, Frames, Probe, VideoReader, frames, probe
from ssn_feat.video.flow import dequantise_flow, flow, quantise_flow, to_gray
from ssn_feat.video.grid import SnippetGrid, snippet_grid, snippet_starts
from ssn_feat.video.opencv import decoder_versions, import_cv2
from ssn_feat.video.snippets import SnippetBatch, SnippetOptions, Snippets, snippets

__all__ = [
    "Decoded",
    "Frames",
    "Probe",
    "SnippetBatch",
    "SnippetGrid",
    "SnippetOptions",
    "Snippets",
    "VideoReader",
    "decoder_versions",
    "dequantise_flow",
    "flow",
    "frames",
    "import_cv2",
    "probe",
    "quantise_flow",
    "snippet_grid",
    "snippet_starts",
    "snippets",
    "to_gray",
]
