"""Trained heads on disk: run folders and their checkpoints."""
