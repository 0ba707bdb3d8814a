"""Training of heads on a feature store: tasks, steps, the loop, sweeps and validation."""
