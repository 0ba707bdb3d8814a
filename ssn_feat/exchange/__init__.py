"""Features of other projects into a store, and features of a store for other projects."""

from ssn_feat.exchange.exporting import ExportFeaturesOptions, ExportReport, export_features, export_main
from ssn_feat.exchange.import_options import ImportFeaturesOptions
from ssn_feat.exchange.importing import ImportReport, import_features, import_main
from ssn_feat.exchange.time_base import FrameGrid, Rescaled, TimeBase

# The names in the list of commands.

__all__ = [
    "ExportFeaturesOptions",
    "ExportReport",
    "FrameGrid",
    "ImportFeaturesOptions",
    "ImportReport",
    "Rescaled",
    "TimeBase",
    "export_features",
    "export_main",
    "import_features",
    "import_main",
]
