"""Training through the backbone: clips, end-to-end, distributed."""
