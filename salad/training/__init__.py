"""Training: from options to checkpoints."""
