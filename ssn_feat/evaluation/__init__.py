"""Measures of detections and proposals: average precision, average recall, error analysis."""
