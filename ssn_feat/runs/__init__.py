"""Trained heads on disk: run folders, checkpoints, and how a checkpoint becomes a head again."""
