"""The rows and proposals that a training step reads."""
