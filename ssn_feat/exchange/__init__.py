"""Features of others into a store, and a store's features for others."""

from ssn_feat.exchange.exporting import ExportOptions, ExportReport, export_features
from ssn_feat.exchange.exporting import main as export_main
from ssn_feat.exchange.import_options import ImportOptions
from ssn_feat.exchange.importing import ImportReport, import_features
from ssn_feat.exchange.importing import main as import_main
from ssn_feat.exchange.time_base import FrameGrid, Rescaled, TimeBase

__all__ = [
    "ExportOptions",
    "ExportReport",
    "FrameGrid",
    "ImportOptions",
    "ImportReport",
    "Rescaled",
    "TimeBase",
    "export_features",
    "export_main",
    "import_features",
    "import_main",
]
