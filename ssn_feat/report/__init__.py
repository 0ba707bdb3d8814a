"""Reports: figures (:mod:`ssn_feat.report.figures`) and one HTML page of all results (:mod:`ssn_feat.report.page`)."""
