"""Phase 1: videos into features, each pixel touched once."""

from ssn_feat.extraction.extract import ExtractReport, extract, main
from ssn_feat.extraction.extract_options import ExtractOptions
from ssn_feat.extraction.extract_video import ExtractedVideo, extract_video
from ssn_feat.extraction.recipes import backbones_of, recipe_of, snippet_options_of

__all__ = [
    "ExtractOptions",
    "ExtractReport",
    "ExtractedVideo",
    "backbones_of",
    "extract",
    "extract_video",
    "main",
    "recipe_of",
    "snippet_options_of",
]
