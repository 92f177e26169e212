"""Export of checkpoints for other programs."""
