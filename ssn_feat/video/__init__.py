"""Pixels: decoding, optical flow, the snippet grid, crops. PyAV and OpenCV are imported on first use."""

from ssn_feat.video.containers import Probe, import_av
from ssn_feat.video.decode import Decoded, VideoReader, probe
from ssn_feat.video.flow import (
    FlowMethod,
    default_flow_method,
    dequantise_flow,
    flow,
    flow_function,
    quantise_flow,
    to_gray,
)
from ssn_feat.video.frame_sources import Frames, FrameSource, decoder_versions, frames, open_source
from ssn_feat.video.grid import SnippetGrid, snippet_grid, snippet_starts
from ssn_feat.video.image_folders import FolderReader, ImageNames
from ssn_feat.video.opencv import import_cv2
from ssn_feat.video.resampled import ResampledSource
from ssn_feat.video.snippet_options import STREAMS, ResolvedSnippets, SnippetOptions, Stream
from ssn_feat.video.snippets import SnippetBatch, Snippets, expected_snippets, snippets

__all__ = [
    "STREAMS",
    "Decoded",
    "FlowMethod",
    "FolderReader",
    "FrameSource",
    "Frames",
    "ImageNames",
    "Probe",
    "ResampledSource",
    "ResolvedSnippets",
    "SnippetBatch",
    "SnippetGrid",
    "SnippetOptions",
    "Snippets",
    "Stream",
    "VideoReader",
    "decoder_versions",
    "default_flow_method",
    "dequantise_flow",
    "expected_snippets",
    "flow",
    "flow_function",
    "frames",
    "import_av",
    "import_cv2",
    "open_source",
    "probe",
    "quantise_flow",
    "snippet_grid",
    "snippet_starts",
    "snippets",
    "to_gray",
]
