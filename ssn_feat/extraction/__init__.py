"""Extraction: videos into features, every frame decoded once."""

from ssn_feat.extraction.extract import ExtractReport, extract, run_extraction
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
    "recipe_of",
    "run_extraction",
    "snippet_options_of",
]
