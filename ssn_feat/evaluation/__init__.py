"""How good detections and proposals are: average precision and average recall."""
