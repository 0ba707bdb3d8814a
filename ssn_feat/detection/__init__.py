"""From proposals to detections: scoring, fusion, filtering, suppression, regression, models."""
