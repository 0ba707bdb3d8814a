"""Which rows of which proposals a training step reads."""
