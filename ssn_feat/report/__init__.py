"""Looking at results: pictures (:mod:`ssn_feat.report.figures`) and one page of it all (:mod:`ssn_feat.report.page`).

Nothing is imported here: evaluation draws with the timelines and tables of this package, and the page is made of what
evaluation measures.
"""
