"""From scored proposals to detections: dense scoring, fusion, filtering, suppression, regression, result files."""
