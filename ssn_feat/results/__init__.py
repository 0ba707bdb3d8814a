"""Detections as data: ragged arrays and result files."""
